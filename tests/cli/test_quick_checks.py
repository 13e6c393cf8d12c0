"""Misspelt options are refused before torch is imported, as the parser would."""

import subprocess
import sys

import pytest

from lenet_lightning.cli import command_line, lightning_cli, quick_checks
from lenet_lightning.errors import UserError
from tests.conftest import REPOSITORY

MISSPELT = [
    ("--model.network.activaton tanh", "--model.network.activation"),
    ("--trainer.max_epcohs=3", "--trainer.max_epochs"),
    ("--data.augmentation.rotatoin 3", "--data.augmentation.rotation"),
    ("--data.init_args.batchsize 3", "--data.batch_size"),
    ("--model.xyzzy 1", "--help"),
]


def refusal(options: str) -> str:
    with pytest.raises(UserError) as caught:
        quick_checks.check(command_line.read(["fit", "--data", "Digits", *options.split()]))
    return str(caught.value)


@pytest.mark.parametrize(("options", "hint"), MISSPELT)
def test_the_sentence_is_the_parsers(options, hint):
    found = refusal(options)
    assert hint in found
    with pytest.raises(UserError) as caught:
        lightning_cli.parse(["fit", "--data", "Digits", *options.split()])
    # Of the arguments of a class the parser does not know how they were given.
    assert found.replace("--", "") == str(caught.value).replace("--", "")


@pytest.mark.parametrize("name", ["model.network.activation", "model.optimizer.lr", "logs"])
def test_an_option_without_its_value(name):
    assert refusal(f"--{name}") == f"--{name} is given without a value."


def test_a_key_in_a_file_is_named_without_a_flag(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("trainer: {max_epoch: 3}\n")
    assert refusal(f"--config {path}").startswith("trainer.max_epoch is not")


@pytest.mark.parametrize(
    "options",
    [
        "--help",
        "--model.help LeNet5",
        "--model.network my.Net --model.network.width 3 --allow_imports my",
        "--model.optimizer Adam --model.optimizer.betas [0.9,0.99]",
        "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/acc",
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.logger CSVLogger --trainer.logger.save_dir logs",
        "--model.replicas 3",
        "--output xyz",
        "--verbose",
    ],
)
def test_what_the_schema_leaves_open_is_left_to_the_parser(options):
    quick_checks.check(command_line.read(["fit", "--data", "Digits", *options.split()]))


@pytest.mark.parametrize(
    "path",
    [
        path.relative_to(REPOSITORY).as_posix()
        for path in sorted(REPOSITORY.glob("configs/**/*.yaml"))
        if path.parent.name not in ("studies", "sweeps")
    ],
)
def test_shipped_configurations_are_known(path):
    quick_checks.check(command_line.read(["fit", "--config", str(REPOSITORY / path)]))


@pytest.mark.parametrize(
    "options", ["--model.network.activaton tanh", "--config absent.yaml", "--model.activation tanh"]
)
def test_nothing_heavy_is_imported(options):
    script = (
        "import sys; from lenet_lightning.__main__ import main; code = main(sys.argv[1:]);"
        "sys.exit(code if {'torch', 'lightning', 'jsonargparse'}.isdisjoint(sys.modules) else 9)"
    )
    command = [sys.executable, "-c", script, "fit", "--data", "Digits", *options.split()]
    assert subprocess.run(command, cwd=REPOSITORY, capture_output=True).returncode == 2
