"""The environment in which the tests are started does not matter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FOREIGN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "NODE_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "nowhere.invalid",
    "MASTER_PORT": "1",
    "TORCHELASTIC_RUN_ID": "1",
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NAME": "job",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "PL_GLOBAL_SEED": "none",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "MPLCONFIGDIR": "/dev/null",
}
QUICK = (
    "tests/callbacks/test_resume.py::test_never_starts_anew",
    "tests/store/test_checkpoints.py::TestSave",
)


@pytest.mark.parametrize(
    ("threads", "tests"),
    [
        (None, QUICK),
        pytest.param(None, (), marks=pytest.mark.nightly),
        pytest.param("1", (), marks=pytest.mark.nightly),
        pytest.param("3", (), marks=pytest.mark.nightly),
    ],
)
def test_strange_environment(tmp_path: Path, threads: str | None, tests: tuple[str, ...]) -> None:
    """``srun`` is installed, variables of other programs are set, and HOME is not."""
    (tmp_path / "srun").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "srun").chmod(0o755)
    environment = os.environ | FOREIGN | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name in ("HOME", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    if threads:
        environment["OMP_NUM_THREADS"] = threads
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
