"""Numbers gone wrong: the run stops, says where and why, and the last finite checkpoint stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.training.classifier import Classifier
from tests.conftest import Run

FIT = "fit --data Digits --trainer.accelerator cpu --trainer.logger false --name run"
FOLDER = Path("lightning_logs/run/version_0")


def assert_stopped(code: int, err: str, *words: str) -> None:
    assert code == 3
    assert err.count("\n") == 1 and err.startswith("lenet_lightning: The ")
    for word in words:
        assert word in err
    manifest = run_folder.read(FOLDER).manifest
    assert manifest.status == "nonfinite"
    assert manifest.error in err


def assert_finite_checkpoints() -> None:
    paths = list(FOLDER.glob("checkpoints/*.ckpt"))
    assert paths
    for path in paths:
        weights = checkpoints.load(path)["state_dict"]
        assert all(
            value.isfinite().all() for value in weights.values() if value.is_floating_point()
        )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_learning_rate_far_too_high(run: Run) -> None:
    stopped = run(FIT, "--trainer.max_epochs 2 --model.optimizer.lr 1e30")
    assert_stopped(
        stopped.code,
        stopped.err,
        "no longer finite at step 1 ",
        "learning rate 1e+30",
        "try a tenth",
    )
    assert_finite_checkpoints()


def test_the_last_finite_epoch_stays(run: Run) -> None:
    schedule = "--model.scheduler ExponentialLR --model.scheduler.gamma 1e33"
    stopped = run(FIT, schedule, "--trainer.max_epochs 3")
    assert_stopped(stopped.code, stopped.err, "(epoch 2, learning rate 1e+30)")
    assert_finite_checkpoints()
    left = run_folder.read(FOLDER)
    assert list(left.metrics["epoch"]) == [0]
    assert checkpoints.load(FOLDER / "checkpoints/last.ckpt")["global_step"] == 21
    assert run(f"test --ckpt_path {FOLDER / 'checkpoints/best.ckpt'}").code == 0


def test_weights_that_no_loss_shows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias of minus infinity before a ReLU gives a finite loss and a dead unit."""
    end = Classifier.on_train_epoch_end

    def spoil(module: Classifier) -> None:
        with torch.no_grad():
            module.network.dense1.bias[0] = -torch.inf
        end(module)

    monkeypatch.setattr(Classifier, "on_train_epoch_end", spoil)
    stopped = run(FIT, "--trainer.max_epochs 1")
    assert_stopped(stopped.code, stopped.err, "The weights are no longer finite at step 20")
    assert_finite_checkpoints()
