from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lenet_lightning.data import command, fetch, show
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError
from tests.data import fakes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with the tiny datasets, and nothing else to be had anywhere."""
    fakes.install_tiny(monkeypatch, tmp_path / "datasets")
    fakes.install_torchvision(monkeypatch, ["http://127.0.0.1:9/"], "http://127.0.0.1:9/")
    fakes.install_client(monkeypatch, tmp_path, {})
    return tmp_path / "datasets"


def run(*args: object) -> int:
    return command.main([str(arg) for arg in args])


class TestFetch:
    def test_all_there(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("fetch", "all", "--root", root) == 0
        out = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in out] == list(DATASETS)
        assert out[0] == f"MNIST: 0 files fetched; all are proven in {root / 'MNIST'}."

    def test_one_is_not_to_be_had(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (root / "FashionMNIST" / "t10k-labels-idx1-ubyte").unlink()
        assert run("fetch", "all", "--root", root) == 2
        captured = capsys.readouterr()
        assert "Digits: 0 files fetched" in captured.out  # the others are still looked after
        assert "Fashion-MNIST could not be fetched" in captured.err
        with pytest.raises(UserError, match="Fashion-MNIST could not be fetched"):
            run("fetch", "fashion-mnist", "--root", root)

    def test_no_download(self, root: Path) -> None:
        (root / "MNIST" / "t10k-labels-idx1-ubyte").unlink()
        with pytest.raises(UserError, match="t10k-labels-idx1-ubyte is absent; allow the download"):
            run("fetch", "MNIST", "--root", root, "--no_download")

    def test_ctrl_c(
        self,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def interrupted(*args: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(fetch, "fetch", interrupted)
        assert run("fetch", "MNIST", "--root", root) == 130
        assert capsys.readouterr().err == "Interrupted; no file is half-written.\n"


class TestVerify:
    def test_digests_are_printed(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("verify", "all", "--root", root) == 0
        out = capsys.readouterr().out
        for name in fakes.NAMES:
            for check in fetch.verify(name, root):
                assert (
                    f"{check.name}: ok\n    md5     {check.md5}\n    sha256  {check.sha256}" in out
                )

    def test_problems_are_named(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (root / "MNIST" / "t10k-labels-idx1-ubyte").write_bytes(b"x")
        (root / "MNIST" / "train-labels-idx1-ubyte").unlink()
        assert run("verify", "mnist", "--root", root) == 1
        out = capsys.readouterr().out
        assert "t10k-labels-idx1-ubyte: has 1 bytes instead of 108" in out
        assert "train-labels-idx1-ubyte: is absent" in out
        assert "data fetch MNIST" in out

    def test_nothing_there(self, root: Path, tmp_path: Path) -> None:
        assert run("verify", "all", "--root", tmp_path / "elsewhere") == 1
        assert not (tmp_path / "elsewhere").exists()


class TestShow:
    @pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "Digits"])
    def test_statistics_and_picture(
        self, name: str, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("show", name.lower(), "--root", root) == 0
        out = capsys.readouterr().out
        assert "largest |x + negative - 255|: 0" in out
        rows = [line.split() for line in out.splitlines() if "original" in line]
        assert len(rows) == (6 if name == "CIFAR10" else 2)
        with Image.open(root / f"{name}_negatives.png") as picture:
            picture.load()
            assert picture.width > 1000

    def test_output(self, root: Path, tmp_path: Path) -> None:
        run("show", "MNIST", "--root", root, "--output", tmp_path / "new" / "figure.png")
        assert (tmp_path / "new" / "figure.png").exists()
        assert not (root / "MNIST_negatives.png").exists()

    def test_output_that_cannot_be_written(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"cannot be written .*--output"):
            run("show", "MNIST", "--root", root, "--output", tmp_path / "file" / "figure.png")

    def test_statistics(self, root: Path) -> None:
        dataset = fetch.load("CIFAR10", root)
        found = show.statistics(dataset)
        assert found.residual == 0
        inputs = {"train": dataset.train.images, "test": dataset.test.images}
        assert len(found.channels) == 12
        for entry in found.channels:
            channel = ("red", "green", "blue").index(entry.channel)
            values = inputs[entry.split][:, channel].astype(float)
            values = values if entry.polarity == "original" else 255 - values
            assert (entry.min, entry.max) == (values.min(), values.max())
            assert entry.mean == pytest.approx(values.mean())
            assert entry.std == pytest.approx(values.std())

    def test_input_is_padded_then_reversed(self, root: Path) -> None:
        images = fetch.load("MNIST", root).test.images
        inputs = to_input_size(images)
        assert inputs.shape == (100, 1, 32, 32)
        np.testing.assert_array_equal(inputs[..., 2:-2, 2:-2], images)
        assert inputs.sum() == images.sum()
        assert np.all(show.negative(inputs)[..., :2, :] == 255)

    def test_small_images_are_enlarged(self, root: Path) -> None:
        images = fetch.load("Digits", root).test.images
        inputs = to_input_size(images)
        assert inputs.shape == (360, 1, 32, 32)
        np.testing.assert_array_equal(inputs[..., 3::4, ::4], images)

    def test_a_wrong_negative_is_caught(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(show, "negative", lambda images: 254 - images.clip(max=254))
        assert run("show", "MNIST", "--root", root) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fetch", "MNITS"], "did you mean MNIST"),
        (["fetch"], "NAME"),
        (["fecth", "MNIST"], "invalid choice: 'fecth'"),
        (["show", "MNIST", "--ouput", "x.png"], "unrecognized arguments: --ouput"),
        (["show", "all", "--output", "x.png"], "--output names the one picture"),
        (["fetch", "MNIST", "--output", "x.png"], "--output names the one picture"),
        (["show", "MNIST", "--output", "x.tiff"], "must end in .png"),
    ],
)
def test_bad_arguments(args: list[str], words: str, root: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        command.main(args)
    assert "\n" not in str(caught.value)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    assert "Fetch, verify or show the datasets." in capsys.readouterr().out
