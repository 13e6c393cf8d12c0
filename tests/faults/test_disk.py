"""Full disk, read-only and vanished folders: one sentence, and what was saved stays valid."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lenet_lightning.store import checkpoints, run_folder
from tests.conftest import DIGITS, PLAIN, Run


def assert_one_sentence(err: str, *words: str) -> None:
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("lenet_lightning: ")
    for word in words:
        assert word in lines[0]


def assert_saved_is_valid(folder: Path) -> None:
    for path in folder.glob("checkpoints/*.ckpt"):
        checkpoints.load(path)


def mount(*options: str) -> None:
    command = ["mount", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system in memory of a given size; a second call changes the size or the options."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def make(options: str) -> Path:
        if os.path.ismount(disk):
            mount("-o", f"remount,{options}", str(disk))
        else:
            mount("-t", "tmpfs", "-o", options, "tmpfs", str(disk))
        return disk

    yield make
    if os.path.ismount(disk):
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


# What no longer fits: TensorBoard's first file, the first checkpoint.
@pytest.mark.parametrize("size", ["16k", "200k"])
def test_full_disk(size: str, run: Run, small_disk: Callable[[str], Path]) -> None:
    logs = small_disk(f"size={size}")
    full = run(DIGITS, "--logs", str(logs), "--name", "run")
    assert full.code == 2
    assert_one_sentence(full.err, "No space left on device")
    folder = logs / "run/version_0"
    assert_saved_is_valid(folder)
    manifest = json.loads((folder / "run.json").read_text())
    # run.json itself no longer fits beside the rest of the smallest disk.
    assert manifest["status"] == ("running" if size == "16k" else "failed")


def test_room_is_made_and_the_run_goes_on(run: Run, small_disk: Callable[[str], Path]) -> None:
    logs = small_disk("size=1800k")
    command = (DIGITS, "--logs", str(logs), "--name", "run")
    full = run(*command)
    assert full.code == 2
    assert_one_sentence(full.err, "No space left on device")
    assert_saved_is_valid(logs / "run/version_0")
    small_disk("size=8m")
    assert run(*command, "--resume", "must").code == 0
    gone_on = run_folder.read(logs / "run/version_0")
    assert gone_on.manifest.status == "finished"
    assert list(gone_on.metrics["epoch"]) == [0, 1]
    assert run(DIGITS, "--logs", "logs", "--name", "run").code == 0
    assert gone_on.manifest.test == run_folder.read("logs/run/version_0").manifest.test


def test_read_only_disk(run: Run, small_disk: Callable[[str], Path]) -> None:
    logs = small_disk("size=1m")
    small_disk("ro")
    refused = run(DIGITS, "--logs", str(logs))
    assert refused.code == 2
    assert_one_sentence(refused.err, str(logs), "Read-only file system", "--logs")


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, occurrence: int, fault: Callable[[], None]
) -> None:
    """Call ``fault`` before the n-th time a file is renamed to ``name``, and ever after."""
    real, seen = os.replace, 0

    def replace(source: Any, target: Any) -> None:
        nonlocal seen
        seen += Path(target).name == name
        if seen >= occurrence:
            fault()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("metrics.csv", errno.EROFS),
        ("last.ckpt", errno.EDQUOT),
        ("best.ckpt", errno.EACCES),
        ("test_predictions.npz", errno.EIO),
    ],
)
def test_refused_while_training(
    file: str, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write where it should not, so the fault is put at the write call."""

    def refuse() -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        failing(patch, file, 1 if file.endswith(".npz") else 2, refuse)
        refused = run(DIGITS)
    assert refused.code == 2
    assert_one_sentence(refused.err, file, os.strerror(code))
    folder = Path("lightning_logs/digits/version_0")
    assert_saved_is_valid(folder)
    assert not list(folder.rglob(".*.ckpt.*")), "no half-written file is left"
    assert run(DIGITS, "--resume", "must").code == 0


def test_folder_vanishes_while_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("lightning_logs/digits/version_0")
    failing(monkeypatch, "best.ckpt.sha256", 2, lambda: shutil.rmtree(folder, ignore_errors=True))
    vanished = run(DIGITS)
    assert vanished.code == 2
    assert_one_sentence(vanished.err, str(folder), "No such file or directory")
    assert not folder.exists(), "a folder that somebody removed is not made again"


@pytest.mark.parametrize(
    "name", ["metrics.csv", "config.yaml", "checkpoints", "checkpoints/best.ckpt"]
)
def test_removed_while_training(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose files are gone at its end has not succeeded."""
    path = Path("lightning_logs/digits/version_0", name)

    def remove() -> None:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)

    epoch = "metrics.csv" if name.startswith("checkpoints") else "best.ckpt"
    with monkeypatch.context() as patch:
        failing(patch, epoch, 3 if epoch == "metrics.csv" else 2, remove)
        ended = run(PLAIN)
    assert ended.code == 2
    assert_one_sentence(ended.err, "was removed while the run trained")


def test_checkpoint_in_a_read_only_folder(
    run: Run, trained: Path, small_disk: Callable[[str], Path]
) -> None:
    """What it says is printed, and that it could not be kept; predictions go elsewhere."""
    disk = small_disk("size=8m")
    shutil.copytree(trained, disk / "run")
    small_disk("ro")
    tested = run(f"test --ckpt_path {disk}/run/checkpoints/best.ckpt")
    assert tested.code == 0 and "The result was not kept" in tested.out
    Path("pictures").mkdir()
    Image.new("L", (8, 8)).save("pictures/a.png")
    told = run(f"predict --data.root pictures --ckpt_path {disk}/run/checkpoints/best.ckpt")
    assert told.code == 0 and Path("predictions.csv").is_file()
