"""Augmentation of whole batches on the device; every choice is off by default.

What an image becomes is the same to the last bit, however the images are divided into batches,
processes and threads. A matrix product or a sum of torch's adds in an order that depends on its
shape, so sums over pixels or points are written out here, one elementwise operation at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
)
from torch import Tensor

from lenet_lightning.errors import UserError
from lenet_lightning.number_types import BelowOne

Interpolation = Literal["bilinear", "nearest"]
Padding = Literal["zeros", "border", "reflection"]

# Points along each axis whose moves make a warp.
WARP_POINTS = 5

# On the CPU so many images are warped together: they stay in the cache.
WARPED_TOGETHER = 64


@dataclass(frozen=True)
class Augmentation:
    """Random rotation, zoom, translation, warp, horizontal flip, cutout and grey-scale inversion.

    These are the options ``data.augmentation.*``. Everything is drawn anew for each training image
    in every epoch.

    Attributes:
        rotation: largest angle in degrees, drawn uniformly from [-rotation, rotation].
        translation: largest shift in pixels along each axis, drawn uniformly.
        horizontal_flip: probability of mirroring left and right.
        invert: probability of replacing an image by its negative.
        interpolation: ``bilinear``, or ``nearest``: every pixel is one of the image, which stays
            as sharp as it is. Without rotation, zoom and elastic shifts are whole pixels, up to
            ``translation`` rounded down.
        padding: what comes in from outside: ``zeros`` (black), ``border`` (the nearest pixel) or
            ``reflection`` (the image mirrored at its edge), as ``grid_sample`` names them.
        zoom: largest change of size: sizes are drawn uniformly from [1 - zoom, 1 + zoom].
        cutout: side in pixels of a square at a random place that the image's mean replaces.
        elastic: standard deviation in pixels by which 5 by 5 points of an image move, what lies
            between them following smoothly (after Simard et al. 2003, "Best practices for
            convolutional neural networks applied to visual document analysis").
        distortion_epochs: number of first epochs in which there is cutout and elastic; all epochs
            when null. See :meth:`at`.

    Raises:
        UserError: ``distortion_epochs`` is given without cutout and elastic.
    """

    rotation: NonNegativeFloat = 0.0
    translation: NonNegativeFloat = 0.0
    horizontal_flip: ClosedUnitInterval = 0.0
    invert: ClosedUnitInterval = 0.0
    interpolation: Interpolation = "bilinear"
    padding: Padding = "zeros"
    zoom: BelowOne = 0.0
    cutout: NonNegativeInt = 0
    elastic: NonNegativeFloat = 0.0
    distortion_epochs: PositiveInt | None = None

    def __post_init__(self) -> None:
        """Refuse a duration of distortions without any."""
        if self.distortion_epochs and not (self.cutout or self.elastic):
            raise UserError(
                f"data.augmentation.distortion_epochs is {self.distortion_epochs}, but "
                "data.augmentation.cutout and data.augmentation.elastic are 0: set one of them, or "
                "leave distortion_epochs out."
            )

    def at(self, epoch: int) -> "Augmentation":
        """Return what happens in an epoch, counted from 0.

        Cutout and elastic make images that no test set holds. A network that learned from them for
        long does better for seeing none of them at the end (after Ge et al. 2021, "YOLOX").
        """
        if self.distortion_epochs is None or epoch < self.distortion_epochs:
            return self
        return replace(self, cutout=0, elastic=0.0, distortion_epochs=None)

    @property
    def moves(self) -> bool:
        """Whether any geometric change is on."""
        affine = self.rotation or self.zoom or self.translation or self.horizontal_flip
        return bool(affine or self.elastic)

    @property
    def whole_pixels(self) -> bool:
        """Whether every pixel of the result is one of the image."""
        bends = self.rotation or self.zoom or self.elastic
        return self.interpolation == "nearest" and not bends

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
        dx, dy = 2 / size * self.pixels(dx), 2 / size * self.pixels(dy)
        # A map says where each pixel comes from: from nearer, in a larger image.
        size_change = 1 + (2 * torch.rand(count, generator=generator) - 1) * self.zoom
        cos, sin = (by_numpy(f, angle) / size_change for f in (np.cos, np.sin))
        rows = [cos * mirror, -sin, dx, sin * mirror, cos, dy]
        return torch.stack(rows, 1).view(count, 2, 3)

    def pixels(self, uniform: Tensor) -> Tensor:
        """Turn draws from [0, 1) into shifts in pixels, all equally likely."""
        if not self.whole_pixels:
            return (2 * uniform - 1) * self.translation
        most = int(self.translation)
        return (uniform * (2 * most + 1)).floor() - most

    def draw_warp(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw how far the points of each image move.

        Args:
            count: number of images.
            size: their height and width in pixels.
            generator: source of randomness, on the CPU.

        Returns:
            float32 ``[count, 2, 5, 5]``, right and down, in the coordinates of ``affine_grid``.
        """
        points = torch.randn(count, 2, WARP_POINTS, WARP_POINTS, generator=generator)
        return points.mul_(2 / size * self.elastic)

    def draw_corners(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw the square that each image loses, its centre anywhere in the image.

        Args:
            count: number of images.
            size: their height and width in pixels.
            generator: source of randomness, on the CPU.

        Returns:
            int64 ``[count, 2]``, row and column of the square's first pixel, which may be negative.
        """
        return torch.randint(size, (count, 2), generator=generator) - self.cutout // 2

    def apply(self, images: Tensor, affine: Tensor, warp: Tensor | None = None) -> Tensor:
        """Move images ``[batch, channels, height, width]`` by what the methods above drew."""
        if self.whole_pixels:
            return shift(images, affine, self.padding)
        return move(images, affine, self.interpolation, self.padding, warp)


NO_AUGMENTATION = Augmentation()


def move(
    images: Tensor,
    affine: Tensor,
    interpolation: Interpolation = "bilinear",
    padding: Padding = "zeros",
    warp: Tensor | None = None,
) -> Tensor:
    """Apply one affine map per image, and a warp.

    Args:
        images: float ``[batch, channels, height, width]``, values in [0, 1].
        affine: ``[batch, 2, 3]`` from :meth:`Augmentation.draw`, on the same device.
        interpolation: ``bilinear`` or ``nearest``.
        padding: what comes in from outside.
        warp: ``[batch, 2, 5, 5]`` from :meth:`Augmentation.draw_warp`, on the same device.
    """
    height, width = images.shape[2:]
    grid = places(affine, height, width)
    if warp is not None:
        grid += smooth(warp, height, width)
    grid = grid.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, interpolation, padding, align_corners=False)


def places(affine: Tensor, height: int, width: int) -> Tensor:
    """Return where each pixel comes from, ``[batch, 2, height, width]``.

    What ``affine_grid`` returns, whose product of small matrices takes several times as long.
    """
    x, y = (
        (2 * torch.arange(length, device=affine.device) + 1) / length - 1
        for length in (width, height)
    )
    by_column = affine[:, :, :1] * x
    by_row = affine[:, :, 1:2] * y + affine[:, :, 2:]
    return by_row[:, :, :, None] + by_column[:, :, None]


def smooth(warp: Tensor, height: int, width: int) -> Tensor:
    """Return the bicubic surfaces ``[batch, 2, height, width]`` through the points of a warp.

    What ``interpolate`` returns, in a fraction of its time.
    """
    down, right = warp.shape[2:]
    curves = bicubic_curves(right, width, warp.device)
    rows = weighted_sum(warp.unsqueeze(4).unbind(3), curves.unbind())
    surfaces = torch.empty(len(warp), 2, height, width, device=warp.device)
    together = WARPED_TOGETHER if warp.device.type == "cpu" else max(1, len(warp))
    curves = bicubic_curves(down, height, warp.device).unsqueeze(2)
    for part, surface in zip(rows.split(together), surfaces.split(together), strict=True):
        surface.copy_(weighted_sum(part.unsqueeze(3).unbind(2), curves.unbind()))
    return surfaces


@cache
def bicubic_curves(points: int, length: int, device: torch.device) -> Tensor:
    """Return the curve ``[points, length]`` that each of equally spaced points contributes."""
    single = torch.eye(points).view(points, 1, points, 1)
    curves = F.interpolate(single, (length, 1), mode="bicubic", align_corners=True)
    return curves.view(points, length).to(device)


def weighted_sum(terms: Sequence[Tensor], weights: Sequence[Tensor | float]) -> Tensor:
    """Return the sum of ``term * weight``, added in the order given."""
    total = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total += term * weight
    return total


def pixel_mean(images: Tensor) -> Tensor:
    """Return the mean of each channel ``[batch, channels, 1, 1]``, by adding halves repeatedly."""
    sums = images.flatten(2)
    while (count := sums.shape[2]) > 1:
        half = count // 2
        added = sums[..., :half] + sums[..., half : 2 * half]
        sums = torch.cat([added, sums[..., -1:]], 2) if count % 2 else added
    return sums.unsqueeze(3) / images.shape[2:].numel()


def by_numpy(function: np.ufunc, x: Tensor) -> Tensor:
    """Apply a function of NumPy to each element of a tensor on the CPU; return float32.

    Of torch's own functions (exp, cos, log1p and so on), the last bit depends on where an element
    lies in the tensor and on the number of threads: vectors and what remains are computed apart.
    """
    return torch.from_numpy(function(x.double().numpy())).float()


def shift(images: Tensor, affine: Tensor, padding: Padding) -> Tensor:
    """Do what :func:`move` does, several times faster, for whole pixels and mirror images.

    Args:
        images: ``[batch, channels, size, size]`` of any type.
        affine: ``[batch, 2, 3]``, without rotation, on the same device.
        padding: what comes in from outside.
    """
    channels, size = images.shape[1], images.shape[-1]
    at = torch.arange(size, device=images.device)
    right, down = (affine[:, :, 2] * (size / 2)).round().long().unsqueeze(2).unbind(1)
    rows = at + down
    columns = torch.where(affine[:, 0, :1] < 0, size - 1 - at, at) + right
    place = inside(rows, size, padding)[:, :, None] * size + inside(columns, size, padding)[:, None]
    moved = images.flatten(2).gather(2, place.view(-1, 1, size * size).expand(-1, channels, -1))
    moved = moved.view_as(images)
    if padding != "zeros":
        return moved
    rows_known, columns_known = (i == i.clamp(0, size - 1) for i in (rows, columns))
    return moved * (rows_known[:, :, None] & columns_known[:, None])[:, None]


def cut_out(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Replace a square of each image by the image's mean (DeVries & Taylor 2017, "Cutout").

    Args:
        images: float ``[batch, channels, height, width]``, values in [0, 1].
        corners: ``[batch, 2]`` from :meth:`Augmentation.draw_corners`, on the same device.
        side: of the square, in pixels; what lies outside the image is left out.
    """
    rows, columns = (
        torch.arange(length, device=images.device) - corner[:, None]
        for length, corner in zip(images.shape[2:], corners.unbind(1), strict=True)
    )
    rows, columns = ((place >= 0) & (place < side) for place in (rows, columns))
    square = (rows[:, :, None] & columns[:, None])[:, None]
    return torch.where(square, pixel_mean(images), images)


def inside(index: Tensor, size: int, padding: Padding) -> Tensor:
    """Bring positions that lie outside [0, size) back to the pixel that stands for them."""
    if padding == "reflection":
        index = torch.where(index < 0, -1 - index, index)
        index = torch.where(index >= size, 2 * size - 1 - index, index)
    return index.clamp(0, size - 1)


def tta_images(images: Tensor, pixels: int, flip: bool) -> Iterator[Tensor]:
    """Yield the images of test-time augmentation (TTA): shifts along both axes, mirrored too.

    Args:
        images: float ``[batch, channels, size, size]``.
        pixels: longest shift, >= 0; what comes in is the image mirrored at its edge.
        flip: whether to yield the mirror image of each shift too.

    Yields:
        ``(2 * pixels + 1) ** 2`` batches like ``images``, twice as many with ``flip``.
    """
    steps, unit = range(-pixels, pixels + 1), 2 / images.shape[-1]
    for mirror, right, down in product((1.0, -1.0) if flip else (1.0,), steps, steps):
        rows = [[mirror, 0.0, right * unit], [0.0, 1.0, down * unit]]
        affine = torch.tensor(rows, device=images.device).expand(len(images), 2, 3)
        yield shift(images, affine, "reflection")
