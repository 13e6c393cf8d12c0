"""Random numbers that an image keeps, however its set is divided into batches."""

import math

import numpy as np
import torch
from torch import Tensor

# Philox makes 256 bits at a step: this many float32 numbers.
PER_STEP = 8


class Draws:
    """Random numbers for consecutive images, found by their positions.

    Philox (Salmon et al. 2011) counts instead of remembering, so the numbers of any image can be
    had without those of the images before it.

    Args:
        key: non-negative integers; each key gives other numbers.
        first: position of the first image in its set.
        count: number of images.
    """

    def __init__(self, key: tuple[int, ...], first: int, count: int) -> None:
        self.key = key
        self.first = first
        self.count = count
        self.calls = 0

    def uniform(self, *shape: int) -> Tensor:
        """Return float32 ``[count, *shape]``, uniform in [0, 1); each call gives other numbers."""
        size = math.prod(shape)
        steps = -(-size // PER_STEP)
        stream = np.random.Philox(np.random.SeedSequence((*self.key, self.calls)))
        stream.advance(self.first * steps)
        self.calls += 1
        numbers = np.random.Generator(stream).random((self.count, steps * PER_STEP), np.float32)
        return torch.from_numpy(numbers)[:, :size].reshape(self.count, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Return float32 ``[count, *shape]``, standard normal, within 5.4 of 0."""
        # 0 would become minus infinity.
        return torch.special.ndtri(self.uniform(*shape).clamp_(min=2**-25))

    def signs(self) -> Tensor:
        """Return float32 ``[count]``, -1 or 1, each with probability one half."""
        return torch.where(self.uniform() < 0.5, -1.0, 1.0)
