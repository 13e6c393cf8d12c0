"""The panels of a report's figures: accuracy and loss of its runs by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lenet_lightning.plotting import Array, Curve, Panel, mean_curve
from lenet_lightning.study.results import Result

Rows = list[list[Panel]]


CLOSE = 0.97
"""Where two curves end above this accuracy their errors are drawn, on a logarithmic scale."""


def accuracy(results: Sequence[Result]) -> Rows:
    """Training and test accuracy of one setting."""
    name, evaluated = _evaluated(results)
    training = [result.curve("train/acc") for result in results]
    return [[_panel("accuracy", [Curve("training", training), Curve(name, evaluated, 1)])]]


def accuracy_and_loss(results: Sequence[Result], images: str) -> Rows:
    """Accuracy and loss of one setting on ``original`` or ``negative`` test images."""
    suffix, label = ("_negative", "test, negatives") if images == "negative" else ("", "test")

    def panel(quantity: str, column: str) -> Panel:
        training = Curve("training", [result.curve(f"train/{column}") for result in results])
        test = Curve(label, [result.test_curve(column + suffix) for result in results], 1)
        return _panel(quantity, [training, test])

    return [[panel("accuracy", "acc")], [panel("loss", "loss")]]


def comparison(settings: Mapping[str, Sequence[Result]]) -> Rows:
    """Test accuracy of several settings, validation accuracy where no test was recorded."""
    curves = [
        Curve(title, _evaluated(results)[1], number)
        for number, (title, results) in enumerate(settings.items())
    ]
    every = [result for results in settings.values() for result in results]
    return [[_panel(f"{_evaluated(every)[0]} accuracy", curves, band=True)]]


def _panel(quantity: str, curves: list[Curve], band: bool = False) -> Panel:
    """A panel of accuracies, or of errors where accuracies could not be told apart."""
    ends = [mean_curve(c.runs)[-1] for c in curves if any(len(run) for run in c.runs)]
    if "accuracy" in quantity and sum(end > CLOSE for end in ends) > 1:
        quantity = quantity.replace("accuracy", "error")
        # An error of 0 has no place on a logarithmic scale.
        runs = [[np.where(r < 1, 1 - r, np.nan) for r in curve.runs] for curve in curves]
        curves = [c._replace(runs=own) for c, own in zip(curves, runs, strict=True)]
    return Panel(quantity, curves, band)


def _evaluated(results: Sequence[Result]) -> tuple[str, list[Array]]:
    if any(result.test_prefix for result in results):
        return "test", [result.test_curve("acc") for result in results]
    return "validation", [result.curve("val/acc") for result in results]
