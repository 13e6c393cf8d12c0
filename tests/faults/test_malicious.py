"""Files from others: what would run foreign code is refused, and nothing of it is run."""

from __future__ import annotations

import hashlib
import os
import pickle
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from lenet_lightning.cli import evaluate
from lenet_lightning.cli.command_line import read
from lenet_lightning.store import checkpoints
from lenet_lightning.training.classifier import SPEC_KEY
from tests.conftest import Run

FIT = "fit --data Digits --trainer.accelerator cpu --trainer.max_epochs 1"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there once foreign code has run."""
    return tmp_path / "marker"


class Evil:
    """Creates the marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {shlex.quote(str(self.marker))}",)


def with_digest(path: Path) -> Path:
    """Give a file the digest that a checkpoint has beside it; the attacker can do that too."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    checkpoints.digest_path(path).write_text(f"{digest}\n")
    return path


def plain_pickle(trained: Path, marker: Path) -> Path:
    path = trained / "checkpoints/evil.ckpt"
    path.write_bytes(pickle.dumps(Evil(marker)))
    return with_digest(path)


def in_a_real_checkpoint(trained: Path, marker: Path) -> Path:
    checkpoint = checkpoints.load(trained / "checkpoints/best.ckpt")
    path = trained / "checkpoints/evil.ckpt"
    torch.save(checkpoint | {"hyper_parameters": Evil(marker)}, path)
    return with_digest(path)


def in_the_specification(trained: Path, marker: Path) -> Path:
    path = trained / "checkpoints/evil.ckpt"
    torch.save({SPEC_KEY: Evil(marker)}, path)
    return with_digest(path)


def as_a_whole_module(trained: Path, marker: Path) -> Path:
    path = trained / "checkpoints/evil.ckpt"
    torch.save(torch.nn.Linear(1, 1), path)
    return with_digest(path)


def as_torchscript(trained: Path, marker: Path) -> Path:
    path = trained / "checkpoints/evil.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(Evil(marker)))
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(marker)))
        archive.writestr("archive/version", "3\n")
    return with_digest(path)


@pytest.mark.parametrize(
    "make",
    [plain_pickle, in_a_real_checkpoint, in_the_specification, as_a_whole_module, as_torchscript],
)
def test_checkpoint(run: Run, trained: Path, marker: Path, make: Any) -> None:
    path = make(trained, marker)
    for command in (
        "test",
        "validate",
        "predict --data.root .",
        f"{FIT} --trainer.max_epochs 3",
        "export --format safetensors",
    ):
        refused = run(command, f"--ckpt_path {path}")
        assert refused.code == 2, command
        assert "only tensors and plain values are ever read from it" in refused.err, command
    assert not marker.exists()


def tampered(trained: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy, outside of any run folder, of a checkpoint whose stored configuration is changed."""
    checkpoint = checkpoints.load(trained / "checkpoints/best.ckpt")
    config = yaml.safe_load(checkpoint[checkpoints.CONFIG_KEY])
    change(config)
    path = Path("lone.ckpt")
    torch.save(checkpoint | {checkpoints.CONFIG_KEY: yaml.safe_dump(config)}, path)
    return path


def test_evaluations_ignore_the_stored_trainer(run: Run, trained: Path, marker: Path) -> None:
    """Neither callbacks nor loggers, teachers or folders of the training are used again."""

    def change(config: dict[str, Any]) -> None:
        config["logs"] = str(marker)
        config["trainer"] |= {
            "default_root_dir": str(marker),
            "limit_test_batches": 1,
            "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": str(marker)}},
            "callbacks": [
                {"class_path": "os.system", "init_args": {"command": f"touch {marker}"}},
                {"class_path": "Distillation", "init_args": {"teachers": ["nowhere.ckpt"]}},
            ],
        }

    path = tampered(trained, change)
    Image.new("L", (9, 9)).save("picture.png")
    for command in ("test", "validate", "predict --data.root picture.png", "predict --data Digits"):
        done = run(command, f"--ckpt_path {path} --trainer.accelerator cpu")
        assert done.code == 0, done.err
    assert "360 images" in run(f"test --ckpt_path {path} --trainer.accelerator cpu").out
    assert not marker.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.optimizer", {"class_path": "os.system", "init_args": {"command": "touch MARKER"}}),
        ("model.scheduler", {"class_path": "torch.hub.load"}),
        ("data", {"class_path": "os.system", "init_args": {"command": "touch MARKER"}}),
        ("model.unknown", 1),
        ("data.init_args.unknown", 1),
        ("data.init_args", 1),
        ("model", None),
        ("data", "Digits"),
    ],
)
def test_evaluations_check_the_stored_model_and_data(
    run: Run, trained: Path, marker: Path, key: str, value: Any
) -> None:
    def change(config: dict[str, Any]) -> None:
        *parts, last = key.split(".")
        for part in parts:
            config = config[part]
        config[last] = yaml.safe_load(yaml.safe_dump(value).replace("MARKER", str(marker)))

    refused = run(f"test --ckpt_path {tampered(trained, change)} --trainer.accelerator cpu")
    assert refused.code == 2
    assert key.split(".")[0] in refused.err and "Traceback" not in refused.err
    assert not marker.exists()


def test_evaluations_download_into_no_stored_folder(
    trained: Path,
) -> None:
    """A stored data.root is used where the dataset is there, and otherwise left."""

    def root(args: list[str]) -> str | None:
        line, _ = evaluate.prepared(read(args))
        return line.layers[0].config["data"]["init_args"].get("root")

    def change(config: dict[str, Any]) -> None:
        config["data"]["class_path"] = "lenet_lightning.MNIST"
        config["data"]["init_args"]["root"] = "elsewhere"

    args = ["test", "--ckpt_path", str(tampered(trained, change))]
    assert root(args) is None
    Path("elsewhere/MNIST").mkdir(parents=True)
    assert root(args) == "elsewhere"


def test_resuming_a_folder_with_a_malicious_checkpoint(
    run: Run, trained: Path, marker: Path
) -> None:
    text = (trained / "run.json").read_text().replace('"finished"', '"interrupted"')
    (trained / "run.json").write_text(text)
    evil = plain_pickle(trained, marker)
    for name in ("last.ckpt", "last.previous.ckpt", "best.ckpt"):
        for file in (evil, checkpoints.digest_path(evil)):
            target = trained / "checkpoints" / file.name.replace("evil.ckpt", name)
            target.write_bytes(file.read_bytes())
    fit = "fit --data Digits --trainer.accelerator cpu --trainer.max_epochs 2 --name trained"
    with pytest.warns(UserWarning, match="The one before it is tried"):
        refused = run(fit, "--resume must")
    assert refused.code == 2
    assert not marker.exists()


TOUCH = "{class_path: %s, init_args: {%s: touch MARKER}}"

CONFIGS = {
    "os.system as a callback": "trainer: {callbacks: [" + TOUCH % ("os.system", "command") + "]}",
    "os.system as the optimiser": "model: {optimizer: " + TOUCH % ("os.system", "command") + "}",
    "Popen as a callback": "trainer: {callbacks: [{class_path: subprocess.Popen, init_args: "
    "{args: [touch, MARKER]}}]}",
    "Popen as a plugin": "trainer: {plugins: [{class_path: subprocess.Popen, init_args: "
    "{args: [touch, MARKER]}}]}",
    "eval as the scheduler": "model: {scheduler: {class_path: builtins.eval, init_args: "
    '{source: \'open("MARKER", "w")\'}}}',
    "a module that torch imports": "trainer: {callbacks: ["
    + TOUCH % ("torch.os.system", "command")
    + "]}",
    "a function in a hook": "trainer: {callbacks: [{class_path: LambdaCallback, init_args: "
    "{on_fit_start: torch.os.abort}}]}",
    "torch's own function that runs files": "model: {optimizer: {class_path: torch.hub.load, "
    "init_args: {repo_or_dir: REPO, model: net, source: local, trust_repo: true}}}",
    "torch's own function in a hook": "trainer: {callbacks: [{class_path: LambdaCallback, "
    "init_args: {on_fit_start: torch.hub.load}}]}",
    "torch's own function in a schedule": "model: {scheduler: {class_path: "
    "torch.optim.lr_scheduler.LambdaLR, init_args: {lr_lambda: torch.load}}}",
    "torch's compiler": "model: {optimizer: {class_path: torch.utils.cpp_extension.load, "
    "init_args: {name: x, sources: [REPO/hubconf.py]}}}",
    "a class method": "data: {class_path: lightning.pytorch.LightningDataModule."
    "load_from_checkpoint, init_args: {checkpoint_path: REPO/evil.ckpt}}",
    "a YAML tag": "trainer: !!python/object/apply:os.system ['touch MARKER']",
    "another YAML tag": "model: !!python/object/new:subprocess.Popen [[touch, MARKER]]",
    "the flag itself": "allow_imports: [os]\ntrainer: {callbacks: ["
    + TOUCH % ("os.system", "command")
    + "]}",
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.filterwarnings("ignore:.*CUDA runtime:UserWarning")
def test_config(run: Run, marker: Path, name: str) -> None:
    repository = Path("repository")
    repository.mkdir()
    (repository / "hubconf.py").write_text(f"open({str(marker)!r}, 'w')\ndef net(): pass\n")
    text = CONFIGS[name].replace("MARKER", str(marker)).replace("REPO", str(repository.absolute()))
    if "data:" not in text:
        text += "\ndata: {class_path: Digits}"
    Path("evil.yaml").write_text(f"{text}\n")
    refused = run("fit --config evil.yaml --trainer.accelerator cpu")
    assert refused.code == 2
    said = refused.err.splitlines()[-1]  # torch remarks on a compiler that it does not find
    assert said.startswith("lenet_lightning: ") and "Traceback" not in refused.err
    assert not marker.exists()
    assert not Path("lightning_logs").exists()


def test_message_names_what_and_how(run: Run) -> None:
    refused = run(FIT, "--trainer.callbacks+ os.system")
    assert "trainer.callbacks names os.system" in refused.err
    assert "one of EarlyStopping," in refused.err
    assert "add --allow_imports os.system." in refused.err
    refused = run(FIT, "--model.scheduler LambdaLR --model.scheduler.lr_lambda torch.load")
    path = "torch.optim.lr_scheduler.LambdaLR"
    assert f"model.scheduler names {path}" in refused.err
    assert f"add --allow_imports {path}." in refused.err


def test_the_flag_opens_what_it_names(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine_for_the_flag.py").write_text(
        "from lightning.pytorch.callbacks import Callback\n"
        "class Mine(Callback):\n"
        "    def on_fit_start(self, trainer, module):\n"
        "        print('mine has run')\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    callback = "--trainer.callbacks+ mine_for_the_flag.Mine --trainer.logger false"
    refused = run(FIT, callback)
    assert refused.code == 2 and "add --allow_imports mine_for_the_flag.Mine." in refused.err
    done = run(FIT, callback, "--allow_imports mine_for_the_flag")
    assert done.code == 0 and "mine has run" in done.out


def test_config_from_an_address(run: Run) -> None:
    refused = run("fit --config https://example.org/config.yaml")
    assert refused.code == 2 and "cannot be read" in refused.err
