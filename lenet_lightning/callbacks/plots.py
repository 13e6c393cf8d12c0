"""The figures of one run; import this module where a figure is drawn, not at start-up.

Every drawing function returns its picture as uint8 ``[height, width, 3]``.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    StrMethodFormatter,
)
from numpy.typing import NDArray
from PIL import Image

from lenet_lightning import files

Picture = NDArray[np.uint8]

# Okabe and Ito's colours, which colour-blind readers tell apart too.
COLOURS = {"train": "#000000", "val": "#0072B2", "test": "#D55E00"}
STYLES = {"train": "--", "val": "-", "test": "-."}
MARKERS = {"val": "o", "test": "D"}
POLARITIES = {"originals": "", "negatives": "_negative"}
RC: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}

# Grey, so that black and white pictures both stand out.
BACKGROUND = "0.88"

# Beyond this many classes their names and counts no longer fit.
MAX_NAMED = 20


def blank(width: float, height: float, colour: str = "white") -> Figure:
    """Return an empty figure that arranges itself; sizes in inches, 100 pixels each."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=100, layout=layout, facecolor=colour)


def render(figure: Figure) -> Picture:
    """Return a figure's pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(picture: Picture, path: Path) -> None:
    """Write a PNG; see ``files.replace``."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="png")
    files.replace(path, content.getbuffer())


def curves(
    metrics: dict[str, NDArray[np.float64]],
    title: str,
    best_epoch: int | None = None,
    test: dict[str, float] | None = None,
    val_label: str = "validation",
) -> Picture:
    """Draw accuracy and loss against the epoch, on originals and on negatives.

    The polarities have scales of their own: a network that never saw a negative is so bad on them
    that a common scale would flatten everything else.

    Args:
        metrics: columns of metrics.csv, each ``[epochs]``; accuracies in [0, 1].
        title: stands above the figure.
        best_epoch: epoch of the best checkpoint, marked in every panel.
        test: ``test/acc``, ``test/loss`` and both with ``_negative``, of the best checkpoint.
        val_label: what the validation images are called.
    """
    labels = {"train": "training", "val": val_label, "test": "test"}
    with matplotlib.rc_context(RC):
        figure = blank(10, 7)
        figure.suptitle(title, fontsize=12)
        panels = figure.subplots(2, 2, sharex=True)
        for row, (kind, word) in zip(panels, (("acc", "Accuracy"), ("loss", "Loss")), strict=True):
            for axes, (polarity, suffix) in zip(row, POLARITIES.items(), strict=True):
                column = f"{kind}{suffix}"
                draw_curves(axes, metrics, column, best_epoch, labels)
                marks = draw_best(axes, metrics, column, best_epoch, test or {}, labels)
                axes.set_title("\n".join([f"{word} on {polarity}", marks]), fontsize=10)
                scale(axes, kind)
        for axes in panels[1]:
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        return render(figure)


def draw_curves(
    axes: Axes,
    metrics: dict[str, NDArray[np.float64]],
    column: str,
    best_epoch: int | None,
    labels: dict[str, str],
) -> None:
    """Draw one metric of every stage that has it."""
    epochs = metrics["epoch"]
    axes.grid(True)
    for stage, label in labels.items():
        if f"{stage}/{column}" in metrics:
            values = metrics[f"{stage}/{column}"]
            marker = "o" if len(epochs) == 1 else None
            axes.plot(
                epochs, values, STYLES[stage], marker=marker, color=COLOURS[stage], label=label
            )
    if best_epoch is not None:
        axes.axvline(best_epoch, color="#999999", linewidth=1, zorder=1, label="best epoch")


def draw_best(
    axes: Axes,
    metrics: dict[str, NDArray[np.float64]],
    column: str,
    best_epoch: int | None,
    test: dict[str, float],
    labels: dict[str, str],
) -> str:
    """Mark the values of the best epoch; return them as a line of text."""
    if best_epoch is None:
        return ""
    at_best = metrics["epoch"] == best_epoch
    values = {
        stage: float(metrics[f"{stage}/{column}"][at_best][0])
        for stage in ("val", "test")
        if f"{stage}/{column}" in metrics
    }
    if f"test/{column}" in test:
        values["test"] = test[f"test/{column}"]
    for stage, value in values.items():
        marker, curve = MARKERS[stage], f"{stage}/{column}" in metrics
        label = None if curve else labels[stage]
        axes.plot(best_epoch, value, marker, color=COLOURS[stage], label=label)
    form = "{:.2%}" if column.startswith("acc") else "{:.4f}"
    return ", ".join(f"{labels[stage]} {form.format(value)}" for stage, value in values.items())


def scale(axes: Axes, kind: str) -> None:
    """Show accuracies in per cent, and losses that span orders of magnitude on a log scale."""
    if kind == "acc":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        return
    low, high = axes.dataLim.intervaly
    if 0 < 10 * low < high:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def mosaic(images: NDArray[np.float32], gap: int = 2) -> NDArray[np.float32]:
    """Lay images out as one.

    Args:
        images: ``[rows, columns, height, width, channels]``.
        gap: pixels of NaN between them.

    Returns:
        ``[rows * (height + gap) - gap, columns * (width + gap) - gap, channels]``.
    """
    images = np.pad(
        images, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=float("nan")
    )
    rows, columns, height, width, channels = images.shape
    whole = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    return whole[: whole.shape[0] - gap, : whole.shape[1] - gap]


def show(axes: Axes, images: NDArray[np.float32], gap: int = 2) -> None:
    """Draw pictures in [0, 1] side by side, grey or RGB.

    Args:
        axes: where.
        images: ``[rows, columns, channels, height, width]``; NaN shows the background.
        gap: pixels between the pictures.
    """
    whole = np.nan_to_num(mosaic(images.transpose(0, 1, 3, 4, 2), gap), nan=float(BACKGROUND))
    # Without three channels to show in colour, the first is shown in grey.
    whole = whole if whole.shape[2] == 3 else np.repeat(whole[..., :1], 3, axis=2)
    axes.imshow(whole, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def samples(
    originals: NDArray[np.float32], negatives: NDArray[np.float32], names: Sequence[str]
) -> Picture:
    """Draw images above their negatives, a column per class.

    Args:
        originals: ``[count, classes, channels, height, width]`` in [0, 1].
        negatives: likewise.
        names: class names.
    """
    count, classes, _, size, _ = originals.shape
    gap = 2
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(1.1 * classes + 1.1, 2.2 * count + 0.5), facecolor=BACKGROUND)
        axes = fill(figure, left=1.0, top=0.4)
        pairs = np.stack([originals, negatives], 1).reshape(-1, *originals.shape[1:])
        show(axes, pairs, gap)
        axes.set_xticks(centers(classes, size, gap), names)
        axes.set_yticks(centers(2 * count, size, gap), ["original", "negative"] * count)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        return render(figure)


def filters(weight: NDArray[np.float32], channels: Sequence[str]) -> Picture:
    """Draw convolution kernels, a column per filter and a row per input channel.

    Args:
        weight: ``[filters, channels, height, width]``.
        channels: names of the channels.
    """
    count, rows, size = weight.shape[:3]
    limit = float(np.abs(weight).max()) or 1.0
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(1.1 * count + 0.8, 1.1 * rows + 0.8))
        axes = fill(figure, left=0.7, bottom=0.3, top=0.4)
        whole = mosaic(weight.transpose(1, 0, 2, 3)[..., None], gap=1)[..., 0]
        axes.imshow(whole, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(f"white 0, red to {limit:.2f}, blue to {-limit:.2f}", fontsize=10)
        axes.set_xticks(centers(count, size, 1), [f"filter {i}" for i in range(count)])
        axes.set_yticks(centers(rows, size, 1), channels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return render(figure)


def fill(
    figure: Figure, left: float = 0.1, bottom: float = 0.1, right: float = 0.1, top: float = 0.1
) -> Axes:
    """Return axes that fill a figure but for margins in inches; faster than a computed layout."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    return figure.add_axes(box)


def centers(count: int, size: int, gap: int) -> NDArray[np.floating[Any]]:
    """Return where the middles of ``count`` pictures of a mosaic lie."""
    return (size - 1) / 2 + (size + gap) * np.arange(count)


def confusion(counts: dict[str, NDArray[np.int64]], names: Sequence[str]) -> Picture:
    """Draw confusion matrices side by side: counts, shaded by their share of the true class.

    Args:
        counts: by title, ``[classes, classes]``, rows true and columns predicted.
        names: class names.
    """
    with matplotlib.rc_context(RC):
        figure = blank(6.2 * len(counts), 6.4)
        panels = figure.subplots(1, len(counts), squeeze=False)[0]
        for axes, (title, matrix) in zip(panels, counts.items(), strict=True):
            draw_confusion(axes, matrix, names)
            right = np.trace(matrix) / max(1, matrix.sum())
            axes.set_title(f"{title}: {right:.2%} right")
        return render(figure)


def draw_confusion(axes: Axes, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw one confusion matrix ``[classes, classes]``."""
    share = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    # The square root brings out a few confusions beside a thousand right answers.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(length=0)
    if len(names) > MAX_NAMED:
        return
    long = max(map(len, names)) > 3
    where = range(len(names))
    axes.set_xticks(where, names, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(where, names)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share[row, column] > 0.3 else "black",
            in_layout=False,
        )


def mistakes(found: dict[str, tuple[NDArray[np.float32], list[str]]], columns: int = 8) -> Picture:
    """Draw misclassified images with a caption each.

    Args:
        found: by title, images ``[count, channels, height, width]`` in [0, 1] and their captions.
        columns: pictures in a row.
    """
    rows = {title: max(1, -(-len(text) // columns)) for title, (_, text) in found.items()}
    with matplotlib.rc_context(RC):
        figure = blank(12, 2.0 * sum(rows.values()) + 0.7, BACKGROUND)
        panels = figure.subplots(len(found), height_ratios=list(rows.values()), squeeze=False)
        for axes, (title, (images, text)) in zip(panels[:, 0], found.items(), strict=True):
            axes.set_title(title if text else f"{title}: none")
            draw_captioned(axes, images, text, rows[title], columns)
        return render(figure)


def draw_captioned(
    axes: Axes, images: NDArray[np.float32], text: Sequence[str], rows: int, columns: int
) -> None:
    """Draw images ``[count, channels, height, width]`` in rows, each above its caption."""
    _, channels, height, width = images.shape
    room = height * 3 // 8
    places = np.full((rows * columns, channels, height + room, width), np.nan, np.float32)
    places[: len(images), :, :height] = images
    show(axes, places.reshape(rows, columns, *places.shape[1:]), gap=6)
    for i, caption in enumerate(text):
        x = (i % columns) * (width + 6) + (width - 1) / 2
        y = (i // columns) * (height + room + 6) + height + 1
        axes.text(x, y, caption, ha="center", va="top", fontsize=9, in_layout=False)
