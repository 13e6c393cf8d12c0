"""The length of a schedule is the training's, unless it is given; a disagreement is pointed out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from lenet_lightning.cli.lightning_cli import parse
from lenet_lightning.cli.schedule_length import disagreement
from lenet_lightning.store import run_folder
from tests.conftest import PLAIN, Run

COSINE = "--model.scheduler CosineAnnealingLR"
LINEAR = "--model.scheduler LinearLR --model.scheduler.end_factor 0.0"
ONE_CYCLE = "--model.scheduler OneCycleLR --model.scheduler.max_lr 0.01"
STEP = "--model.scheduler_interval step"


@pytest.mark.parametrize(
    ("options", "argument", "length"),
    [
        (f"{COSINE} --trainer.max_epochs 40", "T_max", 40),
        (f"{COSINE} --trainer.max_epochs 40 --model.scheduler.T_max 15", "T_max", 15),
        (f"{COSINE} {STEP}", "T_max", 42),
        (f"{COSINE} {STEP} --data.batch_size 100", "T_max", 26),
        (f"{COSINE} {STEP} --data.batch_size full", "T_max", 2),
        (f"{COSINE} {STEP} --trainer.limit_train_batches 4", "T_max", 8),
        (f"{COSINE} {STEP} --trainer.overfit_batches 3", "T_max", 6),
        (f"{COSINE} {STEP} --trainer.max_steps 30", "T_max", 30),
        (f"{COSINE} --trainer.max_steps 30", "T_max", 2),
        (f"{COSINE} --trainer.max_steps 21", "T_max", 1),
        (f"{COSINE} --trainer.max_epochs null --trainer.max_steps 63", "T_max", 3),
        (LINEAR, "total_iters", 2),
        (f"{LINEAR} --model.scheduler.total_iters 5", "total_iters", 5),
        (f"{LINEAR} --model.scheduler.init_args.total_iters 1", "total_iters", 1),
        ("--model.scheduler PolynomialLR", "total_iters", 2),
        ("--model.scheduler ConstantLR", "total_iters", 5),
        (f"{ONE_CYCLE} {STEP}", "total_steps", 42),
        (f"{ONE_CYCLE} --model.scheduler.epochs 2 --model.scheduler.steps_per_epoch 1",
         "total_steps", None),
    ],
)  # fmt: skip
def test_default(options: str, argument: str, length: int | None) -> None:
    scheduler = parse([*PLAIN.split(), *options.split()])["model"]["scheduler"]
    assert scheduler["init_args"][argument] == length


def test_the_last_file_or_option_counts() -> None:
    def of(*options: str) -> dict[str, object] | None:
        found = parse([*PLAIN.split(), *options])["model"]["scheduler"]
        return found and found["init_args"]

    files = {
        "given.yaml": "{class_path: CosineAnnealingLR, init_args: {T_max: 7}}",
        "short.yaml": "{class_path: torch.optim.lr_scheduler.CosineAnnealingLR}",
        "other.yaml": "{class_path: PolynomialLR}",
        "none.yaml": "null",
    }
    for file, scheduler in files.items():
        Path(file).write_text(f"model: {{scheduler: {scheduler}}}")
    given, short, other, none = (f"--config={file}" for file in files)
    for found in (of(given), of(given, short), of(short, given), of(other, given)):
        assert found and found["T_max"] == 7
    assert of(given, none) is None and of(short, none) is None
    for options in ((none, short), (given, none, short), (other, short)):
        found = of(*options)
        assert found and found["T_max"] == 2
    found = of(given, other)
    assert found and found["total_iters"] == 2


def test_no_limit(run: Run) -> None:
    refused = run(f"{PLAIN} {COSINE} --trainer.max_epochs -1 --trainer.max_time 00:00:01:00")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert "model.scheduler.T_max is required" in refused.err and "no limit" in refused.err


def test_the_rate_falls_to_the_end(run: Run) -> None:
    assert run(f"{PLAIN} {COSINE} --trainer.max_epochs 4 --name four").code == 0
    rates = run_folder.read(Path("lightning_logs/four/version_0")).metrics["lr"]
    assert list(rates) == sorted(rates, reverse=True)
    assert rates[-1] < 0.2 * rates[0]


def test_a_stored_length_is_not_the_training_s(run: Run) -> None:
    """More epochs with the configuration of a shorter run, and an evaluation of a longer one."""
    assert run(f"{PLAIN} {COSINE} --name short").code == 0
    folder = "lightning_logs/short/version_0"
    longer = run(f"fit --config {folder}/config.yaml --trainer.max_epochs 3 --name longer")
    assert longer.code == 0 and longer.err == ""
    assert "model.scheduler has T_max 2, but training takes 3 epochs" in longer.out
    same = run(f"fit --config {folder}/config.yaml --name same")
    assert same.code == 0 and "T_max" not in same.out
    best = f"{folder}/checkpoints/best.ckpt"
    assert (
        run(f"test --data Digits {COSINE} --config {folder}/config.yaml --ckpt_path {best}").code
        == 0
    )


def sentence(options: str, length: int) -> str:
    """Return what is said of a scheduler and a training of so many epochs."""
    from torch.optim import lr_scheduler

    from lenet_lightning import LinearCycles

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    name, *arguments = options.split()
    kind = LinearCycles if name == "LinearCycles" else getattr(lr_scheduler, name)
    given = dict(argument.split("=") for argument in arguments)
    values = {key: yaml.safe_load(f"[{value}]" * ("," in value) or value)
              for key, value in given.items()}  # fmt: skip
    return disagreement(kind(optimizer, **values), length, "epoch")


@pytest.mark.parametrize(
    ("options", "length", "part"),
    [
        ("CosineAnnealingLR T_max=15", 40, "T_max 15, but training takes 40 epochs: the learning"),
        ("CosineAnnealingLR T_max=15", 40, "rises again after that; give 40, or leave it out."),
        ("CosineAnnealingLR T_max=15", 3, "it ends before the learning rate has come to its end"),
        ("LinearLR start_factor=1.0 end_factor=0.0 total_iters=3", 5, "is 0 after that"),
        ("LinearLR total_iters=6", 5, "total_iters 6"),
        ("PolynomialLR total_iters=3", 5, "is 0 after that"),
        ("ConstantLR total_iters=6", 5, "it ends before"),
        ("OneCycleLR max_lr=0.1 total_steps=9", 5, "total_steps 9"),
        ("LinearCycles first=4 every=2", 7, "first 4 and every 2, but training takes 7 epochs"),
        ("LinearCycles first=4 every=2", 2, "it ends within a cycle"),
        (
            "MultiStepLR milestones=3,5",
            5,
            "the milestones 3, 5, but training takes 5 epochs: those",
        ),
        (
            "StepLR step_size=5",
            5,
            "step_size 5, but training takes 5 epochs: the learning rate nev",
        ),
        (
            "CosineAnnealingWarmRestarts T_0=2 T_mult=2",
            7,
            "T_0 2 and T_mult 2, but training takes 7",
        ),
        ("CosineAnnealingWarmRestarts T_0=9", 7, "it ends within a cycle"),
        ("CyclicLR base_lr=0.1 max_lr=1.0 step_size_up=2", 6, "cycles of 4, but training takes 6"),
        ("CyclicLR base_lr=0.1 max_lr=1.0 step_size_up=2000", 6, "it ends within a cycle"),
    ],
)
def test_disagreement(options: str, length: int, part: str) -> None:
    assert part in sentence(options, length)


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ("CosineAnnealingLR T_max=15", 15),
        ("CosineAnnealingLR T_max=15", -1),
        ("LinearLR total_iters=3", 5),
        ("LinearLR start_factor=1.0 end_factor=0.0 total_iters=5", 5),
        ("PolynomialLR total_iters=5", 5),
        ("ConstantLR total_iters=3", 5),
        ("OneCycleLR max_lr=0.1 total_steps=5", 5),
        ("StepLR step_size=4", 5),
        ("MultiStepLR milestones=3,4", 5),
        ("ExponentialLR gamma=0.5", 5),
        ("CosineAnnealingWarmRestarts T_0=2 T_mult=2", 6),
        ("CosineAnnealingWarmRestarts T_0=2", 6),
        ("CyclicLR base_lr=0.1 max_lr=1.0 step_size_up=2 step_size_down=1", 6),
        ("LinearCycles first=4 every=2", 8),
        ("LinearCycles first=4 every=2", 4),
    ],
)
def test_agreement(options: str, length: int) -> None:
    assert sentence(options, length) == ""
