"""The user's own pictures, one folder for each class, through every command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lenet_lightning import files
from lenet_lightning.cli import lightning_cli
from lenet_lightning.data import class_folders
from lenet_lightning.data.class_folders import ImageFolder, decode, find_classes
from lenet_lightning.errors import UserError
from tests.conftest import Run
from tests.data import fakes

FIT = "fit --data ImageFolder --data.root own --trainer.accelerator cpu --trainer.max_epochs 1"
BEST = "lightning_logs/imagefolder/version_0/checkpoints/best.ckpt"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setattr(files, "user_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "pictures"


def save(path: Path, mode: str = "L", size: tuple[int, int] = (20, 30), value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 9)).save(path)
    return path


def write_classes(root: str, count: int = 12, classes: str = "abc", mode: str = "L") -> None:
    """Pictures of one grey each, all different."""
    for label, name in enumerate(classes):
        for i in range(count):
            save(Path(root, name, f"{i}.png"), mode, value=80 * label + i)


def test_split_here() -> None:
    write_classes("own", 20)
    data = ImageFolder("own", batch_size=4)
    assert (data.dataset, data.classes, data.channels) == ("own", ("a", "b", "c"), 1)
    assert data.training_size == 48 and len(data.picture_names) == 12
    data.prepare_data()
    data.setup()
    sizes = [len(i) for i in (data.train_index, data.val_index, data.test_index)]
    assert sizes == [44, 4, 12]
    assert torch.bincount(data.test_images.labels).tolist() == [4, 4, 4]
    assert data.train_images.pixels.shape == (48, 1, 32, 32)
    # The test part is the same whatever the validation split is.
    assert ImageFolder("own", split_seed=3).picture_names == data.picture_names
    # What every picture became: its one grey everywhere, and the label of its folder.
    for images, pictures in (
        (data.train_images, data.train_samples),
        (data.test_images, data.test_samples),
    ):
        assert images.labels.tolist() == [label for _, label in pictures]
        for pixels, (path, label) in zip(images.pixels, pictures, strict=True):
            assert path.parent.name == "abc"[label]
            assert set(pixels.unique().tolist()) == {80 * label + int(path.stem)}


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_folders_for_parts(val: str) -> None:
    for part, count in (("train", 5), (val, 2), ("test", 3)):
        write_classes(f"own/{part}", count)
    data = ImageFolder("own", batch_size=4)
    data.setup()
    assert [len(i) for i in (data.train_index, data.val_index, data.test_index)] == [15, 6, 9]
    chosen = [data.train_samples[i][0].parts[1] for i in data.val_index]
    assert set(chosen) == {val} and not data.splits_test
    report = ImageFolder("own", batch_size=4, protocol="report")
    report.setup()
    assert len(report.train_index) == 21
    for options in ({"val_size": 3}, {"num_folds": 3}, {"test_size": 3}):
        with pytest.raises(UserError, match=f"data.{next(iter(options))} is 3, but own has a"):
            ImageFolder("own", **options)


def test_a_class_may_be_called_train() -> None:
    for name in ("train", "car"):
        save(Path("own", name, "1.png"))
    assert find_classes("own")[0] == ("car", "train")


def test_what_is_a_picture() -> None:
    write_classes("own", 2, "ab")
    save(Path("own/a/deeper/3.PNG"))
    save(Path("own/a/.hidden.png"))
    save(Path("own/.git/3.png"))
    Path("own/b/notes.txt").write_text("x")
    _, parts, others = find_classes("own")
    assert [(str(path), label) for path, label in parts["train"]] == [
        ("own/a/0.png", 0), ("own/a/1.png", 0), ("own/a/deeper/3.PNG", 0),
        ("own/b/0.png", 1), ("own/b/1.png", 1),
    ]  # fmt: skip
    assert others == 1


LAYOUTS = {
    "own cannot be read|own, which cannot be read": [],
    "at least two classes.*found 1": ["a/1.png"],
    "found 0": ["1.png"],
    "test and train beside extra": ["train/a/1.png", "test/a/1.png", "extra/a/1.png"],
    "train and valid beside val": ["train/a/1.png", "val/a/1.png", "valid/a/1.png"],
    "test has pictures of c, which .*train": ["train/a/1.png", "train/b/1.png", "test/c/1.png"],
    "no picture of b": ["a/1.png", "b/notes.txt"],
    "test has no picture of a, b": ["train/a/1.png", "train/b/1.png", "test/a/notes.txt"],
    "does not print": ["a/1.png", "b\x1b/1.png"],
    "longer than 200": ["a/1.png", f"{'b' * 201}/1.png"],
}


@pytest.mark.parametrize(("message", "paths"), LAYOUTS.items())
def test_other_layouts_are_refused(message: str, paths: list[str]) -> None:
    for path in paths:
        save(Path("own", path).with_suffix(".png")).rename(Path("own", path))
    with pytest.raises(UserError, match=message):
        ImageFolder("own")


@pytest.mark.parametrize(
    ("modes", "channels"), [("LL", 1), ("L1", 1), ("LP", 3), ("LRGB", 3), ("LALA", 1)]
)
def test_channels_are_those_of_the_files(modes: str, channels: int) -> None:
    write_classes("own", 2)
    picture = Image.new("L", (5, 5))
    for name, mode in (
        ("a", modes[: len(modes) // 2] if modes == "LALA" else modes[0]),
        ("b", modes[2:] if modes == "LALA" else modes[1:]),
    ):
        picture.convert(mode).save(f"own/{name}/x.png")
    assert ImageFolder("own").channels == channels
    assert ImageFolder("own", channels=4 - channels).channels == 4 - channels


def test_every_unreadable_picture_is_named(cache: Path) -> None:
    write_classes("own")
    for name in ("a/3.png", "b/5.png"):
        Path("own", name).write_bytes(Path("own", name).read_bytes()[:40])
    with pytest.raises(UserError, match=r"2 of the 36 pictures in own .*a/3\.png.*b/5\.png"):
        ImageFolder("own").prepare_data()
    assert not cache.exists()
    paths = [Path("own/a/3.png")] * (class_folders.MOST_NAMED + 2)
    with pytest.raises(UserError, match=r"And 2 more\.$"):
        decode(paths, 1, "own")


def test_a_pipe_is_not_waited_for() -> None:
    write_classes("own")
    os.mkfifo("own/a/pipe.png")
    with pytest.raises(UserError, match=r"own/a/pipe\.png is not a regular file"):
        ImageFolder("own").prepare_data()


def test_pictures_are_decoded_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes("own", 3, mode="RGB")
    first = ImageFolder("own").load_dataset()
    (file,) = cache.iterdir()
    decoded = []
    monkeypatch.setattr(
        class_folders, "decode", lambda *args: decoded.append(args) or decode(*args)
    )

    def same() -> bool:
        data = ImageFolder("own").load_dataset()
        pairs = ((data.train, first.train), (data.test, first.test))
        return all(np.array_equal(a.images, b.images) for a, b in pairs)

    assert same() and not decoded
    torch.from_numpy(ImageFolder("own").load_dataset().train.images)  # writable
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    for damaged in (content, content[:-5], b"", bytes(content) * 2):
        file.write_bytes(damaged)
        assert same() and len(decoded) == 1
        decoded.clear()
        assert same() and not decoded
    # Other content, same names, sizes and times.
    picture = Path("own/a/0.png")
    before = picture.stat()
    save(picture, "RGB", value=1)
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not same() and len(decoded) == 1


def test_without_a_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes("own", 3)
    cache.parent.write_text("in the way")
    data = ImageFolder("own", batch_size=2)
    data.prepare_data()
    data.setup()
    assert len(data.train_images.labels) == 8
    out = capsys.readouterr().err
    assert "3 classes, from 3 (a) to 3 (a)" in out and "not cached" in out


def test_imbalance_and_other_files_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    write_classes("own", 3)
    write_classes("own", 9, "b")
    Path("own/a/list.txt").write_text("x")
    ImageFolder("own").prepare_data()
    assert "own: 15 grey pictures of 3 classes, from 3 (a) to 9 (b) a class; 1 other" in (
        capsys.readouterr().err
    )


def test_a_folder_named_like_a_dataset() -> None:
    write_classes("MNIST", 3)
    assert ImageFolder("MNIST").dataset == "MNIST_folder"


class TestCommands:
    @pytest.fixture(autouse=True)
    def pictures(self) -> None:
        """300 pictures of ten classes, of many sizes."""
        fakes.write_pictures(Path("own"), 300)

    def test_from_training_to_prediction(self, run: Run) -> None:
        options = "--data.train_polarity half --data.augmentation.rotation 5 --data.protocol watch"
        done = run(f"{FIT} {options}")
        assert done.code == 0, done.err
        assert "own test set, 60 images" in done.out
        data = json.loads(Path(BEST).parents[1].joinpath("run.json").read_text())["data"]
        assert (data["name"], data["train_size"], data["test_size"]) == ("own", 216, 60)
        assert set(data["digests"]) == {"train", "test"}
        for command in ("validate", "test", "predict --data ImageFolder --data.root own"):
            done = run(f"{command} --ckpt_path {BEST}")
            assert done.code == 0, done.err
        lines = Path(BEST).parents[1].joinpath("predictions.csv").read_text().splitlines()
        assert len(lines) == 61 and lines[1].startswith("own/class 0/")
        done = run(f"predict --ckpt_path {BEST} --data.root 'own/class 3'")
        assert done.code == 0 and "30 predictions" in done.out
        assert run(f"export --format safetensors --ckpt_path {BEST}").code == 0

    def test_other_pictures_than_those_of_the_training(self, run: Run) -> None:
        assert run(FIT).code == 0
        save(Path("own/class 0/new.png"))
        for command in ("validate", "test", "fit --data ImageFolder --data.root own"):
            done = run(f"{command} --ckpt_path {BEST}")
            assert done.code == 2 and "trained on other pictures than data.root own" in done.err
        assert run(f"predict --data ImageFolder --data.root own --ckpt_path {BEST}").code == 0
        Path("own/class 0/new.png").unlink()
        done = run(f"test --ckpt_path {BEST} --data.test_size 20")
        assert done.code == 2 and "data.test_size leaves" in done.err
        shutil.copytree("own", "elsewhere")  # another folder is another dataset
        assert run(f"test --ckpt_path {BEST} --data.root elsewhere").code == 0
        Path("elsewhere/class 3").rename("elsewhere/class 33")
        done = run(f"test --ckpt_path {BEST} --data.root elsewhere")
        assert done.code == 2 and "has a folder class 33" in done.err

    def test_resumption_on_other_pictures_is_refused(self, run: Run) -> None:
        assert run(FIT).code == 0
        record = Path(BEST).parents[1] / "run.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "interrupted"}))
        save(Path("own/class 0/new.png"))
        done = run(f"{FIT} --resume must")
        assert done.code == 2 and "trained on other images" in done.err

    def test_teachers(self, run: Run) -> None:
        assert run(f"{FIT} --name teacher").code == 0
        student = f"{FIT} --trainer.callbacks Distillation --trainer.callbacks.teachers"
        teacher = "lightning_logs/teacher/version_0/checkpoints/best.ckpt"
        assert run(f"{student} {teacher}").code == 0
        done = run(f"{student} {teacher} --data.split_seed 1")
        assert done.code == 2 and "images that validate this run" in done.err
        done = run(f"{student} {teacher} --data.test_size 20")
        assert done.code == 2 and "trained on other pictures" in done.err

    def test_a_study_and_its_robustness(self, run: Run) -> None:
        Path("mine.yaml").write_text(
            "name: mine\nseeds: [0]\nsettings: {plain: {base: base.yaml}}\n"
        )
        Path("base.yaml").write_text(
            "data: {class_path: ImageFolder, init_args: {root: own}}\n"
            "trainer: {max_epochs: 1, accelerator: cpu, logger: false}\n"
        )
        done = run("study --config mine.yaml --jobs 1")
        assert done.code == 0, done.err
        done = run("robustness lightning_logs/mine --images 20")
        assert done.code == 0, done.err
        save(Path("own/class 0/new.png"))
        done = run("robustness lightning_logs/mine --images 20")
        assert done.code == 2 and "trained on other pictures" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "data.root is required"),
        ("--data.root nowhere", "data.root is nowhere, which cannot be read"),
        ("--data.root own --data.channels 2", "data.channels is 2: expected one of 1, 3"),
        ("--data.root own --data.test_size 36", "data.test_size is 36, but own allows at most 35"),
        ("--data.root own --data.val_size 29", "data.val_size is 29, but own allows at most 28"),
        ("--data.root own --data.chanels 3", "did you mean --data.channels?"),
        ("--data.root own --data.protocol null", "data.protocol is null"),
    ],
)
def test_options(run: Run, options: str, words: str) -> None:
    write_classes("own")
    done = run(f"fit --data ImageFolder {options}")
    assert done.code == 2 and words in done.err, done.err
    assert not Path("lightning_logs").exists()


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lightning_cli.parse(["fit", "--data.help", "ImageFolder"])
    text = capsys.readouterr().out
    for option in ("root", "channels", "test_size", "augmentation.zoom", "split_seed"):
        assert f"--data.{option}" in text
    write_classes("own")
    config = lightning_cli.parse(["fit", "--data", "ImageFolder", "--data.root", "own"])
    assert {"root", "channels", "test_size", "fold"} <= config["data"]["init_args"].keys()
