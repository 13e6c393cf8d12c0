"""Runs end with an outcome each, whatever becomes of their processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import pytest

from lenet_lightning.store import run_folder
from lenet_lightning.study.executors import LocalExecutor
from lenet_lightning.study.task import Outcome, Task
from tests.conftest import PLAIN, Run

CONFIG = """
trainer: {max_epochs: 100000, accelerator: cpu, enable_progress_bar: false}
data: {class_path: Digits, init_args: {batch_size: 64, subset: 256}}
"""


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.yaml").write_text(CONFIG)
    executor = LocalExecutor(jobs=1, threads=1)
    yield executor
    executor.stop()
    assert not multiprocessing.active_children()


def task(name: str) -> Task:
    """Of a configuration that is there, if it is called long."""
    arguments = ["fit", f"--config={name}.yaml", f"--name={name}", "--logs=logs"]
    return Task(arguments, Path(f"{name}.log"))


def wait_for_epochs(name: str) -> Path:
    folder = Path("logs", name, "version_0")
    while not (folder / "metrics.csv").exists():
        time.sleep(0.05)
    return folder


def test_a_process_that_dies_fails_its_own_run_only(executor: LocalExecutor) -> None:
    first, second = executor.submit(task("long")), executor.submit(task("second"))
    wait_for_epochs("long")
    (process,) = multiprocessing.active_children()
    process.kill()
    assert "killed by signal 9" in first.result().error and not first.result().interrupted
    assert "second.yaml" in second.result().error
    assert "second.yaml" in Path("second.log").read_text()


def test_a_run_that_is_complete_is_not_trained_again(executor: LocalExecutor, run: Run) -> None:
    """A task that is started again may have lost its outcome only."""
    assert run(f"{PLAIN} --name complete").code == 0
    config = run_folder.read(Path("lightning_logs/complete/version_0")).config
    again = Task(["fit", "--no_such_option"], Path("again.log"), config)
    assert executor.submit(again).result() == Outcome()
    assert not again.log.exists()
    assert executor.submit(replace(again, config={})).result().interrupted == 0
    assert "no_such_option" in again.log.read_text()


def test_a_cancelled_run_is_saved_and_a_waiting_one_does_not_start(
    executor: LocalExecutor,
) -> None:
    first, waiting, last = map(executor.submit, map(task, ("long", "waiting", "last")))
    folder = wait_for_epochs("long")
    for future in (waiting, first):
        executor.cancel(future)
    assert waiting.cancelled() and first.result().interrupted
    manifest = run_folder.read(folder).manifest
    assert manifest.status == "interrupted" and manifest.epochs > 0
    assert (folder / "checkpoints" / "last.ckpt").exists()
    assert "last.yaml" in last.result().error and not Path("waiting.log").exists()


def test_cancelled_before_its_process_has_begun(executor: LocalExecutor) -> None:
    future = executor.submit(task("long"))
    while not future.running():
        time.sleep(0.001)
    executor.cancel(future)
    assert future.result().interrupted


def test_stop_saves_what_runs(executor: LocalExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    running, waiting = executor.submit(task("long")), executor.submit(task("waiting"))
    folder = wait_for_epochs("long")
    executor.stop()
    assert running.result().interrupted and waiting.result().interrupted
    assert not Path("waiting.log").exists()
    assert run_folder.read(folder).manifest.status == "interrupted"
    assert "are being saved" in capsys.readouterr().err


def test_a_run_ends_when_its_study_is_gone(executor: LocalExecutor) -> None:
    """It is asked to save itself, though nobody is left to ask."""
    child = multiprocessing.get_context("spawn").Process(target=_study)
    child.start()
    folder = wait_for_epochs("long")
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    while run_folder.read(folder).manifest.status == "running":
        time.sleep(0.05)
    assert run_folder.read(folder).manifest.status == "interrupted"


def _study() -> None:
    executor = LocalExecutor(jobs=1, threads=1)
    wait([executor.submit(task("long"))])


def test_each_slot_has_its_device() -> None:
    executor = LocalExecutor(jobs=3, threads=1, devices=("0", "1"))
    assert sorted(executor._devices.get() for _ in range(3)) == ["0", "0", "1"]
