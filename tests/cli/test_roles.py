"""A verdict on each of Lightning's classes: what it does here is seen, or it is refused."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lenet_lightning.cli import roles
from lenet_lightning.store import checkpoints, run_folder
from tests.conftest import DIGITS, PLAIN, Run

# Where classes of these modules of Lightning stand in a configuration.
KEYS = {
    "callbacks": "trainer.callbacks",
    "loggers": "trainer.logger",
    "profilers": "trainer.profiler",
    "plugins": "trainer.plugins",
    "strategies": "trainer.strategy",
}
EVERY = [
    (key, f"lightning.pytorch.{module}.{name}")
    for module, key in KEYS.items()
    for name in importlib.import_module(f"lightning.pytorch.{module}").__all__
]
ENVIRONMENTS = "lightning.fabric.plugins.environments"
EVERY += [
    ("trainer.plugins", f"{ENVIRONMENTS}.{name}")
    for name in dir(importlib.import_module(ENVIRONMENTS))
    if name.endswith("Environment")
]
REFUSED = [(key, path) for key, path in EVERY if path in roles.UNFIT]
WORKING = {path for key in KEYS.values() for path in roles.ROLES[key] if "lightning." in path}
WORKING = {path for path in WORKING if not path.startswith("lenet_lightning.")}

# The test below that sees what each class that may be named does.
SEEN_BY = {
    "test_callbacks": "EarlyStopping EMAWeightAveraging LearningRateMonitor ModelSummary "
    "ModelCheckpoint TensorBoardLogger CSVLogger",
    "test_accumulation": "GradientAccumulationScheduler",
    "test_progress_bars": "TQDMProgressBar RichProgressBar RichModelSummary",
    "test_device_stats": "DeviceStatsMonitor",
    "test_profilers": "SimpleProfiler AdvancedProfiler PyTorchProfiler PassThroughProfiler",
    "test_strategy": "DDPStrategy",
    "test_environments": "LightningEnvironment SLURMEnvironment TorchElasticEnvironment",
}
RUN = Path("lightning_logs/digits/version_0")


def config(key: str, *specs: Any) -> str:
    """Write a configuration with these classes at a key; return the options that name it."""
    group, name = key.split(".")
    value = list(specs) if name in ("callbacks", "logger", "plugins") else specs[0]
    Path(f"{name}.yaml").write_text(yaml.safe_dump({group: {name: value}}))
    return f"--config {name}.yaml"


def spec(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


@pytest.mark.parametrize(("key", "path"), EVERY)
def test_every_class_has_a_verdict(key: str, path: str) -> None:
    """One of a newer Lightning must be given one; until then a configuration cannot name it."""
    verdicts = [roles.UNFIT, roles.SERVICES, roles.TAKE_FUNCTIONS, roles.ROLES[key]]
    assert sum(path in verdict for verdict in verdicts) == 1


def test_every_class_that_may_be_named_is_seen_at_work() -> None:
    seen = " ".join(SEEN_BY.values()).split()
    assert sorted(seen) == sorted(path.rpartition(".")[2] for path in WORKING)
    assert SEEN_BY.keys() <= globals().keys()


@pytest.mark.parametrize(("key", "path"), REFUSED)
def test_refused(run: Run, key: str, path: str) -> None:
    name = path.rpartition(".")[2]
    for named in (path, roles.definition(path), name):
        options = config(key, {"class_path": named})
        for more in ("", f"--allow_imports {path}"):
            refused = run(f"{DIGITS} {options} {more}")
            assert refused.code == 2 and refused.err.count("\n") == 1, refused
            assert f"{key} cannot take {name}: {roles.UNFIT[path]}." in refused.err
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("path", roles.TAKE_FUNCTIONS)
def test_what_takes_functions_needs_the_flag(run: Run, path: str) -> None:
    options = config("trainer.callbacks", {"class_path": path})
    refused = run(f"{PLAIN} {options}")
    assert refused.code == 2 and f"--allow_imports {path}" in refused.err
    assert run(f"{PLAIN} {options} --trainer.max_epochs 1 --allow_imports {path}").code == 0


@pytest.mark.parametrize("path", roles.PACKAGES)
def test_missing_packages(run: Run, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    find_spec = importlib.util.find_spec
    package = roles.PACKAGES[path]
    monkeypatch.setattr(
        "lenet_lightning.cli.trust.find_spec", lambda name: None if name == package else find_spec
    )
    key = "trainer.logger" if path in roles.SERVICES else "trainer.callbacks"
    options = config(key, {"class_path": path})
    refused = run(f"{DIGITS} {options} --allow_imports {path}")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert key in refused.err and refused.err.endswith(f": pip install {package}.\n")
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("path", roles.SERVICES)
def test_services_need_the_flag(run: Run, path: str) -> None:
    refused = run(f"{DIGITS} {config('trainer.logger', {'class_path': path})}")
    assert refused.code == 2 and f"--allow_imports {path}" in refused.err
    assert f"pip install {roles.SERVICES[path]}" in refused.err


@pytest.mark.parametrize(
    ("key", "path", "argument"),
    [
        ("trainer.strategy", "lightning.pytorch.strategies.DDPStrategy", "static_grap"),
        ("trainer.logger", "lightning.pytorch.loggers.TensorBoardLogger", "flush_sec"),
        ("trainer.profiler", "lightning.pytorch.profilers.PyTorchProfiler", "with_stak"),
        ("trainer.callbacks", "lightning.pytorch.callbacks.EMAWeightAveraging", "x"),
    ],
)
def test_further_arguments(run: Run, key: str, path: str, argument: str) -> None:
    arguments = {"save_dir": "logs"} if "logger" in key else {}
    named = spec(path, **arguments) | {"dict_kwargs": {argument: 1}}
    refused = run(f"{DIGITS} {config(key, named)}")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert f"{key}.{argument} is not an argument of {path.rpartition('.')[2]}" in refused.err
    assert argument == "x" or "; did you mean " in refused.err


def test_callbacks(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Each by its own effect on one run, of two epochs where five were to be."""
    callbacks = config(
        "trainer.callbacks",
        spec("EarlyStopping", monitor="val/loss", mode="max", patience=1),
        spec("EMAWeightAveraging", decay=0.9),
        spec("LearningRateMonitor"),
        spec("ModelSummary"),
        spec(
            "ModelCheckpoint", monitor="val/loss", dirpath="kept", filename="{epoch}", save_top_k=-1
        ),
    )
    loggers = config(
        "trainer.logger",
        spec("CSVLogger", save_dir="csv", name=None, version=""),
        spec("TensorBoardLogger", save_dir="board"),
    )
    done = run(f"{DIGITS} {callbacks} {loggers} --trainer.max_epochs 5")
    assert done.code == 0
    trained = run_folder.read(RUN)
    assert trained.manifest.stopped_early and len(trained.metrics["epoch"]) == 2
    kept = sorted(path.name for path in Path("kept").glob("*.ckpt"))
    assert kept == ["epoch=0.ckpt", "epoch=1.ckpt"]
    assert "averaging_state" in checkpoints.load(RUN / "checkpoints/last.ckpt")
    assert "lr-KerasAdam" in Path("csv/metrics.csv").read_text()
    assert list(Path("board").rglob("events.out.tfevents.*"))
    assert "Total params" in done.err + caplog.text


def test_accumulation(run: Run) -> None:
    """Two of the 21 batches of an epoch make a step."""
    named = spec("GradientAccumulationScheduler", scheduling={0: 2})
    assert run(f"{PLAIN} {config('trainer.callbacks', named)} --trainer.max_epochs 1").code == 0
    assert list(run_folder.read(RUN).metrics["step"]) == [11]


def test_progress_bars(run: Run) -> None:
    pytest.importorskip("rich")
    one = f"{PLAIN} --trainer.max_epochs 1"
    bar = run(f"{one} {config('trainer.callbacks', spec('TQDMProgressBar'))}")
    assert bar.code == 0 and "Epoch 0" in bar.out + bar.err
    rich = config("trainer.callbacks", spec("RichProgressBar"), spec("RichModelSummary"))
    bar = run(f"{one} {rich}")
    assert bar.code == 0 and "Total params" in bar.out + bar.err
    for name in ("TQDMProgressBar", "RichProgressBar"):
        options = config("trainer.callbacks", spec(name))
        refused = run(f"{one} {options} --trainer.enable_progress_bar false")
        assert refused.code == 2 and name in refused.err


def test_device_stats(run: Run) -> None:
    pytest.importorskip("psutil")
    logger = config("trainer.logger", spec("CSVLogger", save_dir="csv", name=None, version=""))
    callback = config("trainer.callbacks", spec("DeviceStatsMonitor"))
    assert run(f"{DIGITS} {logger} {callback} --trainer.max_epochs 1").code == 0
    assert "cpu_percent" in Path("csv/metrics.csv").read_text()


@pytest.mark.parametrize("name", ["LearningRateMonitor", "DeviceStatsMonitor"])
def test_what_writes_to_a_logger_needs_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(roles, "PACKAGES", {})
    monkeypatch.setattr("lenet_lightning.cli.trust.PACKAGES", {})
    refused = run(f"{PLAIN} {config('trainer.callbacks', spec(name))}")
    assert refused.code == 2 and f"{name}, which writes to a logger" in refused.err
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    "name", ["SimpleProfiler", "AdvancedProfiler", "PyTorchProfiler", "PassThroughProfiler"]
)
@pytest.mark.filterwarnings(
    "ignore:.*Profiler default schedule will be overridden",
    "ignore:.*Profiler clears events at the end of each cycle",  # torch 2.10
)
def test_profilers(run: Run, name: str) -> None:
    """In the run folder, unless another is given."""
    measures = name != "PassThroughProfiler"
    options = config("trainer.profiler", spec(name, **{"filename": "seen"} if measures else {}))
    assert run(f"{PLAIN} {options} --trainer.max_epochs 1").code == 0
    assert bool(list(RUN.glob("*.txt"))) == measures
    if not measures:
        return
    (report,) = RUN.glob("fit-seen*.txt")
    what = "Self CPU time total" if name == "PyTorchProfiler" else "training_step"
    assert what in report.read_text()


def test_a_profile_is_printed(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    done = run(f"{PLAIN} --trainer.profiler simple --trainer.max_epochs 1")
    assert done.code == 0 and "run_training_epoch" in done.err + caplog.text


def test_a_checkpoint_callback_beside_the_run_s_own(run: Run) -> None:
    """Even one like the run's own, and one without arguments: in the run's folder."""
    options = config("trainer.callbacks", spec("ModelCheckpoint"))
    assert run(f"{PLAIN} {options} --trainer.max_epochs 1").code == 0
    names = {path.name for path in (RUN / "checkpoints").glob("*.ckpt")}
    assert names == {"best.ckpt", "last.ckpt", "last.previous.ckpt", "epoch=0-step=21.ckpt"}
    options = config("trainer.callbacks", spec("ModelCheckpoint", monitor="val/acc", mode="max"))
    assert run(f"{PLAIN} {options} --trainer.max_epochs 1").code == 0


def test_environments(run: Run) -> None:
    """On one device each lets the training be what it is without."""
    for name in SEEN_BY["test_environments"].split():
        path = f"{ENVIRONMENTS}.{name}"
        options = config("trainer.plugins", {"class_path": path})
        ended = run(f"{PLAIN} {options} --trainer.max_epochs 1 --name {name}")
        assert (ended.code, ended.err) == (0, ""), name


def test_strategy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.setenv(variable, "")  # so that it is unset again
        monkeypatch.delenv(variable)
    named = spec("lightning.pytorch.strategies.DDPStrategy", start_method="spawn")
    refused = run(f"{DIGITS} {config('trainer.strategy', named)}")
    assert refused.code == 2 and "trainer.strategy.start_method is spawn" in refused.err
    named = spec("lightning.pytorch.strategies.DDPStrategy", process_group_backend="gloo")
    options = f"{config('trainer.strategy', named)} --trainer.devices 1 --trainer.max_epochs 1"
    assert run(f"{PLAIN} {options}").code == 0
    assert torch.distributed.get_backend() == "gloo"
    torch.distributed.destroy_process_group()
