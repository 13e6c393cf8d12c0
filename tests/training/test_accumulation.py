"""Gradient accumulation: the steps of batches that are several times larger."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lenet_lightning.data.datasets import Digits
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.training.accumulation import AccumulationSchedule
from lenet_lightning.training.classifier import Classifier
from tests.conftest import PLAIN, Run

# 116 training images: 8 batches of 16, the last of 4.
SMALL = {"subset": 116, "val_size": 150}


def train(
    batch_size: int, trainer: dict[str, Any], chunk: int = 8, **options: Any
) -> tuple[Classifier, Trainer]:
    """Train two epochs in double precision; ``chunk`` is ``steps_per_execution``."""
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    classifier = Classifier(optimizer=optimizer, **options)  # type: ignore[arg-type]
    settings: dict[str, Any] = {"max_epochs": 2, "precision": "64-true"} | trainer
    made = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on worker processes; there are none
        made.fit(classifier, Digits(batch_size=batch_size, steps_per_execution=chunk, **SMALL))
    return classifier, made


def assert_same(found: Classifier, expected: Classifier) -> None:
    pairs = zip(found.network.parameters(), expected.network.parameters(), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
@pytest.mark.parametrize("precision", ["64-true", "32-true"])
def test_equals_the_step_of_a_larger_batch(chunk: int, precision: str) -> None:
    """Of 16, 16 and 16 images, again, and of 16 and 4: with penalties, clipped."""
    options = {"l2": 0.01, "l1": 0.001}
    settings = {"gradient_clip_val": 0.5, "precision": precision}
    found, trainer = train(16, settings | {"accumulate_grad_batches": 3}, chunk, **options)
    expected, other = train(48, settings, **options)
    assert trainer.global_step == other.global_step == 6
    if precision == "64-true":
        assert_same(found, expected)
    else:  # the gradients of one call in C
        pairs = zip(found.network.parameters(), expected.network.parameters(), strict=True)
        assert all(torch.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in pairs)
    assert found.trainer.callback_metrics["train/loss"] == pytest.approx(
        float(expected.trainer.callback_metrics["train/loss"]), rel=1e-4
    )


def test_frozen_parameters_are_left_alone() -> None:
    def frozen(channels: int, classes: int) -> LeNet5:
        network = LeNet5(channels, classes)
        network.conv1.requires_grad_(False)
        return network

    settings = {"accumulate_grad_batches": 3}
    assert_same(
        train(16, settings, network=frozen, seed=1)[0], train(48, {}, network=frozen, seed=1)[0]
    )


def test_each_batch_draws_its_own_dropout() -> None:
    seeds: list[tuple[int, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        from lenet_lightning.training import classifier

        patch.setattr(classifier, "seed_from", lambda *key: seeds.append(key) or len(seeds))
        train(
            16,
            {"accumulate_grad_batches": 3, "max_epochs": 1},
            network=partial(LeNet5, dropout=0.5),
        )
    assert seeds[:4] == [(0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 2), (0, 1, 0)]
    assert len(set(seeds)) == len(seeds) == 8


def test_max_steps_count_optimizer_steps() -> None:
    _, trainer = train(16, {"accumulate_grad_batches": 3, "max_steps": 4, "max_epochs": -1})
    assert trainer.global_step == 4


def test_schedule_of_accumulation() -> None:
    settings = {"callbacks": [AccumulationSchedule({0: 8, 1: 2})]}
    assert train(16, settings)[1].global_step == 1 + 4


def test_a_second_fit_may_clip() -> None:
    """Lightning checks its options anew, with a module that has trained."""
    classifier, trainer = train(16, {"accumulate_grad_batches": 8, "gradient_clip_val": 1})
    trainer.fit_loop.max_epochs = 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(classifier, Digits(batch_size=16, **SMALL))
    assert trainer.global_step == 3


SCHEDULED = """
trainer:
  callbacks:
  - class_path: GradientAccumulationScheduler
    init_args: {scheduling: {1: 2, 3: 3}}
"""


@pytest.mark.parametrize(
    "how", ["--trainer.accumulate_grad_batches 3", "--config accumulated.yaml"]
)
def test_resumed_run_is_the_uninterrupted_one(run: Run, how: str) -> None:
    Path("accumulated.yaml").write_text(SCHEDULED)
    command = f"{PLAIN} --data.subset 300 --model.network.dropout 0.2 {how}"
    assert run(f"{command} --trainer.max_epochs 4 --name whole").code == 0
    assert run(f"{command} --trainer.max_epochs 2 --name half").code == 0
    start = "lightning_logs/half/version_0/checkpoints/last.ckpt"
    assert run(f"{command} --trainer.max_epochs 4 --name rest --ckpt_path {start}").code == 0
    folders = ["lightning_logs/whole/version_0", "lightning_logs/rest/version_0"]
    whole, rest = (checkpoints.load(f"{folder}/checkpoints/last.ckpt") for folder in folders)
    assert whole["global_step"] == rest["global_step"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, rest["state_dict"][name]), name
    read = [run_folder.read(Path(folder)).metrics for folder in folders]
    assert list(read[0]["step"][2:]) == list(read[1]["step"])
