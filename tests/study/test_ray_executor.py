"""Studies on a Ray cluster of this machine, whose nodes, drivers and head are killed."""

from __future__ import annotations

import argparse
import csv
import os
import pickle
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.study import command, executor_options, ray_executor, run
from lenet_lightning.study.sweep import command as sweep_command
from lenet_lightning.study.task import Task
from tests.power_cut import kill

REPOSITORY = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"
TOKEN = secrets.token_hex(32)
SECONDS = 500  # a deadlock fails the test
HOLD = "callbacks: [{class_path: tests.study.hold.Hold}]"
BASE = f"""
trainer:
  max_epochs: 8
  accelerator: cpu
  enable_progress_bar: false
  logger: false
  {HOLD}
data: {{class_path: Digits, init_args: {{batch_size: 64, subset: 512}}}}
"""
STUDY = """
name: tiny
base: base.yaml
seeds: [0]
settings: {adam: {}, sgd: {model.optimizer: torch.optim.SGD, model.optimizer.lr: 0.01}}
"""
LINE = ["study", "--config", "tiny.yaml", "--allow_imports", "tests.study.hold"]
SWEEP = """
name: mine
base: base.yaml
sampler: grid
trainer.max_epochs: 3
space: {model.optimizer.lr: [0.001, 0.01]}
"""
REFUSALS = """
import os
from pathlib import Path

from lenet_lightning.errors import UserError
from lenet_lightning.store import code_version
from lenet_lightning.study import ray_executor
from lenet_lightning.study.task import Task


def refuse(config, *paths):
    try:
        executor = ray_executor.RayExecutor([config], [*paths, Path("logs")], "")
        try:
            executor.submit(Task([], Path("log"), config))
        finally:
            executor.stop()
    except UserError as error:
        print(error)


Path("logs").mkdir()
mnist = {"class_path": "MNIST", "init_args": {"root": "logs", "download": False}}
cpu = {"trainer": {"accelerator": "cpu"}}
refuse(cpu, Path("nowhere.yaml"))
refuse(cpu | {"data": mnist})
code_version.code_version = lambda: "other"
refuse(cpu)
refuse(cpu | {"threads": 3})
"""


def options(**values: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"executor": "ray", "jobs": "auto", "gpu_share": 1.0} | values)


class TestRefused:
    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray_executor, "ray", object())
        monkeypatch.setenv("RAY_AUTH_MODE", "token")

    def refusal(self) -> str:
        with pytest.raises(UserError) as error:
            executor_options.choose(options())([], [], "")
        return str(error.value)

    def test_without_ray(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray_executor, "ray", None)
        assert "pip install 'lenet-lightning[ray]'" in self.refusal()

    @pytest.mark.parametrize("address", ["", "ray://127.0.0.1:10001"])
    def test_without_an_address(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert "RAY_ADDRESS is" in self.refusal() and "ray start --head" in self.refusal()

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:many"])
    def test_where_nothing_answers(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert f"nothing answers at RAY_ADDRESS {address}" in self.refusal()

    def test_jobs(self) -> None:
        with pytest.raises(UserError, match="--jobs"):
            executor_options.choose(options(jobs="2"))

    @pytest.mark.parametrize("share", ["0", "1.5", "half", "nan"])
    def test_shares(self, share: str) -> None:
        with pytest.raises(UserError, match="--gpu_share"):
            command.main(["--config", "tiny.yaml", "--gpu_share", share])

    @pytest.mark.parametrize("mode", ["", "disabled"])
    def test_without_a_token(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        assert "export RAY_AUTH_MODE=token" in self.refusal()


def test_a_node_that_asks_for_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    examine = ray_executor._examination()
    assert "RAY_AUTH_MODE=token" in examine([], "", [])
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert examine([], "", []) == ""
    assert "does not see nowhere" in examine(["nowhere"], "", [])


def test_an_address_that_answers() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        assert ray_executor.answers(f"{LOOPBACK}:{server.getsockname()[1]}")


def test_what_ray_prints_is_kept_off_the_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until it has ended: its threads print what they know of dead nodes."""
    node = {"Alive": True, "Resources": {"CPU": 1}}
    fake = SimpleNamespace(
        nodes=lambda: [node],
        remote=lambda **_: lambda function: function,
        shutdown=lambda: print("(raylet) at the end"),
    )
    monkeypatch.setattr(ray_executor, "ray", fake)
    monkeypatch.setattr(ray_executor, "connect", lambda: print("(raylet) at the start"))
    with pytest.raises(UserError, match="7 processor cores"):
        ray_executor.RayExecutor([{"threads": 7, "trainer": {"accelerator": "cpu"}}], [], "")
    executor = ray_executor.RayExecutor([{"trainer": {"accelerator": "cpu"}}], [], "")
    executor.stop()
    assert executor.submit(Task([], Path("log"))).result().interrupted  # as another thread might
    print("a result")
    out, error = capsys.readouterr()
    assert out == "a result\n"
    assert error.split("\n") == ["(raylet) at the start", "(raylet) at the end"] * 2 + [""]


def test_nodes_can_read_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have imported nothing that makes a class for a number from a file."""
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE.replace(HOLD, ""))
    Path("tiny.yaml").write_text(STUDY)
    session = run.open_session(Path("tiny.yaml"), Path("logs"), [], "")
    assert b"jsonargparse" not in pickle.dumps(session.task(session.trials[0]))


class Cluster:
    """A head without processors, and nodes of one processor each."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="ray_", dir="/tmp")  # sockets have short paths
        self.started: list[subprocess.Popen[bytes]] = []
        self.address = ""
        self.head = self.start(
            "--head", "--port=0", "--num-cpus=0", "--include-dashboard=false",
            f"--temp-dir={self.folder}",
        )  # fmt: skip
        (port,) = re.findall(r"--address='.*:(\d+)'", self.log.read_text())
        self.address = f"{LOOPBACK}:{port}"

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a node, and wait until it has joined; one that ends instead is started again."""
        common = ["--block", f"--node-ip-address={LOOPBACK}", "--disable-usage-stats"]
        common += ["--num-gpus=0", "--object-store-memory=80000000"]
        common += ["--min-worker-port=0", "--max-worker-port=0"]  # any that are free
        for _ in range(3):
            self.log = Path(self.folder, f"node_{len(self.started)}.log")
            with self.log.open("wb") as out:
                node = subprocess.Popen(
                    [sys.executable, "-m", "ray.scripts.scripts", "start", *common, *arguments],
                    stdout=out, stderr=out, env=environment(), start_new_session=True,
                )  # fmt: skip
            self.started.append(node)
            while node.poll() is None:
                if b"Ray runtime started" in self.log.read_bytes():
                    return node
                time.sleep(0.1)
        pytest.fail(self.log.read_text())

    def add_node(self) -> subprocess.Popen[bytes]:
        return self.start(f"--address={self.address}", "--num-cpus=1")

    def stop(self) -> None:
        for node in self.started[::-1]:
            kill(node)
        shutil.rmtree(self.folder, ignore_errors=True)


def environment() -> dict[str, str]:
    ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    ray |= {"RAY_memory_monitor_refresh_ms": "0"}  # others may fill the memory
    return os.environ | ray | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    cluster = Cluster()
    try:
        cluster.add_node()
        yield cluster
    finally:
        cluster.stop()


def start(cluster: Cluster, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "lenet_lightning", *arguments, "--executor", "ray"]
    return subprocess.Popen(
        line,
        env=environment() | {"RAY_ADDRESS": cluster.address} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int) -> str:
    try:
        out, error = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == code, out + error
    assert "raylet" not in out
    return error


def wait_for_epochs(process: subprocess.Popen[str], folder: Path, runs: int) -> None:
    """Wait until so many runs have five epochs in metrics.csv, and hold."""

    def holds(run: run_folder.Run) -> bool:
        rows = run_folder.read_rows(run.folder / "metrics.csv")
        return run.manifest.status == "running" and len(rows) == 5

    end = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < end:
        files = folder.glob("*/*/version_*/metrics.csv")
        if sum(holds(run_folder.read(file.parent)) for file in files) == runs:
            return
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate())


def same_run(first: Path, second: Path) -> None:
    def rows(folder: Path) -> list[dict[str, str]]:
        found = run_folder.read_rows(folder / "metrics.csv")
        return [{k: v for k, v in row.items() if k != "seconds"} for row in found]

    assert rows(first) == rows(second)
    arrays = [np.load(folder / "test_predictions.npz") for folder in (first, second)]
    assert all((arrays[0][key] == arrays[1][key]).all() for key in arrays[0])
    for name in ("best.ckpt", "last.ckpt"):
        weights = [
            torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]
            for folder in (first, second)
        ]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def summary(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def statuses(folder: Path) -> list[str]:
    return [run.manifest.status for each in folder.glob("*/*") for run in run_folder.read_all(each)]


@pytest.mark.cluster
class TestCluster:
    """In this order: the last test kills the head."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "base.yaml").write_text(BASE)
        (tmp_path / "tiny.yaml").write_text(STUDY)
        return tmp_path

    def test_a_node_that_is_killed_changes_nothing(self, cluster: Cluster, place: Path) -> None:
        go = place / "go"
        go.touch()
        assert command.main([*LINE[1:], "--logs", "local", "--jobs", "2"]) == 0
        go.unlink()
        second = cluster.add_node()
        study = start(cluster, *LINE, "--logs", "ray")
        wait_for_epochs(study, place / "ray/tiny", 2)
        kill(second)
        go.touch()
        assert "[2/2]" in finish(study, 0)
        for one in (place / "local/tiny").glob("*/*/version_0"):
            (other,) = (place / "ray" / one.relative_to(place / "local")).parent.glob("version_*")
            same_run(one, other)
        assert summary(place / "local/tiny") == summary(place / "ray/tiny")
        logs = [log.read_text() for log in (place / "ray/tiny").glob("*/*/output.log")]
        assert sum(", continued" in log for log in logs) == 1

    def test_a_study_that_is_stopped_or_killed_goes_on(self, cluster: Cluster, place: Path) -> None:
        folder = place / "lightning_logs/tiny"
        study = start(cluster, *LINE)
        wait_for_epochs(study, folder, 1)
        study.send_signal(signal.SIGINT)
        assert "to resume:\n  python -m lenet_lightning study" in finish(study, 130)
        assert statuses(folder) == ["interrupted"]

        study = start(cluster, *LINE)
        wait_for_epochs(study, folder, 1)
        study.kill()
        study.communicate()

        (place / "go").touch()
        finish(start(cluster, *LINE), 0)
        assert statuses(folder) == ["finished"] * 2
        # What is finished is not trained again.
        assert "/2]" not in finish(start(cluster, *LINE), 0)

    def test_a_sweep_has_the_same_trials(self, cluster: Cluster, place: Path) -> None:
        pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[sweep]'")
        (place / "sweep.yaml").write_text(SWEEP)
        (place / "base.yaml").write_text(BASE.replace(HOLD, ""))
        line = ["--config", "sweep.yaml", "--logs"]
        assert sweep_command.main([*line, "local", "--jobs", "2"]) == 0
        finish(start(cluster, "sweep", *line, "ray"), 0)
        tables = [(place / logs / "mine" / "trials.csv").read_text() for logs in ("local", "ray")]
        assert tables[0] == tables[1] and tables[0].count("complete") == 2

    def test_nodes_that_cannot_train(self, cluster: Cluster, place: Path) -> None:
        script = subprocess.run(
            [sys.executable, "-c", REFUSALS],
            env=environment() | {"RAY_ADDRESS": cluster.address},
            capture_output=True,
            text=True,
        )
        assert script.returncode == 0, script.stderr
        path, data, code, size = script.stdout.splitlines()
        assert f"does not see {place}/nowhere.yaml: put it on a file system" in path
        assert "has no MNIST: " in data
        assert "has another version of lenet_lightning: install the same" in code
        assert "the 3 processor cores and 0 GPUs that a run needs" in size

    def test_a_study_without_the_token(self, cluster: Cluster, place: Path) -> None:
        study = start(cluster, *LINE, RAY_AUTH_TOKEN="", HOME=str(place))
        assert "The cluster must have the token" in finish(study, 2)
        assert not [*place.glob("lightning_logs/tiny/*/*")]

    def test_a_head_that_is_killed(self, cluster: Cluster, place: Path) -> None:
        study = start(cluster, *LINE)
        wait_for_epochs(study, place / "lightning_logs/tiny", 1)
        kill(cluster.head)
        error = finish(study, 2)
        assert "The head of the Ray cluster" in error
        assert "to resume:\n  python -m lenet_lightning study --config tiny.yaml" in error
