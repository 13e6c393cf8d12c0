"""The panels of a report's figures: accuracy and loss of its runs by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lenet_lightning.plotting import Array, Curve, Panel
from lenet_lightning.study.results import Result

Rows = list[list[Panel]]


def accuracy(results: Sequence[Result]) -> Rows:
    """Training and test accuracy of one setting."""
    name, evaluated = _evaluated(results)
    training = [result.curve("train/acc") for result in results]
    return [[Panel("accuracy", [Curve("training", training), Curve(name, evaluated, 1)])]]


def accuracy_and_loss(results: Sequence[Result], images: str) -> Rows:
    """Accuracy and loss of one setting on ``original`` or ``negative`` test images."""
    suffix, label = ("_negative", "test, negatives") if images == "negative" else ("", "test")

    def panel(quantity: str, column: str) -> Panel:
        training = Curve("training", [result.curve(f"train/{column}") for result in results])
        test = Curve(label, [result.test_curve(column + suffix) for result in results], 1)
        return Panel(quantity, [training, test])

    return [[panel("accuracy", "acc")], [panel("loss", "loss")]]


def comparison(settings: Mapping[str, Sequence[Result]]) -> Rows:
    """Test accuracy of several settings, validation accuracy where no test was recorded."""
    curves = [
        Curve(title, _evaluated(results)[1], number)
        for number, (title, results) in enumerate(settings.items())
    ]
    every = [result for results in settings.values() for result in results]
    return [[Panel(f"{_evaluated(every)[0]} accuracy", curves, band=True)]]


def _evaluated(results: Sequence[Result]) -> tuple[str, list[Array]]:
    if any(result.test_prefix for result in results):
        return "test", [result.test_curve("acc") for result in results]
    return "validation", [result.curve("val/acc") for result in results]
