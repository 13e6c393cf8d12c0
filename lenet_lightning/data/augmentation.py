"""Augmentation of whole batches on the device; every choice is off by default."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Random rotation, translation, horizontal flip and grey-scale inversion.

    Attributes:
        rotation: largest angle in degrees, drawn uniformly from [-rotation, rotation].
        translation: largest shift in pixels along each axis, drawn uniformly, bilinear.
        horizontal_flip: probability of mirroring left and right.
        invert: probability of replacing an image by its negative.
    """

    rotation: float = 0.0
    translation: float = 0.0
    horizontal_flip: float = 0.0
    invert: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether any geometric change is on."""
        return bool(self.rotation or self.translation or self.horizontal_flip)

    def draw(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw one affine map per image.

        Args:
            count: number of images.
            size: their height and width in pixels.
            generator: source of randomness, on the CPU.

        Returns:
            float32 ``[count, 2, 3]``, as ``torch.nn.functional.affine_grid`` takes them.
        """
        angle, dx, dy, flip = torch.rand(4, count, generator=generator)
        angle = torch.deg2rad((2 * angle - 1) * self.rotation)
        mirror = torch.where(flip < self.horizontal_flip, -1.0, 1.0)
        # Grid coordinates span [-1, 1]: one pixel is 2 / size.
        shift = 2 * self.translation / size
        cos, sin = angle.cos(), angle.sin()
        rows = [cos * mirror, -sin, (2 * dx - 1) * shift, sin * mirror, cos, (2 * dy - 1) * shift]
        return torch.stack(rows, 1).view(count, 2, 3)


def move(images: Tensor, affine: Tensor) -> Tensor:
    """Apply one affine map per image; what comes from outside is black.

    Args:
        images: float ``[batch, channels, height, width]``, values in [0, 1].
        affine: ``[batch, 2, 3]`` from :meth:`Augmentation.draw`, on the same device.
    """
    if not len(images):  # a process without a share of the batch; affine_grid takes no empty ones
        return images
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
