"""Every figure of the package, drawn with matplotlib from plain arrays.

Each drawing function returns a ``Figure``; :func:`to_png` and :func:`to_pixels` render it. Import
this module where a figure is drawn, not at start-up.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    StrMethodFormatter,
)
from numpy.typing import NDArray

from lenet_lightning.statistics import peaks

P = ParamSpec("P")
Array = NDArray[np.float64]
Pictures = NDArray[np.float32]

# Okabe and Ito's colours, which colour-blind readers tell apart; yellow is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES = ((), (4.0, 1.6), (6.0, 1.6, 1.0, 1.6), (1.0, 1.6), (5.0, 1.0), (3.0, 1.0, 1.0, 1.0))
MARKERS = "osD^v"  # five, where there are seven colours: a repeated colour has another marker
RC: Any = {
    "font.size": 10,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
BACKGROUND = 0.88  # grey, so that black and white pictures both stand out
WIDTH, HEIGHT = 4.4, 3.1  # inches of a panel; at a phone's width the letters are 9 points high
MAX_NAMED = 20  # beyond so many classes their names and counts no longer fit
GAP = 2  # pixels between an image and its negative


class Curve(NamedTuple):
    """One quantity by epoch, of one run or of several.

    Attributes:
        label: its name in the legend.
        runs: float64 ``[epochs]`` each, of any lengths.
        style: number of its colour and its dashes.
    """

    label: str
    runs: Sequence[Array]
    style: int = 0

    @property
    def split(self) -> bool:
        """Whether the runs end in two groups far apart, with no run near their mean."""
        return len(peaks([float(run[-1]) for run in self.runs if len(run)])) > 1

    @property
    def colour(self) -> str:
        """Its colour, ``#rrggbb``."""
        return COLOURS[self.style % len(COLOURS)]

    @property
    def dashes(self) -> tuple[float, ...]:
        """Lengths of its dashes and gaps in line widths; empty for a solid line."""
        return DASHES[self.style % len(DASHES)]


class Panel(NamedTuple):
    """Curves on common axes.

    Attributes:
        quantity: name of the vertical axis; an accuracy or an error, in [0, 1], is shown in per
            cent, an error on a logarithmic scale.
        curves: to be drawn.
        band: whether the runs of a curve are shown as their range.
    """

    quantity: str
    curves: Sequence[Curve]
    band: bool = False


class Points(NamedTuple):
    """Mean and standard deviation of accuracies at each level, ``[levels]``."""

    levels: Sequence[float | str]
    mean: Array
    sd: Array


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Return a drawing function that uses the common style."""
    return matplotlib.rc_context(RC)(draw)


def blank(width: float, height: float, colour: str = "white") -> Figure:
    """Return an empty figure of so many inches that arranges itself."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor=colour)


def to_png(figure: Figure, dpi: int = 170) -> bytes:
    """Return a figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def to_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure's pixels, uint8 ``[height, width, 3]``, 100 an inch."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def side_by_side(runs: Sequence[Array]) -> Array:
    """Return curves of different lengths as rows, ``[runs, epochs]``, NaN after their ends."""
    padded = np.full((max(len(runs), 1), max(map(len, runs), default=0)), np.nan)
    for row, run in zip(padded, runs, strict=False):
        row[: len(run)] = run
    return padded


def mean_curve(runs: Sequence[Array]) -> Array:
    """Return the mean of curves of different lengths, over those that reach each epoch."""
    padded = side_by_side(runs)
    counts = np.isfinite(padded).sum(axis=0)
    return np.where(counts > 0, np.nansum(padded, axis=0) / np.maximum(counts, 1), np.nan)


@styled
def panels(
    rows: Sequence[Sequence[Panel]], title: str = "", legend_columns: int | None = None
) -> Figure:
    """Draw panels of curves below and beside each other.

    Args:
        rows: of as many panels each.
        title: above the figure.
        legend_columns: of one legend below the figure; None for a legend in each panel.
    """
    labels = sum(len(panel.curves) for panel in rows[0][:1])
    room = 0.2 * -(-labels // legend_columns) if legend_columns else 0
    figure = blank(WIDTH * len(rows[0]), HEIGHT * len(rows) + room - 0.6 * (len(rows) - 1))
    figure.suptitle(title)
    grid = figure.subplots(len(rows), len(rows[0]), sharex=True, squeeze=False)
    for axes, panel in zip(grid.flat, (p for row in rows for p in row), strict=True):
        draw(axes, panel)
        if axes.lines and not legend_columns:
            axes.legend(loc="best")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    if legend_columns:
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=legend_columns,
        )
    return figure


def draw(axes: Axes, panel: Panel) -> None:
    """Draw each curve: every run faintly, or their range, and the mean; epochs count from 1.

    Runs that end in two groups are drawn one by one, without a mean.
    """
    for curve in panel.curves:
        runs = [run for run in curve.runs if len(run)]
        if not runs:
            continue
        every, mean = side_by_side(runs), mean_curve(runs)
        epochs = np.arange(1, len(mean) + 1)
        style: Any = {"linestyle": (0, curve.dashes) if curve.dashes else "-"}
        if curve.split:
            lines = axes.plot(epochs, every.T, color=curve.colour, linewidth=1.3, **style)
            lines[0].set_label(f"{curve.label} (each run)")
            continue
        if panel.band:
            # fmin and fmax pass over the NaN of a run that has ended.
            low, high = np.fmin.reduce(every), np.fmax.reduce(every)
            axes.fill_between(epochs, low, high, color=curve.colour, alpha=0.2, linewidth=0)
        elif len(runs) > 1:
            axes.plot(epochs, every.T, color=curve.colour, alpha=0.3, linewidth=0.8)
        style |= {"marker": "o" if len(mean) == 1 else None, "linewidth": 1.8}
        axes.plot(epochs, mean, color=curve.colour, label=curve.label, **style)
    if not axes.lines:
        axes.text(0.5, 0.5, "no finished run", ha="center", transform=axes.transAxes)
    axes.set_ylabel(panel.quantity)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    scale(axes, panel.quantity)


def scale(axes: Axes, quantity: str) -> None:
    """Show accuracies in per cent, and losses that span orders of magnitude on a log scale."""
    if "accuracy" in quantity:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 1.02))
        for line in axes.lines:  # one along 0 shows its full width
            line.set(clip_on=False, zorder=3)
        return
    low, high = axes.dataLim.intervaly
    if 0 < 10 * low < high or "error" in quantity:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if "error" in quantity:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


@styled
def run_curves(
    metrics: Mapping[str, Array],
    title: str,
    best_epoch: int | None = None,
    test: Mapping[str, float] | None = None,
    val_label: str = "validation",
) -> Figure:
    """Draw accuracy and loss of one run against the epoch, on originals and on negatives.

    The polarities have scales of their own: a network that never saw a negative is so bad on them
    that a common scale would flatten everything else.

    Args:
        metrics: columns of metrics.csv, each ``[epochs]``; accuracies in [0, 1].
        title: above the figure.
        best_epoch: value in the column ``epoch`` of the best checkpoint, marked in every panel.
        test: ``test/acc``, ``test/loss`` and both with ``_negative``, of the best checkpoint.
        val_label: what the validation images are called.
    """
    labels = {"train": "training", "val": val_label, "test": "test"}
    styles = {"val": 0, "test": 1, "train": 4}
    figure = blank(10, 7)
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(2, 2, sharex=True)
    at_best = metrics["epoch"] == best_epoch
    for axes, (kind, suffix) in zip(
        grid.flat, product(("acc", "loss"), ("", "_negative")), strict=True
    ):
        names = {stage: f"{stage}/{kind}{suffix}" for stage in labels}
        shown = {stage: metrics[name] for stage, name in names.items() if name in metrics}
        word = {"acc": "accuracy", "loss": "loss"}[kind]
        draw(axes, Panel(word, [Curve(labels[s], [c], styles[s]) for s, c in shown.items()]))
        values = {s: float(c[at_best][0]) for s, c in shown.items() if at_best.any()}
        values.pop("train", None)
        if test and names["test"] in test:
            values["test"] = test[names["test"]]
        if best_epoch is not None:
            axes.axvline(best_epoch + 1, color="#999999", linewidth=1, zorder=1, label="best epoch")
        for stage, value in values.items():
            label = None if stage in shown else labels[stage]
            marker, colour = {"val": "o", "test": "D"}[stage], COLOURS[styles[stage]]
            point = axes.plot((best_epoch or 0) + 1, value, marker, color=colour, label=label)
            point[0].set(clip_on=False, zorder=4)
        axes.autoscale(axis="y")  # the test's point may lie beyond the curves
        scale(axes, word)
        form = "{:.2%}" if kind == "acc" else "{:.4g}"
        marks = ", ".join(f"{labels[s]} {form.format(value)}" for s, value in values.items())
        polarity = "negatives" if suffix else "originals"
        axes.set_title(f"{word.capitalize()} on {polarity}\n{marks}", fontsize=10)
        axes.set_ylabel("")
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


@styled
def activation_functions() -> Figure:
    """Draw ReLU, LeakyReLU and ELU from -4 to 4."""
    x = np.linspace(-4, 4, 401)
    curves = {
        "ReLU": np.maximum(x, 0),
        "LeakyReLU (slope 0.1)": np.where(x > 0, x, 0.1 * x),
        "ELU": np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    }
    figure = blank(WIDTH, HEIGHT)
    axes = figure.subplots()
    for number, (name, y) in enumerate(curves.items()):
        curve = Curve(name, [], number)
        axes.plot(x, y, color=curve.colour, dashes=curve.dashes, linewidth=2, label=name)
    axes.set(xlabel="input", ylabel="output", ylim=(-1.4, 4))
    axes.legend(loc="upper left")
    return figure


@styled
def confusion(counts: Mapping[str, NDArray[np.int64]], names: Sequence[str]) -> Figure:
    """Draw confusion matrices side by side, each cell in per cent of its true class.

    Args:
        counts: by title, images ``[classes, classes]``, rows true and columns predicted.
        names: class names.
    """
    figure = blank(WIDTH * len(counts), WIDTH + 0.4)
    rotation = 60 if max(map(len, names), default=0) > 2 else 0
    grid = figure.subplots(1, len(counts), squeeze=False)[0]
    for axes, (title, matrix) in zip(grid, counts.items(), strict=True):
        share = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
        # The square root brings out a few confusions beside a large diagonal.
        axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
        axes.set_title(title)
        axes.set(xlabel="predicted class, % of the true class", ylabel="true class")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        if len(names) > MAX_NAMED:
            continue
        ticks, ha = range(len(names)), "right" if rotation else "center"
        axes.set_xticks(ticks, names, rotation=rotation, ha=ha, rotation_mode="anchor")
        axes.set_yticks(ticks, names)
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.005:
                colour = "white" if value > 0.3 else "black"
                text = f"{100 * value:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    return figure


def show(axes: Axes, image: NDArray[Any], **how: Any) -> None:
    """Draw a picture without axes.

    Args:
        axes: where.
        image: ``[channels, height, width]`` or ``[height, width]`` in [0, 1]; without three
            channels to show in colour, the first is shown in grey.
        how: of ``imshow``.
    """
    if image.ndim == 3:
        image = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    grey: dict[str, Any] = {"interpolation": "nearest", "cmap": "gray", "vmin": 0, "vmax": 1}
    axes.imshow(image, **grey | how)
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def samples(originals: Pictures, negatives: Pictures, names: Sequence[str]) -> Figure:
    """Draw an image of each class above its negative.

    Args:
        originals: ``[classes, channels, height, width]`` in [0, 1].
        negatives: likewise.
        names: class names.
    """
    gap = np.full((*originals.shape[:2], GAP, originals.shape[3]), BACKGROUND, np.float32)
    pairs = np.concatenate([originals, gap, negatives], axis=2)
    return captioned(pairs, names, "Training images above their negatives", columns=5)


@styled
def captioned(images: Pictures, captions: Sequence[str], title: str, columns: int = 4) -> Figure:
    """Draw pictures above their captions, large enough for thumbnails.

    Args:
        images: ``[count, channels, height, width]`` in [0, 1].
        captions: of each, up to two lines.
        title: above the figure.
        columns: pictures in a row.
    """
    count, _, height, width = images.shape
    rows = max(1, -(-count // columns))
    figure = blank(1.3 * columns, rows * (1.3 * height / width + 0.45) + 0.5, str(BACKGROUND))
    figure.suptitle(title if count else f"{title}: none", fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        show(axes, image)
        axes.set_title(caption, y=0, pad=-4, va="top", fontsize=9)
    return figure


@styled
def filters(weight: Pictures, channels: Sequence[str]) -> Figure:
    """Draw convolution kernels, a column per filter and a row per input channel.

    Args:
        weight: ``[filters, channels, height, width]``.
        channels: names of the channels.
    """
    count, rows, height, width = weight.shape
    limit = float(np.abs(weight).max()) or 1.0
    figure = blank(1.1 * count + 0.8, 1.1 * rows + 0.8)
    axes = figure.subplots()
    spaced = np.pad(weight, [(0, 0), (0, 0), (0, 1), (0, 1)]).transpose(1, 2, 0, 3)
    image = spaced.reshape(rows * (height + 1), count * (width + 1))[:-1, :-1]
    show(axes, image, cmap="RdBu_r", vmin=-limit, vmax=limit)
    names = [f"filter {i}" for i in range(1, count + 1)]
    axes.set_xticks(np.arange(count) * (width + 1) + (width - 1) / 2, names)
    axes.set_yticks(np.arange(rows) * (height + 1) + (height - 1) / 2, channels)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel(f"white 0, red to {limit:.2f}, blue to {-limit:.2f}")
    return figure


@styled
def negatives(
    title: str,
    pictures: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]],
    histograms: Mapping[str, Sequence[tuple[str, NDArray[np.int64], str]]],
    note: str,
) -> Figure:
    """Draw images beside their negatives above both histograms.

    Args:
        title: above the figure.
        pictures: of each class its name and, if it has one, an image and its negative, uint8
            ``[channels, height, width]``.
        histograms: by polarity, of each channel its colour, its counts ``[256]`` and a line of
            text.
        note: below the figure.
    """
    figure = Figure(figsize=(11, 6.2), dpi=120, layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=(0.9, 1.05))
    upper, lower = (figure.add_subfigure(parts[row]) for row in range(2))
    upper.suptitle(title, fontsize=14)
    columns = upper.subplots(2, len(pictures), squeeze=False)
    for (name, pair), column in zip(pictures, columns.T, strict=True):
        for axes in column:
            axes.set(xticks=[], yticks=[])
        for axes, image in zip(column, pair, strict=False):
            show(axes, image, vmin=0, vmax=255)
        column[0].set_title(name, fontsize=10)
    for polarity, axes in zip(histograms, columns[:, 0], strict=True):
        axes.set_ylabel(polarity, fontsize=11)
    both = lower.subplots(1, 2, sharex=True, sharey=True)
    for axes, (polarity, channels) in zip(both, histograms.items(), strict=True):
        _histogram(axes, channels)
        axes.set_title(polarity)
    both[0].set_ylabel("share of the test pixels")
    lower.supxlabel(note, fontsize=11)
    return figure


def _histogram(axes: Axes, channels: Sequence[tuple[str, NDArray[np.int64], str]]) -> None:
    for line, (colour, counts, text) in enumerate(channels):
        mean = np.average(np.arange(256), weights=counts)
        axes.stairs(
            counts / counts.sum(), np.arange(257) - 0.5, color=colour, fill=len(channels) == 1
        )
        axes.axvline(mean, color=colour, linestyle="--", linewidth=1)
        axes.annotate(
            text,
            xy=(0.5, 0),
            xytext=(0, -40 - 14 * line),
            xycoords="axes fraction",
            textcoords="offset points",
            family="monospace",
            color=colour,
            ha="center",
            va="top",
        )
    # A background of one value would hide all others on a linear scale.
    axes.set_yscale("log" if len(channels) == 1 else "linear")
    axes.set(xlabel="value (dashed: mean)", xlim=(-2, 257), xticks=range(0, 256, 51))


@styled
def robustness(
    curves: Mapping[str, Mapping[str, Points]],
    bars: Mapping[str, Points],
    chance: float,
    top: float,
) -> Figure:
    """Draw the accuracy of several settings against levels, and by corruption.

    Args:
        curves: by the label of the horizontal axis, points of each setting by its title.
        bars: of each setting by its title, a level for each corruption.
        chance: accuracy of guessing, drawn as a thin line.
        top: highest accuracy of all.
    """
    columns = 3 if max(map(len, bars)) <= 32 else 2
    figure = blank(2 * WIDTH, 6.4 + 0.2 * -(-len(bars) // columns))
    parts = figure.add_gridspec(2, len(curves), height_ratios=(1, 1.15))
    lower = figure.add_subplot(parts[1, :])
    for place, (label, settings) in enumerate(curves.items()):
        axes = figure.add_subplot(parts[0, place], sharey=lower)
        for number, (title, points) in enumerate(settings.items()):
            style = _marked(number)
            x, mean, sd = np.array(points.levels, dtype=float), points.mean, points.sd
            axes.fill_between(
                x, mean - sd, mean + sd, color=style["color"], alpha=0.18, linewidth=0
            )
            axes.plot(x, mean, dashes=Curve("", [], number).dashes, label=title, **style)
        axes.set_xlabel(label)
        axes.tick_params(labelleft=place == 0)
        if place == 0:
            axes.invert_xaxis()  # from the originals to the right, as beside it
            axes.set_ylabel("test accuracy")
            handles, titles = axes.get_legend_handles_labels()
    step = 0.8 / len(bars)
    for number, points in enumerate(bars.values()):
        x = np.arange(len(points.levels)) + step * (number - (len(bars) - 1) / 2)
        lower.errorbar(x, points.mean, points.sd, linestyle="", elinewidth=1, **_marked(number))
    names = [str(level).replace("_", " ") for level in next(iter(bars.values())).levels]
    for place in range(0, len(names), 2):
        lower.axvspan(place - 0.5, place + 0.5, color="#f3f4f6", zorder=0)
    lower.grid(visible=False, axis="x")
    lower.set_xticks(
        range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=9
    )
    lower.set(ylabel="test accuracy", ylim=(0, min(1.03, 1.1 * top)))
    lower.set_xlim(-0.5, len(names) - 0.5)
    for axes in figure.axes:
        axes.axhline(chance, color="#777777", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.legend(handles, titles, loc="outside lower center", ncols=columns)
    return figure


def _marked(number: int) -> dict[str, Any]:
    marker = MARKERS[number % len(MARKERS)]
    return {"color": Curve("", [], number).colour, "marker": marker, "markersize": 4}


@styled
def feature_maps(
    networks: Sequence[tuple[str, str, Sequence[Sequence[NDArray[np.float32]]]]],
) -> Figure:
    """Draw an image and its negative with the maps of a layer, two rows for each network.

    Args:
        networks: of each its title, a note, and the two rows: the image ``[channels, height,
            width]`` in [0, 1], then its maps ``[height, width]``.
    """
    figure = blank(2 * WIDTH, 3.1 * len(networks))
    parts: Any = figure.subfigures(len(networks), 1, squeeze=False)[:, 0]
    for part, (title, note, rows) in zip(parts, networks, strict=True):
        maps = np.stack([np.stack(list(row[1:])) for row in rows])
        part.suptitle(f"{title}, black {maps.min():.2f} to white {maps.max():.2f}", fontsize=11)
        part.supxlabel(note, fontsize=10)
        places = part.subplots(2, len(rows[0]))
        for axes, row, label in zip(places, rows, ("image", "negative"), strict=True):
            for number, (place, picture) in enumerate(zip(axes, row, strict=True)):
                low, high = (maps.min(), maps.max()) if number else (0, 1)
                show(place, picture, vmin=low, vmax=high)
            axes[0].set_ylabel(label)
        for number, place in enumerate(places[0, 1:], 1):
            place.set_title(f"map {number}", fontsize=9)
    return figure
