"""Closed standard streams, and terminals that are gone, harm neither files nor exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lenet_lightning.store import run_folder
from tests.conftest import PLAIN, REPOSITORY

COMMAND = [sys.executable, "-m", "lenet_lightning", *PLAIN.split()]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
RUN = Path("lightning_logs/digits/version_0")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_as_the_null_device(closed: str) -> None:
    script = f'"$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND], env=ENVIRONMENT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (">&-" not in closed.split())
    assert run_folder.read(RUN).manifest.status == "finished"
    assert [path.name for path in Path().iterdir()] == ["lightning_logs"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_children_and_files_get_no_stream_by_accident(number: int) -> None:
    code = f"""
import os, subprocess, sys
from lenet_lightning import streams
streams.open_closed()
assert os.path.samestat(os.fstat({number}), os.stat(os.devnull))
assert None not in (sys.stdin, sys.stdout, sys.stderr)
file = open("file", "w")
assert file.fileno() > 2
subprocess.run(["sh", "-c", "echo >&1; echo >&2; cat"], check=True, stderr=subprocess.STDOUT)
"""
    command = ["sh", "-c", f'exec "$@" {number}{"<" if number == 0 else ">"}&-', "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", code], env=ENVIRONMENT, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0 and Path("file").read_text() == ""


def test_open_streams_are_left_alone() -> None:
    code = "from lenet_lightning import streams; streams.open_closed(); print(input())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, input=b"through", capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"through\n", b"")


def test_a_terminal_that_is_closed_interrupts_the_run() -> None:
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--trainer.max_epochs", "2000"],
        env=ENVIRONMENT, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        while process.poll() is None and not (RUN / "metrics.csv").exists():
            time.sleep(0.02)
            os.read(master, 1 << 16)
        process.send_signal(signal.SIGHUP)
        os.close(master)
        assert process.wait(300) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()
    manifest = run_folder.read(RUN).manifest
    assert (manifest.status, manifest.error) == ("interrupted", "Stopped by SIGHUP.")


def test_a_reader_that_stops_does_not_stop_the_run() -> None:
    """As in ``fit ... | head -1``: also where every line is written at once."""
    for unbuffered in ("", "1"):
        reader, writer = os.pipe()
        process = subprocess.Popen(
            COMMAND,
            env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
            stdout=writer,
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        os.close(reader)
        assert process.communicate()[1] == b"" and process.returncode == 0
    for number in (0, 1):
        folder = Path(f"lightning_logs/digits/version_{number}")
        assert run_folder.read(folder).manifest.status == "finished"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_disk_is_said_in_one_line(option: str, unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lenet_lightning", *option.split()],
            env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert b"No space left on device" in done.stderr


def test_a_backend_that_is_not_installed_is_not_needed() -> None:
    """A Jupyter kernel gives its children one."""
    environment = ENVIRONMENT | {"MPLBACKEND": "module://not_installed.backend"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (RUN / "curves.png").exists()
