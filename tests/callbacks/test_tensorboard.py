"""What TensorBoard receives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lenet_lightning import plotting
from lenet_lightning.callbacks import tensorboard
from lenet_lightning.callbacks.tensorboard import POLARITIES
from lenet_lightning.data.datasets import Digits
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.store import run_folder
from tests.callbacks.runner import configuration, fit
from tests.conftest import DIGITS, Run

# Lightning 2.6 calls a function that torch 2.15 renames.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")

MISTAKES = {f"visuals/{x}_{p}" for x in ("confusion", "worst_mistakes") for p in POLARITIES}
VISUALS = {"visuals/samples", "visuals/filters", "visuals/curves"} | MISTAKES
BEST = [f"with_best_weights/{s}_acc{p}_percent" for s in ("val", "test") for p in ("", "_negative")]


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    return accumulator.Reload()


def scalar(found: EventAccumulator, tag: str) -> tuple[int, float]:
    last = found.Scalars(tag)[-1]
    return last.step, last.value


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("logs") / "run", epochs=3)


def test_a_run_shows_its_data_network_and_mistakes(finished: Path) -> None:
    found = events(finished)
    assert set(found.Tags()["images"]) == VISUALS
    assert found.Tags()["graph"]
    step = int(run_folder.read(finished).metrics["step"][-1])
    assert [image.step for image in found.Images("visuals/filters")] == [0, step]
    assert [image.step for image in found.Images("visuals/samples")] == [0]


def test_a_part_of_the_test_set_gets_no_pictures_of_its_mistakes(run: Run) -> None:
    """The other images have no answer, which is not a wrong one."""
    part = "--trainer.limit_test_batches 1 --data.eval_batch_size 99"
    assert run(f"{DIGITS} --name part {part}").code == 0
    shown = set(events(Path("lightning_logs/part/version_0")).Tags()["images"])
    assert shown == VISUALS - MISTAKES


def test_training_and_validation_share_charts_and_the_test_has_no_card(finished: Path) -> None:
    found = events(finished)
    assert not [tag for tag in found.Tags()["scalars"] if tag.startswith("test/")]
    assert [epoch.value for epoch in found.Scalars("epoch")] == [1, 2, 3]
    assert found.summary_metadata["custom_scalars__config__"].plugin_data.plugin_name
    (layout,) = found.Tensors("custom_scalars__config__")
    (content,) = layout.tensor_proto.string_val
    assert b"(train|val|test)/acc_percent$" in content
    run = run_folder.read(finished)
    for stage in ("train", "val"):
        shown = [e.value for e in found.Scalars(f"{stage}/acc_percent")]
        assert shown == pytest.approx(100 * run.metrics[f"{stage}/acc"])


def test_the_text_tab_has_command_configuration_and_result(finished: Path) -> None:
    found, run = events(finished), run_folder.read(finished)
    texts = {}
    for tag in ("command", "configuration", "result"):
        (event,) = found.Tensors(f"run/{tag}/text_summary")
        texts[tag] = event.tensor_proto.string_val[0].decode()
    assert texts["command"].startswith("    python -m lenet_lightning")
    assert "    seed_everything: 0" in texts["configuration"]
    best = run.manifest.best_epoch + 1
    assert f"| Epoch {best}, the best by val/acc | |" in texts["result"]
    assert f"| test acc_percent | {100 * run.manifest.test['acc']:.4g} |" in texts["result"]


def test_hparams_hold_the_best_epochs_figures(finished: Path) -> None:
    found, run = events(finished), run_folder.read(finished)
    summary = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"KerasAdam" in summary and b"Digits" in summary
    row = run.metrics["epoch"] == run.manifest.best_epoch
    for polarity in ("", "_negative"):
        test, val = (
            run.manifest.test[f"acc{polarity}"],
            run.metrics[f"val/acc{polarity}"][row][0],
        )
        for stage, value in (("test", test), ("val", val)):
            tag = f"with_best_weights/{stage}_acc{polarity}_percent"
            assert scalar(found, tag)[1] == pytest.approx(100 * value)
    written = yaml.safe_load((finished / "hparams.yaml").read_text())
    assert written == tensorboard.hyperparameters(run.config)


def test_a_watched_test_curve_gets_no_false_point(tmp_path: Path) -> None:
    folder = fit(tmp_path / "run", protocol="watch")
    found, run = events(folder), run_folder.read(folder)
    shown = [e.value for e in found.Scalars("test/acc_percent")]
    assert shown == pytest.approx(100 * run.metrics["test/acc"])
    assert set(BEST) <= set(found.Tags()["scalars"])


def test_a_resumed_run_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    folder = fit(tmp_path / "run", epochs=1)
    with pytest.warns(UserWarning, match="Checkpoint directory .* is not empty"):
        fit(folder, epochs=2, ckpt_path=folder / "checkpoints" / "last.ckpt")
    found = events(folder)
    assert set(found.Tags()["images"]) == VISUALS
    assert len(found.Images("visuals/samples")) == 1
    assert len(found.Scalars("val/acc_percent")) == 2


def no_logger(folder: Path) -> bool:
    return False


@pytest.mark.parametrize("logger", [no_logger, CSVLogger])
def test_nothing_is_shown_without_tensorboard(
    tmp_path: Path, logger: Callable[[Path], CSVLogger | bool]
) -> None:
    fit(tmp_path / "run", epochs=1, logger=logger(tmp_path / "csv"))
    assert not list(tmp_path.rglob("events.*"))
    assert not (tmp_path / "run" / "hparams.yaml").exists()


class Recorder:
    """Takes the place of SummaryWriter."""

    def add_graph(self, network: LeNet5, image: torch.Tensor) -> None:
        self.network, self.shape = network, image.shape
        torch.jit.trace(network, image)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_graph_is_traced_on_a_copy(channels: int) -> None:
    class Logger:
        experiment = Recorder()

    network = LeNet5(channels, 7, dropout=0.5, kernel="auto").train()
    fused = network.fused
    tensorboard.add_graph(Logger(), network)  # type: ignore[arg-type]
    recorded = Logger.experiment
    assert recorded.shape == (1, channels, 32, 32) and not recorded.network.fused
    assert network.training and network.fused == fused


def test_worst_mistakes_come_first() -> None:
    logits = torch.tensor([[9.0, 0, 0], [0, 1.0, 0], [0, 5.0, 0], [0, 0, 3.0]])
    index, predicted, probability = tensorboard.rank_mistakes(logits, torch.tensor([0, 0, 0, 1]))
    assert index.tolist() == [2, 3, 1] and predicted.tolist() == [1, 2, 1]
    assert probability.tolist() == pytest.approx(logits.softmax(1).amax(1)[index].tolist())


def test_no_mistakes_at_all() -> None:
    index, _, _ = tensorboard.rank_mistakes(torch.eye(3), torch.arange(3))
    assert len(index) == 0


def test_samples_show_originals_above_their_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plotting, "samples", lambda *args: drawn.append(args))
    data = Digits()
    data.setup()
    tensorboard.samples(data)
    originals, negatives, names = drawn[0]
    assert originals.shape == (10, 1, 32, 32) and names == list("0123456789")
    assert abs(originals + negatives - 1).max() < 1e-6


def test_hyperparameters_are_all_in_which_runs_may_differ() -> None:
    config = configuration(train_polarity="half", root="data", rotation=None)
    config["trainer"] = {"max_epochs": 3, "logger": [{"class_path": "a.B"}], "callbacks": None}
    found = tensorboard.hyperparameters(config)
    assert found["data"] == "Digits" and found["model.optimizer"] == "KerasAdam"
    assert found["model.scheduler"] == "None" and found["model.optimizer.lr"] == 0.001
    assert found["data.train_polarity"] == "half" and found["data.rotation"] == "None"
    assert found["trainer.max_epochs"] == 3 and found["seed_everything"] == 0
    assert not [key for key in found if "root" in key or "logger" in key or key == "name"]
