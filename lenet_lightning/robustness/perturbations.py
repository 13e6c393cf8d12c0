"""What is done to the test images, level by level."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lenet_lightning.data.polarity import negate
from lenet_lightning.robustness.corruptions import CORRUPTIONS, Change
from lenet_lightning.robustness.draws import Draws


class Level(NamedTuple):
    """One way of altering images.

    Attributes:
        perturbation: ``contrast``, ``brightness``, ``inversion`` or ``corruption``.
        level: its strength, or the name of the corruption.
        change: maps images and draws to the altered images.
    """

    perturbation: str
    level: float | str
    change: Change

    def apply(self, images: Tensor, seed: int, first: int = 0) -> Tensor:
        """Return the altered images, float32, same shape, in [0, 1].

        Args:
            images: float32 ``[batch, channels, 32, 32]`` in [0, 1].
            seed: what is random depends on it, on the perturbation, its level and the position of
                each image, and on nothing else.
            first: position of the first image in its set.
        """
        name = f"{self.perturbation} {self.level}".encode()
        return self.change(images, Draws((seed, *name), first, len(images)))


def contrast(images: Tensor, draws: Draws, factor: float) -> Tensor:
    """Return ``0.5 + factor * (images - 0.5)``: the images at 1, grey at 0, negatives at -1."""
    # Multiplied out, the images and their negatives come out exactly.
    return (1 - factor) / 2 + factor * images


def brightness(images: Tensor, draws: Draws, added: float) -> Tensor:
    """Return ``images + added``, clipped to [0, 1]."""
    return (images + added).clamp_(0, 1)


def inversion(images: Tensor, draws: Draws, share: float) -> Tensor:
    """Replace the left ``share`` of the columns, rounded, by their negative."""
    width = images.shape[-1]
    return torch.where(torch.arange(width) < round(share * width), negate(images), images)


LEVELS = (
    *(Level("contrast", c / 10, partial(contrast, factor=c / 10)) for c in range(10, -11, -1)),
    *(Level("brightness", b / 10, partial(brightness, added=b / 10)) for b in range(-5, 6)),
    *(Level("inversion", s / 8, partial(inversion, share=s / 8)) for s in range(9)),
    *(Level("corruption", name, change) for name, change in CORRUPTIONS.items()),
)
