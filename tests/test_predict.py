"""``predict``: the user's own pictures, of any size and kind, become one table."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lenet_lightning.callbacks import contact_sheet
from lenet_lightning.callbacks.predictions import COLUMNS, free_path, table
from lenet_lightning.data import fetch, pictures
from lenet_lightning.data.datamodule import InputSpec
from tests.conftest import DIGITS, Run
from tests.data import fakes

BEST = "lightning_logs/trained/version_0/checkpoints/best.ckpt"
AS_THEY_ARE = ("--data.find_digit", "false")
SPEC = InputSpec("MNIST", 1, 28, tuple("0123456789"), (0.1,), (0.3,))


def predict(run: Run, root: str, *options: str, checkpoint: str = BEST) -> list[dict[str, str]]:
    """Run predict and return the rows of the table it wrote."""
    outcome = run("predict", "--ckpt_path", checkpoint, "--data.root", root, *options)
    assert (outcome.code, outcome.err) == (0, "")
    path = Path(outcome.out.strip().splitlines()[-1].rpartition(": ")[2])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert outcome.out.strip().splitlines()[-1] == f"{len(rows)} predictions: {path}"
    return rows


def same(a: list[dict[str, str]], b: list[dict[str, str]]) -> None:
    """Compare two tables; the size of a batch may change a probability's last digit."""
    for row, other in zip(a, b, strict=True):
        for key in COLUMNS:
            if "probability" in key:
                assert float(row[key]) == pytest.approx(float(other[key]), abs=5e-6)
            else:
                assert row[key] == other[key]


@pytest.fixture
def folder(trained: Path) -> Path:
    """A folder of pictures of every kind, and of files that are none."""
    rng = np.random.default_rng(0)
    path = Path("mine")
    path.mkdir()
    for name, mode, size in (
        ("a.png", "L", (28, 28)),
        ("b.PNG", "RGB", (300, 200)),
        ("c.jpg", "RGB", (7, 90)),
        ("d.jpeg", "L", (1, 1)),
        ("e.png", "RGBA", (40, 41)),
        ("f.png", "P", (33, 33)),
        ("g.png", "1", (16, 16)),
        ("h.png", "LA", (12, 30)),
        ("i.BMP", "RGB", (9, 9)),
        ("j.tiff", "CMYK", (9, 30)),
        ("k.webp", "RGBA", (30, 9)),
    ):
        noise = Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8))
        noise.convert(mode).save(path / name)
    (path / "notes.txt").write_text("no picture")
    (path / "._a.png").write_bytes(b"\0\5\x16\7 what macOS adds on other disks")
    os.mkfifo(path / "pipe.png")
    (path / "deeper.png").mkdir()
    return path


class TestCommand:
    def test_folder(self, run: Run, folder: Path) -> None:
        rows = predict(run, "mine")
        assert [row["file"] for row in rows] == [
            f"mine/{name}" for name in
            ("a.png", "b.PNG", "c.jpg", "d.jpeg", "e.png", "f.png", "g.png", "h.png", "i.BMP",
             "j.tiff", "k.webp")
        ]  # fmt: skip
        assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
        for row in rows:
            assert row["class"] in "0123456789" and row["negative_class"] in "0123456789"
            for key, kind in (("probability", "p"), ("negative_probability", "negative_p")):
                every = [float(row[f"{kind}:{digit}"]) for digit in range(10)]
                assert float(row[key]) == max(every) >= 0.1
                assert sum(every) == pytest.approx(1, abs=1e-5)

    def test_file_and_glob(self, run: Run, folder: Path) -> None:
        everything = predict(run, "mine")
        same(predict(run, "mine/c.jpg"), [r for r in everything if r["file"] == "mine/c.jpg"])
        same(predict(run, "mine/*.png"), [r for r in everything if r["file"].endswith(".png")])
        same(predict(run, "**/d.jpeg"), [r for r in everything if r["file"] == "mine/d.jpeg"])

    def test_hidden_files_are_no_pictures_of_a_pattern_either(self, run: Run, folder: Path) -> None:
        refused = run("predict", "--ckpt_path", BEST, "--data.root", "mine/._*")
        assert refused.code == 2 and "mine/._*: expected a picture" in refused.err

    def test_screen_and_contact_sheet(self, run: Run, trained: Path) -> None:
        """Twenty rows at most, and one picture of all."""
        image = fetch.load("Digits", "unused").test.images[0, 0]
        Path("many").mkdir()
        for i in range(22):
            Image.fromarray(image if i else 255 - image).save(f"many/{i:02}.png")
        outcome = run("predict", "--ckpt_path", BEST, "--data.root", "many")
        head, first, *rows, more, sheet, last = outcome.out.splitlines()
        assert head.split() == ["file", "ink", "class", "negative"]
        assert first.split()[:2] == ["many/00.png", "dark"] and len(rows) == 19
        assert all(row.split()[1] == "light" for row in rows) and more.startswith("... 2 more")
        assert last.startswith("22 predictions: ")
        with Image.open(sheet.rpartition(": ")[2]) as picture:
            assert picture.size == (4 * contact_sheet.CELL[0], 6 * contact_sheet.CELL[1])

    def test_a_picture_and_its_negative_are_one(self, run: Run, trained: Path) -> None:
        image = fetch.load("Digits", "unused").test.images[0, 0]
        Image.fromarray(image).save("a.png")
        Image.fromarray(255 - image).save("b.png")
        a, b = predict(run, "*.png")
        assert (a.pop("ink"), b.pop("ink")) == ("light", "dark")
        assert {**a, "file": ""} == {**b, "file": ""}
        (kept,) = predict(run, "b.png", "--data.ink", "light")
        assert kept["ink"] == "light" and kept["p:0"] != b["p:0"]

    def test_batches_change_nothing(self, run: Run, folder: Path) -> None:
        same(predict(run, "mine", "--data.eval_batch_size", "3"), predict(run, "mine"))

    def test_into_the_run_folder_and_never_over_another(self, run: Run, folder: Path) -> None:
        predict(run, "mine/a.png")
        first = Path("lightning_logs/trained/version_0/predictions.csv")
        text = first.read_text()
        predict(run, "mine")
        assert first.read_text() == text
        assert first.with_name("predictions_2.csv").exists()
        assert [p.name for p in Path("lightning_logs/trained").iterdir()] == ["version_0"]

    def test_agrees_with_the_test_set(self, run: Run, trained: Path) -> None:
        """Saved as pictures, the test images are answered as by `test`."""
        split = fetch.load("Digits", "unused").test
        Path("digits").mkdir()
        for i, image in enumerate(split.images[:40]):
            Image.fromarray(image[0]).save(f"digits/{i:03}.png")
        rows = predict(run, "digits", *AS_THEY_ARE)
        with np.load(trained / "test_predictions.npz") as arrays:
            assert [int(r["class"]) for r in rows] == arrays["original"][:40].tolist()
            assert [int(r["negative_class"]) for r in rows] == arrays["negative"][:40].tolist()

    def test_negative_of_a_picture(self, run: Run, trained: Path) -> None:
        """The negative's answer is that for the negative saved as a picture: 32 = 4 x 8."""
        image = fetch.load("Digits", "unused").test.images[0, 0]
        Image.fromarray(image).save("a.png")
        Image.fromarray(255 - image).save("b.png")
        a, b = predict(run, "*.png", *AS_THEY_ARE)
        for one, other in ((a, b), (b, a)):
            assert one["negative_class"] == other["class"]
            # 1 - x / 255 and (255 - x) / 255 differ in their last digit.
            probability = float(other["probability"])
            assert float(one["negative_probability"]) == pytest.approx(probability, abs=1e-5)

    def test_padding_that_negatives_leave_alone(self, run: Run) -> None:
        """As the network was trained on them: there 2 pixels a side are padding, here too."""
        spec = InputSpec("MNIST", 1, 28, list("ab"), (0.5,), (0.5,))
        Image.new("L", (28, 28), 255).save("white.png")
        for negate_border, corner in ((True, 1.0), (False, 0.0)):
            data = pictures.Pictures("white.png")
            data.read(spec, negate_border)
            (batch,) = data.predict_dataloader()
            assert batch.images[0, 0, 0, 0] == 0 and batch.negatives[0, 0, 0, 0] == corner
            assert batch.negatives[0, 0, 16, 16] == 0

    def test_checkpoint_without_its_run_folder(self, run: Run, folder: Path) -> None:
        Path(BEST).rename("moved.ckpt")
        options = ("--data", "Pictures")
        rows = predict(run, "mine/a.png", *options, checkpoint="moved.ckpt")
        assert len(rows) == 1 and Path("predictions.csv").exists()

    def test_colour(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """A network for three channels reads grey pictures too, and names its classes."""
        fakes.install_tiny(monkeypatch, Path("datasets"), ["CIFAR10"])
        command = DIGITS.replace("Digits", "CIFAR10")
        assert run(f"{command} --name colour --data.batch_size 20").code == 0
        Image.new("L", (50, 60), 200).save("grey.png")
        Image.new("RGB", (32, 32), (200, 10, 10)).save("red.png")
        best = "lightning_logs/colour/version_0/checkpoints/best.ckpt"
        rows = predict(run, "*.png", checkpoint=best)
        assert [row["file"] for row in rows] == ["grey.png", "red.png"]
        assert all(row["class"].isalpha() for row in rows)


class TestTable:
    def test_text(self) -> None:
        probabilities = torch.tensor([[[0.25, 0.75]], [[0.9, 0.1]]])
        text = table(["a, b.png"], probabilities, ("cat", "dog"), ["dark"])
        head, row = text.splitlines()
        assert head == ",".join(COLUMNS) + ",p:cat,p:dog,negative_p:cat,negative_p:dog"
        assert row == (
            '"a, b.png",dog,0.750000,cat,0.900000,dark,0.250000,0.750000,0.900000,0.100000'
        )

    def test_free_path(self) -> None:
        path = Path("predictions.csv")
        for name in ("predictions.csv", "predictions_2.csv", "predictions_3.csv"):
            assert free_path(path) == Path(name)
            Path(name).touch()
