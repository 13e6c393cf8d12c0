"""Two processes on the CPU train as one does, whoever starts them; strays change nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from lenet_lightning import distributed
from lenet_lightning.data import fetch
from lenet_lightning.errors import UserError
from lenet_lightning.store import manifest, run_folder
from tests.cli.test_lightning_cli import metrics, weights
from tests.conftest import DIGITS, PLAIN, REPOSITORY, Outcome, Run
from tests.faults.test_slurm import JOB, wait_until
from tests.float64_training import train
from tests.power_cut import kill

# 1,294 training images in batches of 50, 143 for validation, 360 for testing: no share is even.
OPTIONS = f"{PLAIN} --data.batch_size 50 --data.eval_batch_size 50 --model.tta_shift 1"
TWO = "--trainer.devices 2 --trainer.strategy ddp"


SECONDS = 500  # a deadlock fails the test
TORCHRUN = "torch.distributed.run --standalone --nproc_per_node 2 -m"


def start(
    *options: str, launcher: str = "", module: str = "lenet_lightning", **variables: str
) -> subprocess.Popen[str]:
    """Start a command in a process of its own, with more environment variables."""
    clean = {k: v for k, v in os.environ.items() if k not in distributed.RANK_VARIABLES}
    environment = clean | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)} | variables
    command = f"{launcher} {module} {' '.join(options)}".split()
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process; one that hangs is stopped."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its processes
        process.wait(SECONDS)
        raise
    finally:
        process.kill()
    # torch 2.10 prints a line of every connection that it makes.
    out = "".join(line for line in out.splitlines(True) if not line.startswith("[Gloo]"))
    return Outcome(process.returncode, out, err)


def launch(*options: str, launcher: str = "", **variables: str) -> str:
    """Run a command in processes of its own; return what it prints."""
    done = end(start(*options, launcher=launcher, **variables))
    assert done.code == 0, done.err
    return done.out


def srun(tasks: int, *options: str) -> list[Outcome]:
    """Run a command as ``srun -n`` starts it on one node: without SLURM_NTASKS_PER_NODE."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {k: v for k, v in JOB.items() if k != "SLURM_NTASKS_PER_NODE"}
    job |= {"SLURM_NTASKS": str(tasks), "MASTER_PORT": port}
    ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(tasks)]
    return [end(each) for each in [start(*options, **(job | rank)) for rank in ranks]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on two processes."""
    logs = tmp_path_factory.mktemp("logs")
    launch(OPTIONS, TWO, "--logs", str(logs), "--name", "two")
    return logs / "two/version_0"


# In float64: sums over 25 and 25 images and over 50 differ by rounding. Training multiplies that
# difference at every step, in float32 from 1e-7 to 3e-4 on some processors; here from 1e-16.
def test_same_training(tmp_path: Path) -> None:
    paths = [tmp_path / f"{count}.pt" for count in (1, 2)]
    train(1, paths[0])
    done = end(start("2", str(paths[1]), module="tests.float64_training"))
    assert done.code == 0, done.err
    one, two = (torch.load(path) for path in paths)
    assert one["weights"].keys() == two["weights"].keys()
    for name, tensor in one["weights"].items():
        assert tensor.dtype == torch.float64
        torch.testing.assert_close(two["weights"][name], tensor, rtol=0, atol=1e-10)
    assert {"val/loss", "test/loss_views", "test/acc_negative"} <= one["metrics"].keys()
    assert one["metrics"].keys() == two["metrics"].keys()
    for name, value in one["metrics"].items():
        # Counts are exact. Losses are added up in float32, at most 26 batches in an epoch.
        most = 26 * torch.finfo(torch.float32).eps if "loss" in name else 0
        assert float(two["metrics"][name]) == pytest.approx(float(value), rel=most), name
    # Kept in float32: of neighbouring numbers either may be the nearest.
    torch.testing.assert_close(two["logits"], one["logits"], rtol=2e-7, atol=1e-9)


def test_every_image_counts_once(two: Path) -> None:
    manifest = run_folder.read(two).manifest
    assert manifest.devices == 2
    for key in ("acc", "acc_negative", "acc_views"):
        count = manifest.test[key] * 360
        assert count == pytest.approx(round(count), abs=1e-4)
    for key in ("acc", "acc_negative"):
        for row in metrics(two):
            count = float(row[f"val/{key}"]) * 143
            assert count == pytest.approx(round(count), abs=1e-4)
    labels = fetch.load("Digits", "datasets", download=False).test.labels
    with np.load(two / "test_predictions.npz") as predictions:
        np.testing.assert_array_equal(predictions["labels"], labels)
        for kind, key in (("original", "acc"), ("negative", "acc_negative")):
            right = (predictions[kind] == labels).mean()
            assert manifest.test[key] == pytest.approx(right, abs=1e-7)


def test_one_run_folder(two: Path) -> None:
    assert [path.name for path in two.parent.iterdir()] == ["version_0"]
    assert run_folder.read(two).manifest.status == "finished"


def test_one_process_can_test_what_two_trained(two: Path, run: Run) -> None:
    best = two / "checkpoints" / "best.ckpt"
    options = "--trainer.devices 1 --trainer.strategy auto"
    assert run(f"test --ckpt_path {best} {options}").code == 0
    manifest = run_folder.read(two).manifest
    (test,) = manifest.evaluations
    for key in ("acc", "acc_negative", "acc_views"):
        # Rounding may decide between two classes of one image.
        assert abs(test[key] - manifest.test[key]) * 360 < 1.5


# README's line, interrupted: every process must resume from the checkpoint, or they hang.
def test_torchrun_resumes() -> None:
    options = f"{PLAIN} --trainer.devices 2 --trainer.max_epochs 40 --name run"
    first = start(options, launcher=TORCHRUN)
    folder = Path("lightning_logs/run/version_0")
    wait_until((folder / "metrics.csv").exists)
    first.send_signal(signal.SIGINT)
    assert end(first).code != 0
    left = run_folder.read(folder)
    assert left.manifest.status == "interrupted"
    out = launch(options, "--resume must", launcher=TORCHRUN)
    assert out.count(f"Run folder {folder}, continued") == 1
    ended = run_folder.read(folder)
    assert ended.manifest.status == "finished"
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    done = len(left.metrics["epoch"])
    np.testing.assert_array_equal(ended.metrics["epoch"], np.arange(40))
    np.testing.assert_array_equal(ended.metrics["val/loss"][:done], left.metrics["val/loss"])


def test_torchrun_tests_once(trained: Path) -> None:
    out = launch(f"test --ckpt_path {trained}/checkpoints/best.ckpt", launcher=TORCHRUN)
    assert out.count("(test)") == 1
    (test,) = run_folder.read(trained).manifest.evaluations
    assert test["acc"] == pytest.approx(run_folder.read(trained).manifest.test["acc"], abs=1e-7)


def test_srun_trains_one_run() -> None:
    ended = srun(2, PLAIN, TWO, "--name run")
    assert [each.code for each in ended] == [0, 0], ended[0].err
    assert ended[0].out.count("originals") == 1 and ended[1].out == ""
    (folder,) = Path("lightning_logs/run").iterdir()
    assert run_folder.read(folder).manifest.devices == 2


def test_srun_starts_runs_of_their_own() -> None:
    ended = srun(2, DIGITS, "--name run")
    assert [each.code for each in ended] == [0, 0], ended[0].err
    for each in ended:
        assert each.out.count("originals") == 1
    folders = sorted(Path("lightning_logs/run").iterdir())
    assert [folder.name for folder in folders] == ["version_0", "version_1"]
    for folder in folders:
        assert run_folder.read(folder).manifest.status == "finished"
        assert list(folder.glob("events.out.tfevents.*"))
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["run"]


def test_all_processes_end_where_one_refuses() -> None:
    ended = srun(2, PLAIN, TWO, "--resume must")
    assert [each.code for each in ended] == [2, 2]
    assert "--resume must: there is no unfinished run" in ended[0].err
    assert ended[1].err == ended[1].out == ""
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("config.yaml", "was removed while the run trained"), ("checkpoints", "/checkpoints")],
)
def test_all_processes_end_where_one_file_fails(name: str, said: str) -> None:
    started = start(f"{OPTIONS} --trainer.max_epochs 2000", TWO, "--name run")
    folder = Path("lightning_logs/run/version_0")
    wait_until((folder / "metrics.csv").exists)
    (folder / name).rename(folder / "moved")
    if name == "checkpoints":
        (folder / name).write_text("")
    ended = end(started)
    assert ended.code == 2 and ended.err.count("\n") == 1, ended.err
    assert said in ended.err
    assert run_folder.read_file(folder / "run.json", manifest.loads).status == "failed"


# Lightning's import reads them, and would start no second process with LOCAL_RANK.
def test_stray_variables(tmp_path: Path) -> None:
    stray = {name: "1" for name in (*distributed.RANK_VARIABLES, "SLURM_PROCID")}
    out = launch(PLAIN, TWO, f"--logs {tmp_path} --name run", **stray)
    assert out.count("originals") == 1
    assert run_folder.read(tmp_path / "run/version_0").manifest.status == "finished"


@pytest.mark.parametrize(
    ("launcher", "left"),
    [
        ({}, set()),
        ({"MASTER_PORT": "1"}, {"RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE"}),
        ({"SLURM_NTASKS": "2"}, {"SLURM_PROCID"}),
    ],
)
def test_drop_stray_variables(
    launcher: dict[str, str], left: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "SLURM_PROCID")
    for name in (*names, "MASTER_PORT", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "1")
        if name not in names and name not in launcher:
            monkeypatch.delenv(name)
    distributed.drop_stray_variables()
    assert {name for name in names if name in os.environ} == left


# As with RANK=1 beside MASTER_PORT, where Lightning is imported.
def test_one_device_is_rank_zero(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    ended = run(f"{DIGITS} --trainer.max_epochs 1 --logs {tmp_path}/logs --name run")
    assert ended.code == 0 and "originals" in ended.out
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["run"]
    assert list((tmp_path / "logs/run/version_0").glob("events.out.tfevents.*"))
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert "originals" in run(f"test --ckpt_path {trained}/checkpoints/best.ckpt").out


@pytest.mark.parametrize(
    ("tasks", "nodes", "expected"), [(4, 1, "4"), (4, 2, "2"), (5, 2, None), (1, 1, None)]
)
def test_tasks_per_node(
    tasks: int, nodes: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", str(tasks))
    monkeypatch.setenv("SLURM_NNODES", str(nodes))
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "")  # so that it is unset again
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    distributed.count_tasks_per_node()
    assert os.environ.get("SLURM_NTASKS_PER_NODE") == expected


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"SLURM_NTASKS": "4"}, TWO),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}, "--trainer.devices 1"),
    ],
)
def test_other_number_of_processes(
    variables: dict[str, str], options: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "1", "SLURM_NTASKS_PER_NODE": "4"}
    for name, value in ((JOB if "SLURM_NTASKS" in variables else {}) | rank | variables).items():
        monkeypatch.setenv(name, value)
    ended = run(f"{PLAIN} {options}")
    assert ended.code == 2 and "trainer.devices is" in ended.err and "srun" in ended.err
    assert not Path("lightning_logs").exists()


class FakeStrategy:
    """Rank 0 of two processes; ``external`` if a launcher has started both."""

    is_global_zero = True

    def __init__(self, external: bool, reachable: bool = True) -> None:
        self.cluster_environment = SimpleNamespace(creates_processes_externally=external)
        self.launcher, self.reachable = self, reachable
        self.calls: list[Any] = []

    def launch(self, function: Callable[[], None]) -> None:
        self.calls.append("launch")
        function()

    def kill(self, number: int) -> None:
        self.calls.append(number)

    def setup_environment(self) -> None:
        if not self.reachable:
            raise ConnectionError

    def broadcast(self, value: Any) -> Any:
        self.calls.append(value)
        return value


def refuse() -> None:
    raise UserError("no")


@pytest.mark.parametrize(("external", "calls"), [(False, []), (True, ["launch", (None, True)])])
def test_a_refusal_starts_no_process(external: bool, calls: list[Any]) -> None:
    strategy: Any = FakeStrategy(external)
    with pytest.raises(UserError, match="no"):
        distributed.decide_once(strategy, refuse)
    assert strategy.calls == calls


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (torch.distributed.DistNetworkError("Failed to recv, got 0 bytes."), True),
        (RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:48868."), True),
        (RuntimeError("Tensors must be contiguous"), False),
    ],
)
def test_a_process_that_is_gone(error: RuntimeError, lost: bool) -> None:
    assert distributed.has_lost_peer(error) == lost


def test_a_decision_is_broadcast() -> None:
    strategy: Any = FakeStrategy(external=False)
    assert distributed.decide_once(strategy, lambda: 3) == 3
    assert strategy.calls == ["launch", (3, False)]


def test_no_process_is_left_behind() -> None:
    strategy: Any = FakeStrategy(external=False, reachable=False)
    with pytest.raises(ConnectionError):
        distributed.decide_once(strategy, lambda: 3)
    assert strategy.calls == ["launch", signal.SIGKILL]


def test_no_folder_is_left_behind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(strategy: Any, decide: Callable[[], Any]) -> None:
        assert decide()[1].is_dir()
        raise UserError("unreachable")

    monkeypatch.setattr(distributed, "decide_once", fails)
    assert run(PLAIN).code == 2
    assert list(Path("lightning_logs").iterdir()) == []


def nodes(options: str, count: int = 2) -> list[subprocess.Popen[str]]:
    """One training on several nodes, each with a torchrun of its own, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = (
        f"torch.distributed.run --nnodes {count} --nproc_per_node 1 --max-restarts 0 "
        f"--rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{port} --local-addr 127.0.0.1 -m"
    )
    line = f"{options} --trainer.num_nodes {count} --trainer.devices 1 --trainer.strategy ddp"
    return [start(line, launcher=launcher) for _ in range(count)]


@pytest.mark.cluster
def test_two_nodes_train_one_run(two: Path) -> None:
    """As two processes on one node do, to the last bit, in one folder and with one voice."""
    ended = [end(node) for node in nodes(f"{OPTIONS} --name nodes")]
    assert [each.code for each in ended] == [0, 0], ended
    assert sum(each.out.count("originals") for each in ended) == 1
    (folder,) = Path("lightning_logs/nodes").iterdir()
    assert metrics(folder) == metrics(two)
    first, second = (weights(path / "checkpoints/best.ckpt") for path in (folder, two))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert run_folder.read(folder).manifest.test == run_folder.read(two).manifest.test


@pytest.mark.cluster
def test_two_nodes_go_on_after_one_was_killed() -> None:
    options = f"{PLAIN} --trainer.max_epochs 60 --name nodes"
    both = nodes(options)
    folder = Path("lightning_logs/nodes/version_0")
    wait_until((folder / "metrics.csv").exists)
    kill(both[1])
    assert all(end(node).code != 0 for node in both)
    left = len(run_folder.read(folder).metrics["epoch"])
    ended = [end(node) for node in nodes(f"{options} --resume must")]
    assert [each.code for each in ended] == [0, 0], ended
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    found = run_folder.read(folder)
    assert found.manifest.status == "finished" and 0 < left < 60
    np.testing.assert_array_equal(found.metrics["epoch"], np.arange(60))
