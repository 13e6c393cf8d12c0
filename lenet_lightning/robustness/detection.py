"""Out-of-distribution detection: is a network less confident on images of another dataset?"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from lenet_lightning.data.batches import to_unit

OTHERS = {"MNIST": "FashionMNIST", "FashionMNIST": "MNIST"}
"""The dataset whose images a network trained on another is to detect."""
BATCH = 500


class Detection(NamedTuple):
    """A line of ``out_of_distribution.csv``.

    Attributes:
        setting: and ``seed``, ``group`` and ``dataset`` as in `evaluate.Row`.
        other: the dataset to detect.
        auroc: area under the receiver operating characteristic; 0.5 is guessing.
        low: lower end of its 95 % interval over images.
        high: upper end of it.
        images: test images of the dataset.
        other_images: test images of the other one.
    """

    setting: str
    seed: int
    group: str
    dataset: str
    other: str
    auroc: float
    low: float
    high: float
    images: int
    other_images: int


@torch.inference_mode()
def confidence(network: nn.Module, images: Tensor) -> Tensor:
    """Return the largest probability of each image, float64 ``[count]``.

    The baseline of Hendrycks and Gimpel (2017, arXiv:1610.02136).

    Args:
        network: maps images to logits.
        images: uint8 ``[count, channels, 32, 32]``.
    """
    parts = [network(to_unit(part)).double().softmax(1).amax(1) for part in images.split(BATCH)]
    return torch.cat(parts)


def auroc(known: Tensor, other: Tensor, level: float = 0.95) -> tuple[float, float, float]:
    """Return the area under the ROC curve of two sets' confidences and its interval.

    The interval is that of Hanley and McNeil (1982, Radiology 143, 29-36).

    Args:
        known: confidences on the dataset, ``[n]``.
        other: confidences on the other one, ``[m]``.
        level: of the interval.
    """
    n, m = len(known), len(other)
    target = torch.cat([torch.ones(n, dtype=torch.long), torch.zeros(m, dtype=torch.long)])
    area = float(binary_auroc(torch.cat([known, other]), target))
    pairs = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    variance = (area * (1 - area) + (n - 1) * pairs[0] + (m - 1) * pairs[1]) / (n * m)
    half = NormalDist().inv_cdf(0.5 + level / 2) * max(0.0, variance) ** 0.5
    return area, max(0.0, area - half), min(1.0, area + half)
