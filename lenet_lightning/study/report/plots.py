"""The figures of a report, each a pure function from results to the bytes of a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from lenet_lightning.study.results import Result

# Okabe and Ito's colours, told apart by colour-blind readers too; yellow is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
RC: Any = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
SIZE = (4.4, 3.1)
"""Inches; shown at a phone's width the letters are still 9 points high."""


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=170)
    return buffer.getvalue()


def activation_functions() -> bytes:
    """ReLU, LeakyReLU and ELU from -4 to 4."""
    x = np.linspace(-4, 4, 401)
    curves = {
        "ReLU": np.maximum(x, 0),
        "LeakyReLU (slope 0.1)": np.where(x > 0, x, 0.1 * x),
        "ELU": np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    }
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for (name, y), colour, style in zip(curves.items(), COLOURS, STYLES, strict=False):
            axes.plot(x, y, color=colour, linestyle=style, linewidth=2, label=name)
        axes.set(xlabel="input", ylabel="output", ylim=(-1.4, 4))
        axes.legend(loc="upper left")
        return to_png(figure)


def accuracy(results: Sequence[Result]) -> bytes:
    """Training and test accuracy against the epoch: a faint line a seed, the mean in bold."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for name, curves, colour, style in _accuracy_curves(results):
            _draw(axes, curves, name, colour, style)
        _finish(axes, "accuracy")
        return to_png(figure)


def accuracy_and_loss(results: Sequence[Result], images: str) -> bytes:
    """Accuracy and loss on the original or the negative test images, beside the training set's."""
    suffix = "_negative" if images == "negative" else ""
    label = "test, negatives" if suffix else "test"
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(SIZE[0], 2 * SIZE[1] - 0.6), layout="constrained")
        upper, lower = figure.subplots(2, sharex=True)
        for axes, column in ((upper, "acc"), (lower, "loss")):
            training = [result.curve(f"train/{column}") for result in results]
            test = [result.test_curve(column + suffix) for result in results]
            _draw(axes, training, "training", COLOURS[0], "--")
            _draw(axes, test, label, COLOURS[1], "-")
        _finish(upper, "accuracy")
        _finish(lower, "loss")
        upper.set_xlabel("")
        return to_png(figure)


def comparison(settings: Mapping[str, Sequence[Result]]) -> bytes:
    """Test accuracy of several settings (validation, where no test was watched): mean and range."""
    with matplotlib.rc_context(RC):
        columns = 2 if max(map(len, settings), default=0) <= 22 else 1
        rows = -(-len(settings) // columns)
        figure = Figure(figsize=(SIZE[0], SIZE[1] + 0.2 * rows), layout="constrained")
        axes = figure.subplots()
        for number, (title, results) in enumerate(settings.items()):
            colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
            _draw(axes, _evaluated(results)[1], title, colour, style, band=True)
        every = [result for results in settings.values() for result in results]
        _finish(axes, f"{_evaluated(every)[0]} accuracy", legend=False)
        figure.legend(loc="outside lower center", ncols=columns)
        return to_png(figure)


def confusion_matrix(shares: NDArray[np.float64], classes: Sequence[str]) -> bytes:
    """Shares of each true class by predicted class, [C, C] with rows that sum to 1."""
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        figure = Figure(figsize=(SIZE[0], SIZE[0]), layout="constrained")
        axes = figure.subplots()
        # A square root brings out small confusions beside a large diagonal.
        axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                colour = "white" if share > 0.3 else "black"
                text = f"{100 * share:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        ticks = range(len(classes))
        rotation = 0 if max(map(len, classes), default=0) <= 2 else 60
        ha = "center" if not rotation else "right"
        axes.set_xticks(ticks, classes, rotation=rotation, ha=ha, rotation_mode="anchor")
        axes.set_yticks(ticks, classes)
        axes.tick_params(length=0)
        axes.set(xlabel="predicted class, % of the true class", ylabel="true class")
        return to_png(figure)


def _accuracy_curves(results: Sequence[Result]) -> list[tuple[str, list[NDArray], str, str]]:
    training = [result.curve("train/acc") for result in results]
    name, evaluated = _evaluated(results)
    return [("training", training, COLOURS[0], "--"), (name, evaluated, COLOURS[1], "-")]


def _evaluated(results: Sequence[Result]) -> tuple[str, list[NDArray]]:
    """Test curves where the test set was watched, else validation curves."""
    if any(result.test_prefix for result in results):
        return "test", [result.test_curve("acc") for result in results]
    return "validation", [result.curve("val/acc") for result in results]


def side_by_side(curves: Sequence[NDArray]) -> NDArray[np.float64]:
    """Curves of different lengths as rows, [curves, epochs], with NaN after their ends."""
    padded = np.full((max(len(curves), 1), max(map(len, curves), default=0)), np.nan)
    for row, curve in zip(padded, curves, strict=False):
        row[: len(curve)] = curve
    return padded


def mean_curve(curves: Sequence[NDArray]) -> NDArray[np.float64]:
    """The mean of curves of different lengths, over those that reach each epoch."""
    padded = side_by_side(curves)
    counts = np.isfinite(padded).sum(axis=0)
    sums = np.nansum(padded, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw(
    axes: Axes,
    curves: Sequence[NDArray],
    name: str,
    colour: str,
    style: object,
    band: bool = False,
) -> None:
    """Every seed faintly, or a band over all, and their mean boldly; epochs count from 1."""
    curves = [curve for curve in curves if len(curve)]
    if not curves:
        return
    mean = mean_curve(curves)
    epochs = np.arange(1, len(mean) + 1)
    if band:
        every = side_by_side(curves)
        # fmin and fmax pass over the NaN of a curve that has ended.
        low, high = np.fmin.reduce(every), np.fmax.reduce(every)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    else:
        for curve in curves if len(curves) > 1 else []:
            axes.plot(np.arange(1, len(curve) + 1), curve, color=colour, alpha=0.3, linewidth=0.8)
    marker = "o" if len(mean) == 1 else None
    axes.plot(epochs, mean, color=colour, linestyle=style, linewidth=1.8, marker=marker, label=name)


def _finish(axes: Axes, label: str, legend: bool = True) -> None:
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if "accuracy" in label:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if axes.lines and legend:
        axes.legend(loc="best")
    if not axes.lines:
        axes.text(0.5, 0.5, "no finished run", ha="center", transform=axes.transAxes)
