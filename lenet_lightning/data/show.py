"""Proof of the negatives: statistics and a figure of a dataset beside its negative.

Regenerates the report's Fig 1.c.1. Everything is computed on the network's 32x32 input in uint8:
images are padded (or enlarged) first and reversed afterwards, so the border is reversed too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lenet_lightning.data.fetch import Dataset, Split
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.data.readers import Pixels
from lenet_lightning.data.registry import DATASETS

POLARITIES = ("original", "negative")
COLOURS = {"grey": "0.25", "red": "C3", "green": "C2", "blue": "C0"}
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


def picture(dataset: Dataset, found: Statistics | None = None) -> bytes:
    """Return a PNG of test images beside their negatives, both histograms and statistics.

    Args:
        dataset: the dataset; the first test image of each class is drawn.
        found: its `statistics`, computed here if not given.
    """
    from lenet_lightning import plotting

    found = found or statistics(dataset)
    pictures = []
    for label, name in enumerate(dataset.classes):
        where = np.flatnonzero(dataset.test.labels == label)[:1]
        images = to_input_size(dataset.test.images[where])
        pictures.append((name, [*images, *negative(images)]))
    histograms = {
        polarity: [
            (
                COLOURS[c.channel],
                c.counts,
                f"{c.channel:6}min{c.min:4}  max{c.max:4}  mean {c.mean:7.3f}  std {c.std:6.3f}",
            )
            for c in found.channels
            if (c.split, c.polarity) == ("test", polarity)
        ]
        for polarity in POLARITIES
    }
    title = f"{DATASETS[dataset.name].title}: test images and negatives"
    note = f"largest |x + negative - 255| of all pixels: {found.residual}"
    return plotting.to_png(plotting.negatives(title, pictures, histograms, note), dpi=120)
