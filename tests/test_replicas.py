"""Replica r of a run is the run with seed + r on its own."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import Trainer

from lenet_lightning.classifier import Classifier, prefix
from lenet_lightning.data.digits import Digits
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.networks.stacked import StackedLeNet5
from lenet_lightning.optimizers import KerasAdam, Muon

SEED, REPLICAS = 3, 3

Options = dict[str, Any]


def train(
    model: Options,
    data: Options,
    seed: int,
    replicas: int = 1,
    steps: int = 10,
    precision: Literal["32-true", "64-true"] = "32-true",
) -> Classifier:
    """Take some steps, in batches of which every ninth is smaller."""
    classifier = Classifier(**{"optimizer": KERAS} | model, seed=seed, replicas=replicas)
    options = {"batch_size": 32, "subset": 266, "val_size": 150} | data
    datamodule = Digits(**options, seed=seed, replicas=replicas)
    trainer = Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        precision=precision,
    )  # fmt: skip
    with warnings.catch_warnings():
        # Lightning's advice on worker processes; there are none.
        warnings.simplefilter("ignore")
        trainer.fit(classifier, datamodule)
    assert classifier.trainer.global_step == steps
    return classifier


ADAM = partial(torch.optim.Adam, lr=0.0005, fused=True)
KERAS = partial(KerasAdam, lr=0.0005)
SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.01)
STEPWISE = partial(torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.1)

CASES: dict[str, tuple[Options, Options]] = {
    "adam": ({"optimizer": ADAM}, {}),
    "keras, l2": ({"l2": 0.001}, {}),
    "muon": ({"optimizer": partial(Muon, lr=0.01)}, {}),
    "sgd, l1, schedule": (
        {"optimizer": SGD, "l1": 0.001, "scheduler": STEPWISE, "scheduler_interval": "step"},
        {"steps_per_execution": 4},
    ),
    "dropout": ({"dropout": 0.4}, {}),
    "dropout, averaged": ({"dropout": 0.2, "polarity": "averaged"}, {}),
    "absolute": ({"polarity": "absolute", "scaling": "centered"}, {"train_polarity": "half"}),
    "clipping": ({"gradient_clip_val": 0.5, "optimizer": SGD}, {}),
    "augmentation": (
        {"activation": "silu", "scaling": "standardized"},
        {"rotation": 10.0, "translation": 2.0, "zoom": 0.1, "train_polarity": "random"},
    ),
    "shifts": ({}, {"interpolation": "nearest", "translation": 2.0, "invert": 0.2}),
    "torch kernel, mse": ({"kernel": "torch", "loss": "mse", "label_smoothing": 0.1}, {}),
    "bce": ({"loss": "bce", "optimizer": SGD, "initializer": "glorot_normal"}, {"batch_size": 64}),
}


def compare(case: str, tolerance: float, **options: Any) -> None:
    """Train replicas together, each alone, and hold weights and figures against each other."""
    together = train(*CASES[case], SEED, REPLICAS, **options)
    assert isinstance(together.network, StackedLeNet5)
    figures = together.trainer.callback_metrics
    for replica in range(REPLICAS):
        alone = train(*CASES[case], SEED + replica, **options)
        assert isinstance(alone.network, LeNet5)
        weights = together.network.replica(replica)
        for name, expected in alone.network.state_dict().items():
            torch.testing.assert_close(weights[name], expected, rtol=tolerance, atol=tolerance)
        for name, value in alone.trainer.callback_metrics.items():
            found = figures[prefix(replica) + name]
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_weights_and_figures_are_those_of_a_run_of_its_own(case: str) -> None:
    """In double precision, where 50 steps do not amplify rounding to anything that shows.

    In single precision they do, differently on each processor.
    """
    compare(case, 1e-9, steps=50, precision="64-true")


@pytest.mark.parametrize("case", CASES)
def test_weights_and_figures_in_single_precision(case: str) -> None:
    """The fused kernel knows no other; as few steps as take each size of batch and validate."""
    compare(case, 1e-5)


def test_the_mean_is_reported_beside_each() -> None:
    figures = train({}, {}, 0, 2).trainer.callback_metrics
    for name in ("train/loss", "val/loss_negative"):
        own = torch.stack([figures[prefix(replica) + name] for replica in range(2)])
        torch.testing.assert_close(figures[name], own.mean())
        assert own[0] != own[1]
