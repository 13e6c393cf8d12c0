"""SIGKILL at any instant, in training or between two steps of a save: nothing is lost."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lenet_lightning.store import checkpoints
from tests.faults.processes import Command, fit, run


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What the run leaves when nothing happens to it, and how long it takes."""
    folder = tmp_path_factory.mktemp("reference")
    run(["--version"], folder)  # starts the process that the others are forked from
    start = time.monotonic()
    assert run(fit(folder), folder).code == 0
    return left_by(folder / "logs/run/version_0"), time.monotonic() - start


def left_by(folder: Path) -> dict[str, Any]:
    """Everything in a run folder that must not depend on interruptions."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    manifest = json.loads((folder / "run.json").read_text())
    best, last = (
        checkpoints.load(folder / f"checkpoints/{name}.ckpt") for name in ("best", "last")
    )
    kept = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
    with np.load(folder / "test_predictions.npz") as predictions:
        classes = {name: predictions[name] for name in predictions.files}
    return {
        "rows": rows,
        "manifest": {k: manifest[k] for k in ("status", "best_epoch", "epochs", "test")},
        "best": {k: best[k] for k in kept},
        "last": {k: last[k] for k in kept},
        "early_stopping": [v for k, v in last["callbacks"].items() if "EarlyStopping" in k],
        "predictions": classes,
    }


def assert_same(a: Any, b: Any, where: str = "run") -> None:
    """Compare to the last bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b), where
    else:
        assert a == b, where


def continued(folder: Path) -> dict[str, Any]:
    """Resume what was killed in ``folder``, and return what it leaves."""
    version_0 = folder / "logs/run/version_0"
    begun = any((version_0 / "checkpoints").glob("*.ckpt"))
    finished = begun and json.loads((version_0 / "run.json").read_text())["status"] == "finished"
    ended = run(fit(folder, "--resume", "must" if begun and not finished else "auto"), folder)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    versions = sorted((folder / "logs/run").glob("version_*"))
    assert not begun or finished or versions == [version_0], "a saved run is continued in place"
    return left_by(versions[-1])


def killed_after(seconds: float, folder: Path) -> dict[str, Any]:
    command = Command(fit(folder), folder)
    time.sleep(seconds)
    command.signal(signal.SIGKILL)
    assert command.wait().code in (-signal.SIGKILL, 0)
    return continued(folder)


def kill_and_compare(
    reference: tuple[dict[str, Any], float], tmp_path: Path, seed: int, count: int
) -> None:
    expected, duration = reference
    draw = random.Random(seed)
    folders = [tmp_path / str(i) for i in range(count)]
    for folder in folders:
        folder.mkdir()
    # Stratified: one instant in each of as many equal parts of the run.
    instants = [(i + draw.random()) / count * duration for i in range(count)]
    with ThreadPoolExecutor(2) as pool:
        for instant, left in zip(instants, pool.map(killed_after, instants, folders), strict=True):
            assert_same(left, expected, f"killed after {instant:.3f} s")


def test_killed_at_random_instants(reference: tuple[dict[str, Any], float], tmp_path: Path) -> None:
    kill_and_compare(reference, tmp_path, seed=0, count=4)


@pytest.mark.nightly
def test_killed_at_twenty_random_instants(
    reference: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    kill_and_compare(reference, tmp_path, seed=int(time.time()), count=20)


def die_at(call: str, pattern: str, occurrence: int, after: bool) -> None:
    """Make this process kill itself at the n-th ``os.<call>`` on a file of this name."""
    real = getattr(os, call)
    seen = 0

    def faulty(first: Any, *rest: Any) -> None:
        nonlocal seen
        target = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else rest[0]
        ours = fnmatch(Path(target).name, pattern)
        seen += ours
        if after:
            real(first, *rest)
        if ours and seen == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)
        if not after:
            real(first, *rest)

    setattr(os, call, faulty)


# Every step of saving a checkpoint, in its order, then the record's two files.
STEPS = {
    "flush": partial(die_at, "fsync", ".last.ckpt.[0-9]*", 3, False),
    "digest": partial(die_at, "replace", "last.ckpt.sha256", 3, True),
    "digest of previous": partial(die_at, "replace", "last.previous.ckpt.sha256", 2, True),
    "last to previous": partial(die_at, "replace", "last.previous.ckpt", 2, True),
    "rename": partial(die_at, "replace", "last.ckpt", 3, True),
    "digest of best": partial(die_at, "replace", "best.ckpt.sha256", 2, True),
    "best": partial(die_at, "replace", "best.ckpt", 2, True),
    "metrics": partial(die_at, "replace", "metrics.csv", 2, True),
    "manifest": partial(die_at, "replace", "run.json", 4, False),
}


@pytest.mark.nightly
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_saving(
    step: str, reference: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    killed = run(fit(tmp_path), tmp_path, STEPS[step])
    assert killed.code == -signal.SIGKILL, killed.err
    assert_same(continued(tmp_path), reference[0], step)


def test_killed_twice_while_saving_the_same_checkpoint(
    reference: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    """The digest of the file that is there is never forgotten."""
    fault = partial(die_at, "replace", "best.ckpt.sha256", 2, True)
    assert run(fit(tmp_path), tmp_path, fault).code == -signal.SIGKILL
    fault = partial(die_at, "replace", "best.ckpt.sha256", 1, True)
    assert run(fit(tmp_path, "--resume", "must"), tmp_path, fault).code == -signal.SIGKILL
    checkpoints.load(tmp_path / "logs/run/version_0/checkpoints/best.ckpt")
    assert_same(continued(tmp_path), reference[0])


def test_runs_started_together_get_folders_of_their_own(tmp_path: Path) -> None:
    args = fit(tmp_path, "--trainer.max_epochs", "1")
    started = [Command(args, tmp_path) for _ in range(3)]
    for command in started:
        ended = command.wait()
        assert ended.code == 0, ended.err
    folders = sorted((tmp_path / "logs/run").iterdir())
    assert [folder.name for folder in folders] == [f"version_{i}" for i in range(3)]
    rows = [left_by(folder)["rows"] for folder in folders]
    assert rows[0] == rows[1] == rows[2]
