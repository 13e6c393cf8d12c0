"""curves.png: when it is drawn, from what, and what it shows."""

from pathlib import Path

import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from PIL import Image

from lenet_lightning import plotting
from lenet_lightning.callbacks.curves import Curves, title
from lenet_lightning.store import run_folder
from lenet_lightning.store.manifest import Data, Manifest
from lenet_lightning.training.classifier import Classifier
from tests.callbacks.runner import fit

# Lightning 2.6 calls a function that torch 2.15 renames.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures drawn during a test."""
    kept: list[Figure] = []
    draw = plotting.run_curves
    monkeypatch.setattr(plotting, "run_curves", lambda *a: kept.append(draw(*a)) or kept[-1])
    return kept


@pytest.mark.parametrize("protocol", ["holdout", "watch", "report"])
def test_a_finished_run_has_its_curves(tmp_path: Path, protocol: str, drawn: list[Figure]) -> None:
    folder = fit(tmp_path / "run", logger=False, protocol=protocol)
    with Image.open(folder / "curves.png") as image:
        assert image.size == (1000, 700)
    (figure,) = drawn
    assert f"LeNet-5 on Digits, protocol {protocol}, seed 0, best epoch" in figure.get_suptitle()
    last = int(run_folder.read(folder).metrics["epoch"][-1])
    assert f" of {last + 1}, by val/acc" in figure.get_suptitle()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("validation (the test set)" in labels) == (protocol == "report")
    assert ("test" in labels) == (protocol != "report")
    assert not list(folder.glob(".curves*"))


class StopAt(Callback):
    """Ends a run with an error."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise KeyError("stopped")


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_stops_is_drawn_if_it_has_an_epoch(tmp_path: Path, epochs: int) -> None:
    with pytest.raises(KeyError, match="stopped"):
        fit(tmp_path / "run", logger=False, callbacks=[StopAt(epochs)])
    assert (tmp_path / "run" / "run.json").exists()
    assert (tmp_path / "run" / "curves.png").exists() == bool(epochs)


def test_a_drawing_that_fails_does_not_hide_why_the_run_stopped(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch\n0\n")
    curves = Curves(tmp_path)
    with pytest.warns(UserWarning, match=r"curves.png was not drawn: .* is not a run folder"):
        curves.on_exception(Trainer(logger=False, accelerator="cpu"), Classifier(), RuntimeError())


def test_title_without_a_best_epoch() -> None:
    manifest = Manifest(data=Data("FashionMNIST"), protocol="report", seed=3)
    begun = run_folder.Run(Path(), {}, manifest, {})
    assert title(begun) == "LeNet-5 on Fashion-MNIST, protocol report, seed 3"
