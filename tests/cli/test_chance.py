"""A network at chance level is told from one that has learned, and the cause is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lenet_lightning.cli import chance
from lenet_lightning.store import run_folder
from tests.conftest import PLAIN, Run

SGD = "--model.optimizer torch.optim.SGD --model.optimizer.lr"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            "--model.network.initializer ones",
            "model.network.initializer ones makes all units of a layer the same",
        ),
        (f"{SGD} 2.0", "the learning rate, 2, is too high"),
    ],
)
def test_it_is_said(run: Run, options: str, part: str) -> None:
    done = run(f"{PLAIN} --trainer.max_epochs 1 {options}")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1].startswith("The network is no better than chance.")
    assert part in done.out.splitlines()[-1]
    assert run_folder.read(Path("lightning_logs/digits/version_0")).manifest.status == "finished"


@pytest.mark.parametrize("options", ["", "--data.train_polarity negative", "--data.subset 100"])
def test_of_a_network_that_has_learned_nothing_is_said(run: Run, options: str) -> None:
    done = run(f"{PLAIN} {options}")
    assert done.code == 0 and "chance" not in done.out


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([(0.25, 1000)], True),
        ([(0.27, 1000), (0.0, 1000)], True),
        ([(0.35, 1000), (0.0, 1000)], False),
        ([(0.0, 1000), (0.35, 1000)], False),
        ([(0.35, 10)], True),
    ],
)
def test_chance_is_the_most_frequent_class(
    accuracies: list[tuple[float, int]], expected: bool
) -> None:
    labels = torch.tensor([0, 1, 2, 3, 3] * 4 + [0, 1, 2] * 4)  # the last class: a quarter
    assert chance.is_chance(accuracies, labels) is expected


def test_a_large_loss_is_a_rate_that_is_too_high() -> None:
    logits = torch.eye(10) * 5
    assert "too high" in chance.words("default", 0.1, 4.7, logits)
    said = chance.words("default", 1e-7, 4.5, logits)
    assert "the learning rate, 1e-07, is too low, or the training too short" in said
    assert "too high" in chance.words("default", 0.1, 2.3, torch.zeros(10, 10))
