"""Damaged checkpoints: refused in one sentence; a resumed run takes the one before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lenet_lightning.store import checkpoints, run_folder
from tests.conftest import DIGITS, Run


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def bit_flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def swapped(path: Path) -> None:
    """Another checkpoint of the same run under this name: valid in itself, but the wrong one."""
    path.write_bytes(path.with_name("last.previous.ckpt").read_bytes())
    digest = checkpoints.digest_path(path)
    digest.write_text(digest.read_text().split()[0] + "\n")


def zeroed(path: Path) -> None:
    """What some file systems leave after a power failure."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [cut, emptied, bit_flipped, swapped, zeroed])
def test_damaged(run: Run, trained: Path, damage: Callable[[Path], None]) -> None:
    whole = run_folder.read(trained)
    run_folder.write_manifest(trained, replace(whole.manifest, status="interrupted"))
    last = trained / "checkpoints/last.ckpt"
    damage(last)
    for command in ("test", "export --format safetensors", f"{DIGITS} --trainer.max_epochs 3"):
        refused = run(command, f"--ckpt_path {last}")
        assert refused.code == 2 and refused.err.count("\n") == 1
        assert f"{last} is damaged" in refused.err
    with pytest.warns(UserWarning, match="is damaged.*The one before it is tried"):
        resumed = run(DIGITS, "--name trained --resume must")
    assert resumed.code == 0, resumed.err
    again = run_folder.read(trained)
    assert again.manifest.test == whole.manifest.test
    for column in whole.metrics.keys() - {"seconds"}:
        assert list(again.metrics[column]) == list(whole.metrics[column])
