"""Proof of the negatives: statistics and a figure of a dataset beside its negative.

Regenerates the report's Fig 1.c.1. Everything is computed on the network's 32x32 input in uint8:
images are padded (or enlarged) first and reversed afterwards, so the border is reversed too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lenet_lightning.data.fetch import Dataset, Split
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.data.readers import Pixels
from lenet_lightning.data.registry import DATASETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POLARITIES = ("original", "negative")
_CHUNK = 5_000  # images in memory at once


@dataclass(frozen=True)
class ChannelStatistics:
    """Distribution of the values 0..255 of one channel of one polarity of one split.

    Attributes:
        split: ``train`` or ``test``.
        channel: ``grey``, or ``red``, ``green`` or ``blue``.
        polarity: ``original`` or ``negative``.
        counts: int64 [256], how many pixels have each value.
    """

    split: str
    channel: str
    polarity: str
    counts: npt.NDArray[np.int64]

    @property
    def min(self) -> int:
        """Smallest value."""
        return int(np.flatnonzero(self.counts)[0])

    @property
    def max(self) -> int:
        """Largest value."""
        return int(np.flatnonzero(self.counts)[-1])

    @property
    def mean(self) -> float:
        """Mean value."""
        return float(np.average(np.arange(256), weights=self.counts))

    @property
    def std(self) -> float:
        """Standard deviation of the values."""
        return float(np.average((np.arange(256) - self.mean) ** 2, weights=self.counts) ** 0.5)


@dataclass(frozen=True)
class Statistics:
    """Statistics of a dataset and of its negative.

    Attributes:
        channels: one entry per split, polarity and channel.
        residual: largest difference of x + negative from 255; 0 if the negatives are right.
    """

    channels: tuple[ChannelStatistics, ...]
    residual: int


def negative(images: Pixels) -> Pixels:
    """Return the negative, 255 - x, of uint8 images of any shape."""
    return 255 - images


def channel_names(dataset: Dataset) -> tuple[str, ...]:
    """Return ``("grey",)`` or ``("red", "green", "blue")``."""
    return ("grey",) if dataset.test.images.shape[1] == 1 else ("red", "green", "blue")


def statistics(dataset: Dataset) -> Statistics:
    """Return the statistics of both splits in both polarities."""
    names = channel_names(dataset)
    channels, residual = [], 0
    for split_name, split in (("train", dataset.train), ("test", dataset.test)):
        counts = np.zeros((2, len(names), 256), np.int64)
        for pair in _pairs(split):
            sums = pair[0].astype(np.int16) + pair[1]
            residual = max(residual, int(np.abs(sums - 255).max()))
            for polarity, channel in np.ndindex(2, len(names)):
                values = pair[polarity][:, channel].ravel()
                counts[polarity, channel] += np.bincount(values, minlength=256)
        channels += [
            ChannelStatistics(split_name, name, polarity, counts[p, c])
            for p, polarity in enumerate(POLARITIES)
            for c, name in enumerate(names)
        ]
    return Statistics(tuple(channels), residual)


def _pairs(split: Split) -> Iterator[tuple[Pixels, Pixels]]:
    for start in range(0, len(split.images), _CHUNK):
        images = to_input_size(split.images[start : start + _CHUNK])
        yield images, negative(images)


def statistics_table(found: Statistics) -> list[str]:
    """Return the statistics as lines of text in columns."""
    rows = [
        f"{'split':6}{'polarity':10}{'channel':8}{'min':>5}{'max':>5}{'mean':>9}{'std':>9}",
        *(
            f"{c.split:6}{c.polarity:10}{c.channel:8}{c.min:5}{c.max:5}{c.mean:9.3f}{c.std:9.3f}"
            for c in found.channels
        ),
    ]
    return [*rows, f"largest |x + negative - 255|: {found.residual}"]


def show_figure(dataset: Dataset, found: Statistics | None = None) -> Figure:
    """Return a figure of test images beside their negatives, both histograms and statistics.

    Args:
        dataset: the dataset; the first test image of each class is drawn.
        found: its `statistics`, computed here if not given.
    """
    from matplotlib.figure import Figure

    found = found or statistics(dataset)
    figure = Figure(figsize=(11, 6.2), dpi=120, layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(0.9, 1.05))
    upper, lower = (figure.add_subfigure(grid[row]) for row in range(2))
    upper.suptitle(f"{DATASETS[dataset.name].title}: test images and negatives", fontsize=14)
    _draw_pictures(dataset, upper.subplots(2, len(dataset.classes), squeeze=False))
    axes = lower.subplots(1, 2, sharex=True, sharey=True)
    for polarity, axis in zip(POLARITIES, axes, strict=True):
        _draw_histogram(found, polarity, axis)
    axes[0].set_ylabel("share of the test pixels")
    lower.supxlabel(f"largest |x + negative - 255| of all pixels: {found.residual}", fontsize=11)
    return figure


def _draw_pictures(dataset: Dataset, axes: npt.NDArray[np.object_]) -> None:
    for label, name in enumerate(dataset.classes):
        where = np.flatnonzero(dataset.test.labels == label)[:1]
        images = to_input_size(dataset.test.images[where])
        for axis, image in zip(axes[:, label], (images, negative(images)), strict=True):
            axis.set(xticks=[], yticks=[])
            if len(where):
                axis.imshow(image[0].transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
        axes[0, label].set_title(name, fontsize=10)
    for axis, polarity in zip(axes[:, 0], POLARITIES, strict=True):
        axis.set_ylabel(polarity, fontsize=11)


def _draw_histogram(found: Statistics, polarity: str, axis: Axes) -> None:
    chosen = [c for c in found.channels if c.split == "test" and c.polarity == polarity]
    for line, channel in enumerate(chosen):
        colour = {"grey": "0.25", "red": "C3", "green": "C2", "blue": "C0"}[channel.channel]
        share = channel.counts / channel.counts.sum()
        axis.stairs(share, np.arange(257) - 0.5, color=colour, fill=len(chosen) == 1)
        axis.axvline(channel.mean, color=colour, linestyle="--", linewidth=1)
        axis.annotate(
            f"{channel.channel:6}min{channel.min:4}  max{channel.max:4}  "
            f"mean {channel.mean:7.3f}  std {channel.std:6.3f}",
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
    axis.set_yscale("log" if len(chosen) == 1 else "linear")
    axis.set(title=polarity, xlabel="value (dashed: mean)", xlim=(-2, 257))
    axis.set_xticks(range(0, 256, 51))
    axis.grid(alpha=0.25)
