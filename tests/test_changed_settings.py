"""`fit --ckpt_path` with other settings: each is printed and takes effect, or is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.store.checkpoints import CONFIG_KEY
from tests.conftest import Run

# Two epochs are behind every checkpoint used here.
LAST = "lightning_logs/trained/version_0/checkpoints/last.ckpt"
GO_ON = (
    "fit --data Digits --trainer.accelerator cpu --trainer.max_epochs 3 --trainer.logger false "
    f"--name on --ckpt_path {LAST}"
)
ON = Path("lightning_logs/on/version_0")


def optimizer_group(folder: Path) -> dict:
    checkpoint = checkpoints.load(folder / "checkpoints/last.ckpt")
    return checkpoint["optimizer_states"][0]["param_groups"][0]


def test_changes_are_printed_recorded_and_take_effect(run: Run, trained: Path) -> None:
    gone_on = run(GO_ON, "--model.optimizer.lr 0.0001 --model.optimizer.betas [0.8,0.99]")
    assert gone_on.code == 0, gone_on.err
    assert "changed: model.optimizer.lr 0.001 -> 0.0001" in gone_on.out
    assert "changed: trainer.max_epochs 2 -> 3" in gone_on.out
    assert "model.network.dropout" not in gone_on.out
    group = optimizer_group(ON)
    assert (group["lr"], tuple(group["betas"])) == (0.0001, (0.8, 0.99))
    left = run_folder.read(ON)
    assert list(left.metrics["epoch"]) == [2] and list(left.metrics["lr"]) == [0.0001]
    origin = left.manifest.continued_from
    assert origin["checkpoint"] == LAST
    assert origin["changed"]["model.optimizer.init_args.lr"] == [0.001, 0.0001]


def test_without_changes_it_is_the_longer_run(run: Run, trained: Path) -> None:
    assert run(GO_ON).code == 0
    longer = GO_ON.partition(" --name")[0] + " --name longer"
    assert run(longer).code == 0
    states = [
        checkpoints.load(folder / "checkpoints/last.ckpt")["state_dict"]
        for folder in (ON, Path("lightning_logs/longer/version_0"))
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_the_old_run_is_left_alone(run: Run, trained: Path) -> None:
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    assert run(GO_ON).code == 0
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


def test_patience_of_the_new_configuration_wins(run: Run) -> None:
    """Lightning restores the old patience, and with it the end of the training."""
    stopping = "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/loss"
    fit = f"fit --data Digits --trainer.accelerator cpu --trainer.logger false {stopping}"
    assert (
        run(fit, "--trainer.callbacks.patience 1 --trainer.max_epochs 2 --name trained").code == 0
    )
    on = run(
        fit,
        f"--trainer.callbacks.patience 7 --trainer.max_epochs 3 --name on --ckpt_path {LAST}",
    )
    assert on.code == 0, on.err
    assert "changed: trainer.callbacks.0.patience 1 -> 7" in on.out
    states = checkpoints.load(ON / "checkpoints/last.ckpt")["callbacks"]
    (state,) = (state for key, state in states.items() if "EarlyStopping" in key)
    assert state["patience"] == 7


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            "--model.network.initializer glorot_normal",
            "model.network.initializer was he_normal and is now glorot",
        ),
        ("--model.scaling centered", "model.scaling was unit and is now centered, but the weights"),
        (
            "--model.network.activation elu",
            "model.network.activation was relu and is now elu, but the weights were",
        ),
        (
            "--model.optimizer torch.optim.SGD",
            "model.optimizer.class_path was lenet_lightning.KerasAdam",
        ),
        ("--model.optimizer.fused false", "the optimiser's state in the checkpoint depends on it"),
        (
            "--model.scheduler StepLR --model.scheduler.step_size 2",
            "the schedule resumes from the state in the checkpoint",
        ),
        ("--trainer.max_epochs 2", "trainer.max_epochs is 2, but the checkpoint has 2 behind it"),
        ("--trainer.max_steps 30", "trainer.max_steps is 30, but the checkpoint has 42 behind it"),
        ("--resume auto", "or --ckpt_path"),
    ],
)
def test_refused(run: Run, trained: Path, options: str, part: str) -> None:
    refused = run(GO_ON, options)
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert part in refused.err
    assert not ON.exists()


def test_learning_rate_that_a_schedule_sets(run: Run) -> None:
    schedule = "--model.scheduler StepLR --model.scheduler.step_size 2 --trainer.logger false"
    fit = f"fit --data Digits --trainer.accelerator cpu {schedule}"
    assert run(fit, "--trainer.max_epochs 1 --name trained").code == 0
    more = f"--trainer.max_epochs 2 --ckpt_path {LAST} --name on"
    refused = run(fit, more, "--model.optimizer.lr 0.1")
    assert refused.code == 2 and "sets the learning rate: keep 0.001" in refused.err
    assert run(fit, more, "--model.optimizer.weight_decay 0.1").code == 0
    assert optimizer_group(ON)["weight_decay"] == 0.1


@pytest.mark.parametrize("name", ["lr", "adam_lr"])
def test_both_learning_rates_of_muon_are_set_by_a_schedule(run: Run, name: str) -> None:
    muon = "--model.optimizer lenet_lightning.Muon --trainer.logger false"
    schedule = "--model.scheduler StepLR --model.scheduler.step_size 2"
    fit = f"fit --data Digits --trainer.accelerator cpu {muon} {schedule}"
    assert run(fit, "--trainer.max_epochs 1 --name trained").code == 0
    more = f"--trainer.max_epochs 2 --ckpt_path {LAST} --name on"
    refused = run(fit, more, f"--model.optimizer.{name} 0.1")
    assert refused.code == 2 and f"model.optimizer.{name}" in refused.err
    assert "sets the learning rate" in refused.err


@pytest.mark.parametrize("word", ["last", "best", "hpc", "registry"])
@pytest.mark.parametrize("command", ["fit --data Digits", "test --data Digits"])
def test_words_that_lightning_would_search_for(run: Run, word: str, command: str) -> None:
    Path(word).touch()
    refused = run(f"{command} --ckpt_path {word}")
    assert refused.code == 2 and f"ckpt_path is {word}: expected a file" in refused.err


def test_checkpoint_away_from_its_folder(run: Run, trained: Path) -> None:
    """It tells its own settings, and is not taken for another network."""
    shutil.copy(trained / "checkpoints/best.ckpt", "lone.ckpt")
    lone = run("test --ckpt_path lone.ckpt --trainer.accelerator cpu")
    assert lone.code == 0, lone.err
    assert (
        lone.out.splitlines()[1:]
        == run(f"test --ckpt_path {trained / 'checkpoints/best.ckpt'}").out.splitlines()[1:]
    )
    other = run("test --ckpt_path lone.ckpt --data Digits --model.network.activation tanh")
    assert other.code == 2
    assert (
        "model.network.activation is tanh, but the checkpoint lone.ckpt was trained with"
        in other.err
    )


def test_checkpoint_that_does_not_tell(run: Run, trained: Path) -> None:
    checkpoint = checkpoints.load(LAST)
    del checkpoint[CONFIG_KEY]
    torch.save(checkpoint, "lone.ckpt")
    refused = run(GO_ON.replace(LAST, "lone.ckpt"))
    assert refused.code == 2 and "has no configuration" in refused.err
    in_folder = trained / "checkpoints/lone.ckpt"
    shutil.move("lone.ckpt", in_folder)
    assert run(GO_ON.replace(LAST, str(in_folder))).code == 0


def test_folder_that_moved_keeps_its_best(run: Run, trained: Path) -> None:
    """Lightning forgets the best score when the folder has another name than before."""
    manifest = run_folder.read(trained).manifest
    run_folder.write_manifest(trained, replace(manifest, status="interrupted"))
    (trained / "checkpoints/last.ckpt").unlink()
    Path("elsewhere/moved").mkdir(parents=True)
    shutil.move(trained, "elsewhere/moved/version_0")
    fit = "fit --data Digits --trainer.accelerator cpu --trainer.max_epochs 2"
    assert run(fit, "--logs elsewhere --name moved --resume must").code == 0
    moved = run_folder.read("elsewhere/moved/version_0").manifest
    assert (moved.best_epoch, moved.test) == (manifest.best_epoch, manifest.test)
    states = checkpoints.load("elsewhere/moved/version_0/checkpoints/last.ckpt")["callbacks"]
    paths = [state["best_model_path"] for state in states.values() if "dirpath" in state]
    assert all(path.startswith("elsewhere/moved/") for path in paths)


@pytest.mark.parametrize("name", ["lr", "adam_lr"])
def test_one_learning_rate_of_two_changes(run: Run, name: str) -> None:
    start = GO_ON.partition(" --name")[0]
    muon = "--model.optimizer lenet_lightning.Muon --name muon"
    equal = "--model.optimizer.lr 0.003 --model.optimizer.adam_lr 0.003"
    assert run(start, muon, equal, "--trainer.max_epochs 1").code == 0
    last = "lightning_logs/muon/version_0/checkpoints/last.ckpt"
    gone_on = run(start, muon, equal, f"--model.optimizer.{name} 0.002", f"--ckpt_path {last}")
    assert gone_on.code == 0, gone_on.err
    checkpoint = checkpoints.load("lightning_logs/muon/version_1/checkpoints/last.ckpt")
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    expected = {"lr": [0.002, 0.003], "adam_lr": [0.003, 0.002]}
    assert [group["lr"] for group in groups] == expected[name]


def test_options_that_the_checkpoint_does_not_know_have_their_defaults(
    run: Run, trained: Path
) -> None:
    checkpoint = torch.load(LAST, weights_only=True)
    config = yaml.safe_load(checkpoint[CONFIG_KEY])
    # Of the time before options of the network had a group of their own, and most of them.
    model = config["model"]
    network = model.pop("network")["init_args"]
    model |= {name: network[name] for name in ("activation", "initializer", "dropout", "kernel")}
    for name in ("tta_shift", "tta_flip"):
        del model[name]
    # Of the time before options of augmentation had a group of their own, and most of them.
    options = config["data"]["init_args"]
    augmentation = options.pop("augmentation")
    options |= {name: augmentation[name] for name in ("rotation", "translation", "invert")}
    checkpoint[CONFIG_KEY] = yaml.safe_dump(config)
    torch.save(checkpoint, "old.ckpt")
    gone_on = run(GO_ON.replace(LAST, "old.ckpt"))
    assert gone_on.code == 0, gone_on.err
    assert not any(name in gone_on.out for name in ("invariance", "conv_activation", "zoom"))
    refused = run(GO_ON.replace(LAST, "old.ckpt"), "--model.network.invariance averaged")
    assert (
        refused.code == 2 and "model.network.invariance was none and is now averaged" in refused.err
    )
    refused = run(GO_ON.replace(LAST, "old.ckpt"), "--model.network.conv_activation absolute")
    assert refused.code == 2 and "conv_activation was None and is now absolute" in refused.err
    trained_plain = f"--config {trained / 'config.yaml'} --model.network.invariance averaged"
    refused = run(f"test --ckpt_path old.ckpt {trained_plain}")
    assert refused.code == 2 and "trained with none" in refused.err
