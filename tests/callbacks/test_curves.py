"""curves.png: when it is drawn, from what, and what it shows."""

import errno
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from PIL import Image

from lenet_lightning.callbacks import plots
from lenet_lightning.callbacks.curves import Curves, title
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.store.manifest import Data, Manifest
from lenet_lightning.training.classifier import Classifier
from tests.callbacks.runner import fit

# Lightning 2.6 calls a function that torch 2.15 renames.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")

COLUMNS = (
    "train/acc",
    "train/loss",
    "val/acc",
    "val/loss",
    "val/acc_negative",
    "val/loss_negative",
)


def metrics(epochs: int, *more: str) -> dict[str, np.ndarray]:
    values = {name: np.linspace(0.5, 0.9, epochs) for name in (*COLUMNS, *more)}
    return {"epoch": np.arange(float(epochs)), **values}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures rendered during a test."""
    kept: list[Figure] = []
    render = plots.render
    monkeypatch.setattr(plots, "render", lambda f: kept.append(f) or render(f))
    return kept


@pytest.mark.parametrize("protocol", ["holdout", "watch", "report"])
def test_a_finished_run_has_its_curves(tmp_path: Path, protocol: str, drawn: list[Figure]) -> None:
    folder = fit(tmp_path / "run", logger=False, protocol=protocol)
    with Image.open(folder / "curves.png") as image:
        assert image.size == (1000, 700)
    (figure,) = drawn
    assert f"LeNet-5 on Digits, protocol {protocol}, seed 0, best epoch" in figure.get_suptitle()
    last = int(run_folder.read(folder).metrics["epoch"][-1])
    assert f" (last: {last}), by val/acc" in figure.get_suptitle()
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
    curves = Curves()
    curves.open(tmp_path)
    with pytest.warns(UserWarning, match=r"curves.png was not drawn: .* is no run folder"):
        curves.on_exception(Trainer(logger=False, accelerator="cpu"), Classifier(), RuntimeError())


def test_every_stage_is_drawn_on_both_polarities(drawn: list[Figure]) -> None:
    test = [f"test/{kind}{suffix}" for kind in ("acc", "loss") for suffix in ("", "_negative")]
    plots.curves(metrics(5, *test), "title", best_epoch=3)
    stages = [[line.get_label() for line in axes.lines] for axes in drawn[0].axes]
    assert [set(labels) & {"training", "validation", "test"} for labels in stages] == [
        {"training", "validation", "test"},
        {"validation", "test"},
    ] * 2


def test_the_best_epoch_is_marked_with_its_values(drawn: list[Figure]) -> None:
    plots.curves(metrics(5), "title", best_epoch=3, test={"test/acc": 0.75})
    accuracy = drawn[0].axes[0]
    assert accuracy.get_title() == "Accuracy on originals\nvalidation 80.00%, test 75.00%"
    points = np.concatenate([line.get_xydata() for line in accuracy.lines[-2:]])
    assert points == pytest.approx(np.array([[3, 0.8], [3, 0.75]]))


def test_losses_over_orders_of_magnitude_are_drawn_on_a_log_scale(drawn: list[Figure]) -> None:
    values = metrics(3) | {"train/loss": np.array([1.0, 0.1, 0.01])}
    plots.curves(values, "title")
    assert [axes.get_yscale() for axes in drawn[0].axes] == ["linear", "linear", "log", "linear"]


@pytest.mark.parametrize("values", [metrics(1), metrics(2) | {"val/loss": np.array([0.1, np.nan])}])
def test_one_epoch_or_a_missing_value_can_be_drawn(values: dict[str, np.ndarray]) -> None:
    picture = plots.curves(values, "title", best_epoch=0)
    assert picture.dtype == np.uint8 and picture.shape == (700, 1000, 3)


def test_title_without_a_best_epoch() -> None:
    manifest = Manifest(data=Data("FashionMNIST"), protocol="report", seed=3)
    begun = run_folder.Run(Path(), {}, manifest, {})
    assert title(begun) == "LeNet-5 on Fashion-MNIST, protocol report, seed 3"


def test_a_failed_save_leaves_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = np.zeros((4, 4, 3), np.uint8)
    plots.save(old, tmp_path / "curves.png")

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="No space"):
        plots.save(old + 255, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert not np.asarray(image).any()
    assert [path.name for path in tmp_path.glob("*.png*")] == ["curves.png"]
