"""Proof of the negatives: statistics and a figure of a dataset beside its negative.

Regenerates the report's Fig 1.c.1. Everything is computed on the network's 32x32 input in uint8:
images are padded (or enlarged) first and reversed afterwards, so the border is reversed too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lenet_lightning.data.fetch import Dataset
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.data.readers import Pixels
from lenet_lightning.data.registry import DATASETS

POLARITIES = ("original", "negative")
CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}
COLOURS = {"grey": "0.25", "red": "C3", "green": "C2", "blue": "C0"}
CHUNK = 5_000  # images in memory at once


class ChannelStatistics(NamedTuple):
    """Distribution of the values 0..255 of one channel of one polarity of one split.

    Attributes:
        split: ``train`` or ``test``.
        polarity: ``original`` or ``negative``.
        channel: ``grey``, or ``red``, ``green`` or ``blue``.
        counts: int64 [256], how many pixels have each value.
        min: smallest value.
        max: largest value.
        mean: mean value.
        std: standard deviation of the values.
    """

    split: str
    polarity: str
    channel: str
    counts: npt.NDArray[np.int64]
    min: int
    max: int
    mean: float
    std: float


class Statistics(NamedTuple):
    """Statistics of a dataset and of its negative.

    Attributes:
        channels: one entry per split, polarity and channel.
        residual: largest difference of x + negative from 255; 0 if the negatives are right.
    """

    channels: list[ChannelStatistics]
    residual: int


def negative(images: Pixels) -> Pixels:
    """Return the negative, 255 - x, of uint8 images of any shape."""
    return 255 - images


def statistics(dataset: Dataset) -> Statistics:
    """Return the statistics of both splits in both polarities."""
    names = CHANNELS[dataset.test.images.shape[1]]
    values, channels, residual = np.arange(256), [], 0
    for split, images in (("train", dataset.train.images), ("test", dataset.test.images)):
        counts = np.zeros((2, len(names), 256), np.int64)
        for start in range(0, len(images), CHUNK):
            originals = to_input_size(images[start : start + CHUNK])
            pair = originals, negative(originals)
            sums = pair[0].astype(np.int16) + pair[1]
            residual = max(residual, int(np.abs(sums - 255).max()))
            for polarity, channel in np.ndindex(2, len(names)):
                pixels = pair[polarity][:, channel].ravel()
                counts[polarity, channel] += np.bincount(pixels, minlength=256)
        for polarity, channel in np.ndindex(2, len(names)):
            own = counts[polarity, channel]
            low, high = np.flatnonzero(own)[[0, -1]].tolist()
            mean = float(np.average(values, weights=own))
            std = float(np.average((values - mean) ** 2, weights=own) ** 0.5)
            labels = split, POLARITIES[polarity], names[channel]
            channels.append(ChannelStatistics(*labels, own, low, high, mean, std))
    return Statistics(channels, residual)


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


def picture(dataset: Dataset, found: Statistics) -> bytes:
    """Return a PNG of test images beside their negatives, both histograms and statistics.

    Args:
        dataset: the dataset; the first test image of each class is drawn.
        found: its `statistics`.
    """
    from lenet_lightning import plotting

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
