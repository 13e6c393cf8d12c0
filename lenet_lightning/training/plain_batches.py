"""Batches of a plain ``DataLoader``, (images, labels), in the form that the classifier takes.

They train and test more slowly than those of this package's datamodules, one step a call.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_lightning.data.batches import Chunk, EvaluationBatch, to_unit
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.input_size import INPUT_SIZE, repeat_and_padding
from lenet_lightning.data.polarity import negate
from lenet_lightning.errors import UserError

EXPECTED = (
    "expected pairs of images, float in [0, 1] or uint8, [batch, channels, size, size] with sizes "
    f"up to {INPUT_SIZE}, and of labels, int64 [batch]."
)


def spec(channels: int, classes: int, scaling: str) -> InputSpec:
    """Return what is known of the images of a plain ``DataLoader``.

    Raises:
        UserError: the network standardizes its input, by a mean that nothing tells.
    """
    if scaling == "standardized":
        raise UserError(
            "scaling is standardized, but a DataLoader does not tell the mean of its images: use "
            "Classifier(scaling='centered'), or a datamodule of this package."
        )
    names = tuple(map(str, range(classes)))
    return InputSpec("images", channels, INPUT_SIZE, names, (0.0,) * channels, (1.0,) * channels)


def as_input(images: Tensor, channels: int) -> Tensor:
    """Bring images to float32 ``[batch, channels, 32, 32]`` in [0, 1]: repeat pixels, then pad.

    Raises:
        UserError: they have another shape or range.
    """
    size = images.shape[-1] if images.ndim == 4 else 0
    if not 1 <= size <= INPUT_SIZE or images.shape[1:] != (channels, size, size):
        raise UserError(f"The images are of shape {[*images.shape]}: {EXPECTED}")
    images = to_unit(images) if images.dtype == torch.uint8 else images.float()
    low, high = (float(x) for x in images.aminmax())
    if not (low >= 0 and high <= 1):  # nor NaN
        raise UserError(
            f"The images hold values from {low:.3g} to {high:.3g}: {EXPECTED} Leave "
            "transforms.Normalize out: model.scaling scales them."
        )
    repeat, padding = repeat_and_padding(size)
    images = images.repeat_interleave(repeat, 2).repeat_interleave(repeat, 3)
    return F.pad(images, (padding, INPUT_SIZE - size * repeat - padding) * 2)


def parts(batch: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a batch.

    Raises:
        UserError: it is not a pair of them.
    """
    pair = isinstance(batch, list | tuple) and len(batch) == 2
    if not (pair and all(isinstance(part, Tensor) for part in batch) and batch[1].ndim == 1):
        raise UserError(f"A batch of the DataLoader is not understood: {EXPECTED}")
    return as_input(batch[0], channels), batch[1].long()


def chunk(batch: Any, channels: int, world_size: int) -> Chunk:
    """Return a training batch as a chunk of one batch.

    Args:
        batch: an ``Chunk`` already, or a pair of images and labels.
        channels: of the images.
        world_size: processes, each of which is given as many images.
    """
    if isinstance(batch, Chunk):
        return batch
    images, labels = parts(batch, channels)
    return Chunk(images, labels, [len(labels)], [len(labels) * world_size])


def evaluation(batch: Any, channels: int, first: int) -> EvaluationBatch:
    """Return a batch to evaluate, with the negatives of its images.

    Args:
        batch: an ``EvaluationBatch`` already, or a pair of images and labels.
        channels: of the images.
        first: position of its first image in the set.
    """
    if isinstance(batch, EvaluationBatch):
        return batch
    images, labels = parts(batch, channels)
    position = torch.arange(first, first + len(labels), device=labels.device)
    return EvaluationBatch(images, negate(images), labels, position)
