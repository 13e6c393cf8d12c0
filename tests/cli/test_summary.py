"""Tables that the evaluation of a network prints."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lenet_lightning.cli import summary
from lenet_lightning.statistics import wilson

PROBABILITIES = torch.tensor([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.3, 0.6, 0.1], [0.7, 0.2, 0.1]])
LABELS = torch.tensor([0, 1, 0, 1])
LOGITS = torch.stack([PROBABILITIES.log(), PROBABILITIES.flip(0).log()])


def cells(table: str) -> list[list[str]]:
    return [line.split("   ") for line in table.splitlines()]


def test_calibration_of_probabilities() -> None:
    _, originals, _ = (
        line.split() for line in summary.calibration_table(LOGITS, LABELS).splitlines()
    )
    # Confidences 0.6 (one of two right), 0.7 (wrong) and 0.8 (right).
    ece = (2 * abs(0.5 - 0.6) + 0.7 + 0.2) / 4
    brier = float((PROBABILITIES - F.one_hot(LABELS, 3)).square().sum(1).mean())
    nll = float(F.nll_loss(PROBABILITIES.log(), LABELS))
    assert originals[:3] == ["originals", f"{ece:.4f}", f"{brier:.4f}"]
    assert originals[6] == f"{nll:.4f}"
    assert float(originals[3]) <= brier <= float(originals[5])


def test_classes_have_accuracies_intervals_and_counts() -> None:
    table = summary.class_table(LOGITS, LABELS, ["a", "b", "absent"]).splitlines()
    low, high = wilson(0.5, 2)
    assert table[1].split() == ["a", "2", "50.00%", f"{low:.2%}", "to", f"{high:.2%}", "50.00%"]
    assert len(table) == 3


def test_of_many_classes_the_worst_are_shown() -> None:
    labels = torch.arange(30)
    logits = F.one_hot(labels, 30).float()
    logits[29] = logits[0]
    table = summary.class_table(torch.stack([logits, logits]), labels, [f"c{i}" for i in range(30)])
    lines = table.splitlines()
    assert len(lines) == 21 and lines[1].startswith("c29 ") and "0.00%" in lines[1]


@pytest.mark.parametrize("loss", [0.1, 123456.0])
def test_columns_never_touch(loss: float) -> None:
    lines = summary.table({"acc": 1.0, "loss": loss, "acc_negative": 0.5, "loss_negative": 1e30}, 9)
    assert all(line.count("   ") >= 3 for line in lines.splitlines())
