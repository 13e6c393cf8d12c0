"""The benchmarks start, read what variants print, and say what they lack; nothing is timed."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lenet_lightning.callbacks.recorder import EPOCH_COLUMNS, epoch_line
from lenet_lightning.networks.lenet5 import LeNet5
from tests.networks.compiler import needs_kernel

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = [
    "epoch", "time_to_accuracy", "scaling", "throughput", "startup", "gpu", "polarity",
    "arithmetic", "own_pictures", "executors", "pretrained",
]  # fmt: skip


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Import a benchmark as its script does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    for name in ("common", *SCRIPTS):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in ("common", *SCRIPTS):
        sys.modules.pop(name, None)


@pytest.fixture
def common(load) -> ModuleType:
    return load("common")


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_explains_itself(name: str) -> None:
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--output" in done.stdout or name == "pretrained"


@needs_kernel
def test_parts_of_a_step_can_be_run(load) -> None:
    network, images = LeNet5(kernel="fused"), torch.rand(2, 1, 32, 32)
    for part in load("arithmetic").runs_of(network, images, torch.tensor([3, 8])).values():
        part()


def test_missing_environment_is_one_sentence(common: ModuleType) -> None:
    with pytest.raises(
        SystemExit, match=r"^There is no interpreter nowhere/python: python -m venv"
    ):
        common.versions("nowhere/python", ("torch",))


def test_missing_package_is_one_sentence(common: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"has no package no-such-package: python -m venv"):
        common.versions(sys.executable, ("torch", "no-such-package"))


def test_missing_data_is_one_sentence(common: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"^There is no MNIST in datasets: .* data fetch MNIST"):
        common.need_data("MNIST", "datasets")


def test_failed_variant_says_its_last_line(common: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"ended with exit code 1: ValueError: why$"):
        common.run([sys.executable, "-c", "raise ValueError('why')"])


def test_usage_of_a_process(common: ModuleType) -> None:
    usage = common.run([sys.executable, "-c", "x = bytes(10**8); print(len(x))"])
    assert usage.output == "100000000\n"
    assert usage.peak_mb > 100


def test_peers_and_scripts_exist(common: ModuleType) -> None:
    for peer in common.PEERS.values():
        assert (BENCHMARKS / "peers" / peer.script).is_file()


def test_rounds_without_a_figure_are_left_out(common: ModuleType) -> None:
    assert common.ratios([1.0, 2.0, 3.0], [2.0, math.nan, 4.0]) == [0.5, 0.75]
    assert common.spread([]) == "never"
    assert common.spread([1.0, 3.0, 2.0], 1) == "2.0 (1.0 to 3.0)"


def test_results_are_appended_under_one_header(common: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "results" / "some.csv"
    for _ in range(2):
        common.append(path, 2, [{"variant": "ours", "seconds": "1.0"}])
    lines = path.read_text().splitlines()
    assert lines[0] == "date,machine,cores,variant,seconds"
    assert lines[1] == lines[2]
    assert len(lines) == 3
    with pytest.raises(SystemExit, match="has other columns"):
        common.append(path, 2, [{"variant": "ours", "minutes": "1.0"}])


def test_race_reads_our_epochs_and_those_of_peers(load) -> None:
    race = load("time_to_accuracy")
    row = {"epoch": 3, "train/loss": 0.1, "train/acc": 0.5, "val/loss": 0.2, "val/acc": 0.9801}
    row |= {"val/acc_negative": 0.3, "seconds": 1.5}
    assert race.accuracy(epoch_line(row, list(EPOCH_COLUMNS), 40)) == pytest.approx(0.9801)
    assert race.accuracy('{"seconds": 1.0, "accuracy": 0.97}') == 0.97
    assert race.accuracy("Run folder logs/run/version_0") is None


def test_race_finds_the_first_epoch_of_each_target(load) -> None:
    race = load("time_to_accuracy")
    epochs = [(1.0, 0.97), (2.0, 0.98), (3.0, 0.979), (4.0, 0.985)]
    first, second = race.arrivals(epochs, [0.98, 0.99])
    assert first == (2.0, 2)
    assert math.isnan(second.seconds)


def test_gpu_script_on_the_processor(
    load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = load("gpu")
    arguments = ["gpu.py", "--device", "cpu", "--rounds", "1", "--steps", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", "gpu.csv"])
    gpu.main()
    assert "| MNIST | 64 | eager | 0.0e+00 |" in capsys.readouterr().out
    assert len(Path("gpu.csv").read_text().splitlines()) == 1 + 2 * 3
