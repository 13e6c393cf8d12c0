"""The figures of robustness, each a pure function from accuracies to the bytes of a PNG."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lenet_lightning.robustness.accuracy_table import Measured
from lenet_lightning.statistics import Summary
from lenet_lightning.study.plan import Setting
from lenet_lightning.study.report.plots import COLOURS, RC, STYLES, to_png

# Five, where there are seven colours: a colour that comes again has another marker.
MARKERS = "osD^v"
CURVES = {
    "contrast": "contrast\n(1 original, 0 grey, \N{MINUS SIGN}1 negative)",
    "brightness": "brightness added\n(clipped)",
    "inversion": "share of the columns\nreplaced by their negative",
}
WIDTH = 8.8
"""Inches: two of the report's figures side by side."""


def overview(settings: Sequence[Setting], measured: Measured, chance: float) -> bytes:
    """Accuracy of every setting against contrast, brightness and partial inversion, and corrupted.

    Args:
        settings: of one dataset, each with at least one network.
        measured: their accuracies.
        chance: accuracy of guessing, drawn as a thin line.
    """
    with matplotlib.rc_context(RC):
        columns = 3 if max(len(s.title) for s in settings) <= 32 else 2
        lines = -(-len(settings) // columns)
        figure = Figure(figsize=(WIDTH, 6.4 + 0.2 * lines), layout="constrained")
        grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.15))
        lower = figure.add_subplot(grid[1, :])
        for place, (perturbation, label) in enumerate(CURVES.items()):
            axes = figure.add_subplot(grid[0, place], sharey=lower)
            _draw_curves(axes, settings, measured, perturbation)
            _finish(axes, chance, label)
            axes.tick_params(labelleft=place == 0)
            if place == 0:
                axes.invert_xaxis()  # from the originals to the right, as beside it
                axes.set_ylabel("test accuracy")
        _draw_corruptions(lower, settings, measured)
        _finish(lower, chance, "")
        lower.set(ylabel="test accuracy", ylim=(-0.03, min(1.03, 1.1 * measured.highest)))
        handles, titles = figure.axes[1].get_legend_handles_labels()
        figure.legend(handles, titles, loc="outside lower center", ncols=columns)
        return to_png(figure)


def _draw_curves(
    axes: Axes, settings: Sequence[Setting], measured: Measured, perturbation: str
) -> None:
    """The mean over seeds, in a band of one standard deviation to both sides."""
    for number, setting in enumerate(settings):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        x = np.array(measured.levels(setting.name, perturbation), dtype=float)
        mean, sd = _mean_and_sd(measured.curve(setting.name, perturbation))
        axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(
            x, mean, color=colour, linestyle=style, marker=marker, markersize=3, label=setting.title
        )


def _draw_corruptions(axes: Axes, settings: Sequence[Setting], measured: Measured) -> None:
    """A point for each setting side by side, with a bar of one standard deviation."""
    names = [str(level) for level in measured.levels(settings[0].name, "corruption")]
    step = 0.8 / len(settings)
    for number, setting in enumerate(settings):
        mean, sd = _mean_and_sd(measured.curve(setting.name, "corruption"))
        axes.errorbar(
            np.arange(len(names)) + step * (number - (len(settings) - 1) / 2),
            mean,
            sd,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linestyle="",
            elinewidth=1,
        )
    for place in range(0, len(names), 2):
        axes.axvspan(place - 0.5, place + 0.5, color="#f3f4f6", zorder=0)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.5, len(names) - 0.5)
    labels = [name.replace("_", " ") for name in names]
    axes.set_xticks(
        range(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=9
    )


def _finish(axes: Axes, chance: float, label: str) -> None:
    axes.axhline(chance, color="#777777", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axes.set_xlabel(label)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _mean_and_sd(curve: Sequence[Summary]) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations, the latter 0 where there is one seed, float64 [levels]."""
    means = np.array([summary.mean for summary in curve])
    return means, np.nan_to_num(np.array([summary.sd for summary in curve]))
