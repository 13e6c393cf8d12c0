"""Ctrl-C and SIGTERM: what is left, what is said, and that the continued run is the same run."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_lightning.callbacks import recorder
from lenet_lightning.cli import lightning_cli
from lenet_lightning.data.datasets import Digits
from lenet_lightning.signals import interruptible
from lenet_lightning.store import checkpoints, run_folder
from tests.cli.test_lightning_cli import metrics, same_weights
from tests.conftest import REPOSITORY, Run

# Everything that has a state or draws random numbers is on.
OPTIONS = (
    "fit --data Digits --trainer.accelerator cpu --model.network.dropout 0.3 "
    "--data.augmentation.rotation 5 --data.augmentation.translation 1 "
    "--data.train_polarity random --model.scheduler StepLR "
    "--model.scheduler.step_size 2 --trainer.callbacks EarlyStopping "
    "--trainer.callbacks.monitor val/loss --trainer.callbacks.patience 3"
)
SHORT = f"{OPTIONS} --trainer.max_epochs 4 --trainer.logger false"


def same_run(a: Path, b: Path) -> None:
    """Compare two finished runs: every figure and every weight."""
    first, second = run_folder.read(a), run_folder.read(b)
    assert metrics(a) == metrics(b)
    for key in ("status", "test", "best_epoch", "epochs"):
        assert getattr(first.manifest, key) == getattr(second.manifest, key), key
    for name in ("best.ckpt", "last.ckpt"):
        assert same_weights(a / "checkpoints" / name, b / "checkpoints" / name), name


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int, number: int
) -> None:
    """Let a signal arrive in the given call, counted from 1, of a function."""
    original: Callable = getattr(owner, name)
    calls = []

    def interrupted(*args: object, **kwargs: object) -> object:
        calls.append(name)
        if len(calls) == call:
            signal.raise_signal(number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never interrupted."""
    logs = tmp_path_factory.mktemp("whole")
    assert lightning_cli.main([*SHORT.split(), "--logs", str(logs), "--name", "run"]) is None
    return logs / "run" / "version_0"


# Two training steps an epoch: several batches are delivered together.
MOMENTS = {
    "before the first step": (lightning_cli.Classifier, "training_step", 1),
    "in the first epoch": (lightning_cli.Classifier, "training_step", 2),
    "in the third epoch": (lightning_cli.Classifier, "training_step", 6),
    "between a row and its checkpoint": (recorder.RunRecord, "save", 3),
    "while a checkpoint is written": (checkpoints, "write_digest", 5),
    "in the test at the end": (lightning_cli.Classifier, "test_step", 1),
    "after the test": (recorder, "write_predictions", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_continued_run_is_the_same_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, whole: Path, moment: str
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, *MOMENTS[moment], signal.SIGINT)
        stopped = run(f"{SHORT} --name cut")
    folder = Path("lightning_logs/cut/version_0")
    assert stopped.code == 130
    assert stopped.err.count("\n") == 1, stopped.err
    assert stopped.err.startswith("lenet_lightning: Stopped by SIGINT. Continue with: ")
    manifest = run_folder.read(folder).manifest
    assert (manifest.status, manifest.error) == ("interrupted", "Stopped by SIGINT.")
    assert checkpoints.newest_valid(folder) is not None

    command = shlex.split(stopped.err.partition("Continue with: ")[2])
    assert command[:3] == ["python", "-m", "lenet_lightning"]
    continued = run(*command[3:])
    assert (continued.code, continued.err) == (0, "")
    assert f"Run folder {folder}, continued" in continued.out
    same_run(folder, whole)


def test_interrupted_twice(run: Run, monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    for call in (3, 3):  # in the second epoch, then in the second epoch after that
        with monkeypatch.context() as patch:
            interrupt_at(patch, lightning_cli.Classifier, "training_step", call, signal.SIGTERM)
            assert run(f"{SHORT} --name cut --resume auto").code == 143
    assert run(f"{SHORT} --name cut --resume auto").code == 0
    same_run(Path("lightning_logs/cut/version_0"), whole)


def test_a_number_of_steps(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where epochs are not what ends a training."""
    steps = SHORT.replace("--trainer.max_epochs 4", "--trainer.max_steps 70")
    assert run(f"{steps} --name whole").code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, lightning_cli.Classifier, "training_step", 4, signal.SIGINT)
        assert run(f"{steps} --name cut").code == 130
    gone_on = run(f"{steps} --name cut --resume must")
    assert (gone_on.code, gone_on.err) == (0, "")
    same_run(Path("lightning_logs/cut/version_0"), Path("lightning_logs/whole/version_0"))


def test_a_recipe_goes_on_as_it_began(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon, a schedule by step, and a network and augmentation with every newer option."""
    recipe = (
        "fit --data Digits --trainer.accelerator cpu --trainer.logger false --trainer.max_epochs 3 "
        "--model.optimizer lenet_lightning.Muon --model.scheduler LinearLR "
        "--model.scheduler.end_factor 0.1 --model.scheduler.total_iters 60 "
        "--model.scheduler_interval step --model.scaling centered "
        "--model.network.invariance absolute "
        "--model.network.activation silu --model.network.conv_activation absolute "
        "--model.tta_shift 1 --data.augmentation.zoom 0.1 --data.augmentation.translation 2 "
        "--data.augmentation.padding reflection --data.augmentation.interpolation nearest "
        "--data.augmentation.cutout 4 --data.augmentation.elastic 0.5 "
        "--data.augmentation.distortion_epochs 2"
    )
    assert run(f"{recipe} --name whole").code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, lightning_cli.Classifier, "training_step", 4, signal.SIGINT)
        assert run(f"{recipe} --name cut").code == 130
    assert run(f"{recipe} --name cut --resume must").code == 0
    folder = Path("lightning_logs/cut/version_0")
    same_run(folder, Path("lightning_logs/whole/version_0"))


def test_early_stopping_stays_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that had stopped early is not taken up again; only the test is left."""
    early = SHORT.replace("val/loss", "val/acc").replace("patience 3", "patience 1")
    assert run(f"{early} --name whole").code == 0
    whole = Path("lightning_logs/whole/version_0")
    assert run_folder.read(whole).manifest.epochs == 2  # the accuracy does not fall
    with monkeypatch.context() as patch:
        interrupt_at(patch, lightning_cli.Classifier, "test_step", 1, signal.SIGINT)
        assert run(f"{early} --name cut").code == 130
    assert run(f"{early} --name cut --resume must").code == 0
    same_run(Path("lightning_logs/cut/version_0"), whole)


def test_before_the_run_starts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, Digits, "setup", 1, signal.SIGTERM)
    stopped = run(f"{SHORT} --name cut")
    assert (stopped.code, stopped.err) == (143, "lenet_lightning: Stopped by SIGTERM.\n")
    assert not list(Path().rglob("version_*"))


def test_evaluation(run: Run, monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    before = (trained / "run.json").read_bytes()
    interrupt_at(monkeypatch, lightning_cli.Classifier, "test_step", 1, signal.SIGINT)
    stopped = run(f"test --ckpt_path {trained}/checkpoints/best.ckpt")
    assert (stopped.code, stopped.err) == (130, "lenet_lightning: Stopped by SIGINT.\n")
    assert (trained / "run.json").read_bytes() == before


@pytest.mark.parametrize("hangup", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_hangup_that_is_ignored_stays_ignored(hangup: signal.Handlers) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, hangup)
    try:
        with interruptible():
            handled = signal.getsignal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == hangup
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (handled == signal.SIG_IGN) == (hangup == signal.SIG_IGN)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_process(number: signal.Signals, code: int) -> None:
    """A process of its own, stopped by a signal from outside in the middle of its run."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "lenet_lightning", *OPTIONS.split()]
    process = subprocess.Popen(
        [*command, "--trainer.max_epochs", "2000", "--name", "cut"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        folder = Path("lightning_logs/cut/version_0")
        while process.poll() is None and len(run_folder.read_rows(folder / "metrics.csv")) < 3:
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, err
    assert err == (
        f"lenet_lightning: Stopped by {number.name}. Continue with: python -m lenet_lightning fit "
        f"--config {folder}/config.yaml --resume must\n"
    )
    manifest = run_folder.read(folder).manifest
    assert (manifest.status, manifest.error) == ("interrupted", f"Stopped by {number.name}.")
    # Not always last.ckpt: the signal may have come while one took the other's place.
    newest = checkpoints.newest_valid(folder)
    assert newest is not None and checkpoints.load(newest)["epoch"] >= 1
