"""Every shipped configuration is accepted by the real command line and explained key by key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lenet_lightning.cli import lightning_cli
from tests.conftest import REPOSITORY, Run
from tests.data import fakes

CONFIGS = REPOSITORY / "configs"
OTHERS = ("debug", "studies", "sweeps")  # parts of a job, and files of another command
JOBS = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in OTHERS)
PRESETS = sorted((CONFIGS / "debug").glob("*.yaml"))
EVERY = [*JOBS, *PRESETS]  # studies have tests of their own


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def leaves(node: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value by its path of keys; init_args and class_path of the parser included."""
    found = {}
    for key, value in node.items():
        nested = leaves(value, (*prefix, key)) if isinstance(value, dict) else {}
        found |= nested or {(*prefix, key): value}
    return found


@pytest.fixture(autouse=True)
def pictures() -> None:
    """The folder that ``image_folder.yaml`` names."""
    fakes.write_pictures(Path("pictures"), 20)


def test_there_are_some() -> None:
    assert {name(path) for path in JOBS} >= {
        "mnist.yaml", "fashion_mnist.yaml", "cifar10.yaml", "digits.yaml",
        "mnist_half_negative.yaml", "report/mnist.yaml",
    }  # fmt: skip
    assert len(PRESETS) >= 4


@pytest.mark.parametrize("path", JOBS, ids=name)
def test_job(path: Path) -> None:
    """It is accepted, and every value it states is the one that is used."""
    parsed = lightning_cli.parse(["fit", "--config", str(path)])
    parsed["model"]["network"] = parsed["model"]["network"]["init_args"]  # LeNet5 by default
    config = leaves(parsed)
    for keys, value in leaves(yaml.safe_load(path.read_text())).items():
        if keys[-1] == "class_path":
            assert config[keys].endswith(value)
        else:
            assert config[keys] == value, ".".join(keys)


@pytest.mark.parametrize("path", JOBS, ids=name)
def test_job_says_how_it_is_run(path: Path) -> None:
    command = f"python -m lenet_lightning fit --config configs/{name(path)}"
    assert command in path.read_text()


@pytest.mark.parametrize("path", PRESETS, ids=name)
def test_preset(path: Path) -> None:
    """It can be stacked on a job and changes what it states, and the schedule's length with it."""
    job = ["--config", str(CONFIGS / "mnist.yaml")]
    plain = leaves(lightning_cli.parse(["fit", *job]))
    stacked = leaves(lightning_cli.parse(["fit", *job, "--config", str(path)]))
    stated = leaves(yaml.safe_load(path.read_text()))
    for keys, value in stated.items():
        assert stacked[keys] == value
    changed = {k for k in plain.keys() | stacked.keys() if plain.get(k) != stacked.get(k)}
    assert changed
    for keys in changed - {("model", "scheduler", "init_args", "T_max")}:
        assert any(keys[: len(start)] == start for start in stated), ".".join(keys)


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_every_key_has_a_comment(path: Path) -> None:
    """A line with a value is explained on that line, or by the comment above it."""
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    for number, line in enumerate(lines, 1):
        key = re.match(r"\s*(?:- )?([\w./]+):(.*)", line)
        if key is None or line.lstrip().startswith("#"):
            continue
        opens_a_block = not key[2].partition("#")[0].strip() or key[1] == "class_path"
        above = number > 1 and lines[number - 2].lstrip().startswith("#")
        assert opens_a_block or " # " in line or above, f"{name(path)}:{number}: {line}"


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_lines_are_short(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert len(line) <= 110, f"{name(path)}:{number}"


@pytest.mark.parametrize("path", PRESETS, ids=name)
def test_preset_runs(run: Run, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    fakes.install_tiny(monkeypatch, Path("datasets"), ["MNIST"])
    sizes = "--data.batch_size 20 --data.val_size 50 --data.subset 100 --trainer.max_epochs 1"
    command = f"fit --config {CONFIGS}/mnist.yaml --config {path} --trainer.accelerator cpu {sizes}"
    outcome = run(command, "--logs", "runs", "--trainer.logger", "false")
    assert outcome.code == 0, outcome.err
    assert bool(list(Path().rglob("version_0"))) == ("fast_dev_run" not in path.name)


@pytest.mark.parametrize("path", [p for p in JOBS if p.parent.name in ("best", "fast")], ids=name)
def test_learning_rate_falls_to_the_end(path: Path) -> None:
    """The schedule has as many steps as the training, of all images but the 5,000 held out."""
    config = yaml.safe_load(path.read_text())
    data, model = config["data"], config["model"]
    images = {"MNIST": 60_000, "FashionMNIST": 60_000, "CIFAR10": 50_000}[data["class_path"]]
    steps = -(-(images - data["init_args"]["val_size"]) // data["init_args"]["batch_size"])
    per_epoch = {"step": steps, "epoch": 1}[model["scheduler_interval"]]
    expected = config["trainer"]["max_epochs"] * per_epoch
    options = model["scheduler"]["init_args"]
    if model["scheduler"]["class_path"].endswith("LinearCycles"):
        assert expected > options["first"] and (expected - options["first"]) % options["every"] == 0
    else:
        assert options["total_iters"] == expected
