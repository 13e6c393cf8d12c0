"""Negatives of images, and which training images are reversed.

The negative of x is ``255 - x`` on uint8 and ``1 - x`` on [0, 1] (report, section 1.c).
"""

from typing import Literal

import torch
from torch import Tensor

TrainPolarity = Literal["original", "negative", "half", "random"]


def negate(images: Tensor, border: int = 0) -> Tensor:
    """Return the negatives of float images in [0, 1], same shape ``[..., height, width]``.

    Args:
        images: pixel values in [0, 1].
        border: width in pixels of a frame that keeps its values (padding that stays black).
    """
    negatives = 1 - images
    if border:
        kept = torch.ones_like(images[..., :, :], dtype=torch.bool)
        kept[..., border:-border, border:-border] = False
        negatives = torch.where(kept, images, negatives)
    return negatives


def reversed_images(polarity: TrainPolarity, count: int, generator: torch.Generator) -> Tensor:
    """Return a bool mask ``[count]`` of the training images to reverse.

    ``half`` reverses exactly ``count // 2`` images drawn by ``generator``; ``random`` each image
    with probability one half (redraw it every epoch); ``original`` none; ``negative`` all.
    """
    if polarity == "half":
        mask = torch.zeros(count, dtype=torch.bool)
        mask[torch.randperm(count, generator=generator)[: count // 2]] = True
        return mask
    if polarity == "random":
        return torch.rand(count, generator=generator) < 0.5
    return torch.full((count,), polarity == "negative")
