"""Whether a training has ended at chance level, and the likely cause."""

import math
from collections.abc import Iterable

from torch import Tensor

from lenet_lightning.statistics import wilson

# Standard deviation of the logits over images, below which a network's answer is constant.
CONSTANT = 0.05


def is_chance(accuracies: Iterable[tuple[float, int]], labels: Tensor) -> bool:
    """Tell whether no accuracy is significantly above that of always naming one class.

    Args:
        accuracies: each a fraction, and the number of images that it is of.
        labels: of the training images, ``[n]``; their most frequent class is chance.
    """
    chance = float(labels.bincount().max()) / len(labels)
    return all(wilson(accuracy, count)[0] <= chance for accuracy, count in accuracies)


def words(initializer: str | None, rate: float, loss: float, logits: Tensor) -> str:
    """Return the line that says so, and why.

    Args:
        initializer: ``model.network.initializer``; None of other networks.
        rate: the highest learning rate of the training.
        loss: on test images.
        logits: of test images, ``[n, classes]``.
    """
    constant = len(logits) > 1 and float(logits.std(0).max()) < CONSTANT
    if initializer == "ones":
        cause = (
            "model.network.initializer ones makes all units of a layer the same: use he_normal or "
            "glorot_normal"
        )
    elif constant or loss > 2 * math.log(logits.shape[1]):  # more than before training
        cause = f"the learning rate, {rate:g}, is too high: try a tenth of it"
    else:
        cause = f"the learning rate, {rate:g}, is too low, or the training too short"
    return f"The network is no better than chance. Most likely {cause}."
