"""Running sums of loss and accuracy on the device, read once an epoch."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torchmetrics import Metric

POLARITIES = ("", "_negative")


class Sums(Metric):
    """Loss and accuracy over an epoch, one column per polarity; exact on any number of devices.

    Args:
        columns: 1 for training or test-time augmentation, 2 for originals and negatives.
    """

    full_state_update = False
    loss: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.add_state("loss", torch.zeros(columns), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros(columns, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, correct: Tensor, count: int) -> None:
        """Add sums over ``count`` images.

        Args:
            loss: float ``[columns]``.
            correct: int64, the same shape.
            count: images.
        """
        self.loss += loss
        self.correct += correct
        self.count += count

    def compute(self) -> dict[str, Tensor]:
        """Return ``loss`` and ``acc`` (and ``..._negative``), scalar means over all images seen."""
        columns = range(len(self.loss))
        values = {f"loss{POLARITIES[i]}": self.loss[i] / self.count for i in columns}
        return values | {f"acc{POLARITIES[i]}": self.correct[i] / self.count for i in columns}


def metric_names(stage: str) -> list[str]:
    """Return the names under which a stage (``train``, ``val``, ``test``) is reported."""
    suffixes = POLARITIES[:1] if stage == "train" else POLARITIES
    return [f"{stage}/{kind}{suffix}" for suffix in suffixes for kind in ("loss", "acc")]


def mean_of(outputs: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors of one shape, added in the order given."""
    return reduce(torch.add, outputs) / len(outputs)
