"""Two processes on the CPU train as one does, and count every evaluation image once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lenet_lightning import runs
from lenet_lightning.__main__ import main
from tests.conftest import REPOSITORY, Run
from tests.test_cli import metrics, weights

# 1,294 training images in batches of 50, 143 for validation, 360 for testing: no share is even.
OPTIONS = (
    "fit --data Digits --trainer.accelerator cpu --trainer.max_epochs 2 --trainer.logger false "
    "--data.batch_size 50 --data.rotation 5 --data.train_polarity half --data.eval_batch_size 50 "
    "--model.l2 0.001 --model.gradient_clip_val 1 --model.view_shift 1 "
    "--model.optimizer SGD --model.optimizer.lr 0.05"
)
TWO = "--trainer.devices 2 --trainer.strategy ddp"


def launch(*options: str) -> None:
    """Run a command in processes of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "lenet_lightning", *" ".join(options).split()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same training on one and on two processes."""
    logs = tmp_path_factory.mktemp("logs")
    assert main([*OPTIONS.split(), "--logs", str(logs), "--name", "one"]) == 0
    launch(OPTIONS, TWO, "--logs", str(logs), "--name", "two")
    return logs / "one/version_0", logs / "two/version_0"


def test_same_training(pair: tuple[Path, Path]) -> None:
    one, two = pair
    for name in ("best.ckpt", "last.ckpt"):
        first, second = weights(one / "checkpoints" / name), weights(two / "checkpoints" / name)
        assert first.keys() == second.keys()
        for key in first:
            np.testing.assert_allclose(second[key], first[key], atol=1e-4, rtol=0)
    for row, other in zip(metrics(one), metrics(two), strict=True):
        assert row.keys() == other.keys()
        for key in row:
            exact = key in ("epoch", "step", "lr")
            assert float(other[key]) == pytest.approx(float(row[key]), rel=0 if exact else 1e-3)


def test_every_image_counts_once(pair: tuple[Path, Path]) -> None:
    one, two = (runs.read(folder) for folder in pair)
    assert two.manifest["devices"] == 2
    assert two.manifest["data"] == one.manifest["data"]
    for key in ("acc", "acc_negative", "acc_views"):
        count = two.manifest["test"][key] * 360
        assert count == pytest.approx(round(count), abs=1e-4)
        assert two.manifest["test"][key] == pytest.approx(one.manifest["test"][key], abs=1e-7)
    for key in ("acc", "acc_negative"):
        for row in metrics(pair[1]):
            count = float(row[f"val/{key}"]) * 143
            assert count == pytest.approx(round(count), abs=1e-4)
    with (
        np.load(pair[0] / "test_predictions.npz") as first,
        np.load(pair[1] / "test_predictions.npz") as second,
    ):
        for name in ("labels", "original", "negative"):
            np.testing.assert_array_equal(second[name], first[name])


def test_one_run_folder(pair: tuple[Path, Path]) -> None:
    assert [path.name for path in pair[1].parent.iterdir()] == ["version_0"]
    assert runs.read(pair[1]).manifest["status"] == "finished"


def test_one_process_can_test_what_two_trained(pair: tuple[Path, Path], run: Run) -> None:
    best = pair[1] / "checkpoints" / "best.ckpt"
    options = "--trainer.devices 1 --trainer.strategy auto"
    assert run(f"test --ckpt_path {best} {options}").code == 0
    manifest = runs.read(pair[1]).manifest
    (test,) = manifest["evaluations"]
    for key in ("acc", "acc_negative", "acc_views"):
        assert test[key] == pytest.approx(manifest["test"][key], abs=1e-7)
