"""SIGUSR1 as SLURM sends it before the end of a job: saved, recorded, exit 138, resumable."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_lightning.store import run_folder
from tests.faults.processes import Command, fit

JOB = {
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NAME": "lenet",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
}


def in_a_job() -> None:
    os.environ.update(JOB)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("nothing happened in five minutes")


# As `sbatch --signal=USR1@60` sends it.
def test_requeue(tmp_path: Path) -> None:
    args = fit(tmp_path, "--trainer.max_epochs", "200")
    command = Command(args, tmp_path, in_a_job)
    folder = tmp_path / "logs/run/version_0"
    rows = folder / "metrics.csv"
    wait_until(rows.exists)
    command.signal(signal.SIGUSR1)
    ended = command.wait()
    assert ended.code == 138, ended.err
    assert "--resume must" in ended.err and "Traceback" not in ended.err
    left = run_folder.read(folder)
    assert left.manifest.status == "interrupted"
    # Lightning would save hpc_ckpt_1.ckpt here and call scontrol itself.
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    # What the requeued job runs is the same command, with --resume auto from the start.
    done, written = len(left.metrics["epoch"]), rows.stat().st_mtime_ns
    again = Command([*args, "--resume", "auto"], tmp_path, in_a_job)
    wait_until(lambda: rows.stat().st_mtime_ns != written)
    again.signal(signal.SIGTERM)
    ended = again.wait()
    assert ended.code == 143, ended.err
    assert f"{folder}, continued" in ended.out
    assert len(run_folder.read(folder).metrics["epoch"]) >= done


def install_srun() -> None:
    srun = Path("bin/srun").absolute()
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    os.environ["PATH"] = f"{srun.parent}{os.pathsep}{os.environ['PATH']}"


def test_srun_is_installed(tmp_path: Path) -> None:
    """Where it is, a command outside of a job is no mistake: nothing is said about it."""
    ended = Command(fit(tmp_path, "--trainer.max_epochs", "1"), tmp_path, install_srun).wait()
    assert (ended.code, ended.err) == (0, "")
