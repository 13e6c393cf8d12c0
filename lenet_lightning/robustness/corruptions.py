"""The corruptions of MNIST-C (Mu and Gilmer 2019, arXiv:1906.02337) on whole batches.

All fifteen are here, beside ``identity`` and ``inverse``, at the severity of the published dataset.
Each maps float32 images ``[batch, channels, 32, 32]`` in [0, 1], and the draws for them, to images
of the same shape, type and range; channels share masks, lines and displacements, but not noise.

MNIST-C works on 28x28 grey pixels of 8 bits. Here values are not rounded to 8 bits, lengths in
pixels are kept, and patterns that span the image span all 32 pixels, padding included. What is
approximated beyond that is said at each function.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_lightning.data.augmentation import by_numpy, move, weighted_sum
from lenet_lightning.data.polarity import negate
from lenet_lightning.robustness.draws import Draws

Change = Callable[[Tensor, Draws], Tensor]

# Fog takes its patterns from so many maps: a map for every image would take most of the time.
FOG_MAPS = 128
FOG_SIZE = 256


def identity(images: Tensor, draws: Draws) -> Tensor:
    """Return the images as they are."""
    return images


def inverse(images: Tensor, draws: Draws) -> Tensor:
    """Return the negatives; MNIST-C's code has it, its dataset does not."""
    return negate(images)


def shot_noise(images: Tensor, draws: Draws) -> Tensor:
    """Count photons: a third of a Poisson number whose mean is three times the pixel."""
    rate = 3 * images
    none = by_numpy(np.exp, -rate)
    # Three photons or more are white, so that three steps of the distribution are all it takes.
    steps = torch.stack([none, none * (1 + rate), none * (1 + rate + rate * rate / 2)])
    return (draws.uniform(*images.shape[1:]) >= steps).sum(0) / 3


def impulse_noise(images: Tensor, draws: Draws) -> Tensor:
    """Turn 17 % of the pixels black or white."""
    chance = draws.uniform(*images.shape[1:])
    return images.masked_fill(chance < 0.085, 0.0).masked_fill(chance >= 0.915, 1.0)


def glass_blur(images: Tensor, draws: Draws) -> Tensor:
    """Blur, move pixels by one at random twice, blur again; each blur with sigma 0.7.

    Approximated: half of the pixels take the value of a random neighbour (or their own) at once,
    where MNIST-C exchanges pairs of pixels one after another.
    """
    height, width = images.shape[-2:]
    steps = [dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    offsets = torch.tensor(steps + [0] * len(steps))
    inside = F.pad(torch.ones(height - 2, width - 2, dtype=torch.long), (1, 1, 1, 1)).flatten()
    images = blur(images, 0.7)
    for _ in range(2):
        chosen = (draws.uniform(height * width) * len(offsets)).long()
        source = torch.arange(height * width) + offsets[chosen] * inside
        images = pick(images, source).view_as(images)
    return blur(images, 0.7).clamp(0, 1)


def motion_blur(images: Tensor, draws: Draws) -> Tensor:
    """Smear one-sidedly along a direction within 45 degrees of the horizontal, with sigma 3.

    As ImageMagick does it: weights of half a Gaussian on pixels along the line, each rounded to the
    nearest. Approximated: the line ends at four sigma.
    """
    angle = torch.deg2rad(90 * draws.uniform(1) - 45)
    taps = torch.arange(13.0)
    reach, (height, width) = len(taps) - 1, images.shape[-2:]
    weights = [math.exp(-(tap**2) / (2 * 3**2)) for tap in range(len(taps))]
    padded = F.pad(images, [reach] * 4, mode="replicate")
    stride = padded.shape[-1]
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width)
    places = ((rows + reach) * stride + columns + reach).flatten()
    down, right = ((taps * by_numpy(f, angle)).round() for f in (np.sin, np.cos))
    offsets = (down * stride + right).long()
    blurred = torch.zeros_like(images)
    for weight, offset in zip(weights, offsets.unbind(1), strict=True):
        blurred += weight / sum(weights) * pick(padded, places + offset.view(-1, 1)).view_as(images)
    return blurred.clamp_(0, 1)


def shear(images: Tensor, draws: Draws) -> Tensor:
    """Shear by 0.4 radians to one side or the other."""
    return warp(images, 1, -math.sin(0.4) * draws.signs(), 0, 0, math.cos(0.4), 0)


def scale(images: Tensor, draws: Draws) -> Tensor:
    """Shrink to 70 %."""
    return warp(images, 1 / 0.7, 0, 0, 0, 1 / 0.7, 0)


def rotate(images: Tensor, draws: Draws) -> Tensor:
    """Rotate by 0.4 radians (23 degrees) one way or the other."""
    sin, cos = math.sin(0.4) * draws.signs(), math.cos(0.4)
    return warp(images, cos, -sin, 0, sin, cos, 0)


def brightness(images: Tensor, draws: Draws) -> Tensor:
    """Add 0.5 to the value of hue, saturation and value; on grey images, to each pixel.

    MNIST-C ends with a grey image; here colours stay.
    """
    value = images.amax(1, keepdim=True)
    brighter = (value + 0.5).clamp(max=1)
    return torch.where(value > 0, images / value * brighter, brighter).clamp(max=1)


def translate(images: Tensor, draws: Draws) -> Tensor:
    """Shift by three pixels along each axis."""
    # Grid coordinates span [-1, 1].
    step = 2 * 3 / images.shape[-1]
    return warp(images, 1, 0, step * draws.signs(), 0, 1, step * draws.signs())


def stripe(images: Tensor, draws: Draws) -> Tensor:
    """Reverse the left and the right quarter."""
    quarter = images.shape[-1] // 4
    column = torch.arange(images.shape[-1])
    outside = (column < quarter) | (column >= images.shape[-1] - quarter)
    return torch.where(outside, negate(images), images)


def fog(images: Tensor, draws: Draws) -> Tensor:
    """Add three times a plasma fractal, and scale back to the image's own maximum.

    Approximated: each image takes one of 128 patterns at random, where MNIST-C makes a map for
    every image; as there, a pattern is the corner of a map of 256x256.
    """
    patterns = fog_patterns(draws.key, images.shape[-1])
    chosen = (draws.uniform() * FOG_MAPS).long()
    brightest = images.amax((1, 2, 3), keepdim=True)
    foggy = images + 3 * patterns[chosen].unsqueeze(1)
    return (foggy * (brightest / (brightest + 3))).clamp_(0, 1)


def spatter(images: Tensor, draws: Draws) -> Tensor:
    """Cover with spots of mud: dark grey where blurred noise is above its mean."""
    noise = blur(0.65 + 0.3 * draws.normal(1, *images.shape[-2:]), 1)
    mud = blur((noise > 0.65).float(), 1.5)
    mud = mud.where(mud >= 0.8, 0.0)
    return (images * (1 - mud) + 63 / 255 * mud).clamp_(0, 1)


def dotted_line(images: Tensor, draws: Draws) -> Tensor:
    """Draw a dotted line from the left edge to the right one."""
    size = images.shape[-1]
    rows = (draws.uniform(2, 1, 1) * (size - 1)).floor()
    edges = torch.zeros(1, 1, 1), torch.full((1, 1, 1), size - 1.0)
    drawn = line(edges[0], rows[:, 0], edges[1], rows[:, 1], size)
    shown = torch.arange(size) // 2 % 2 == 1
    return (images + (drawn * shown).unsqueeze(1)).clamp_(max=1)


def zigzag(images: Tensor, draws: Draws) -> Tensor:
    """Draw a zigzag line, two pixels high to either side, from the left to the right."""
    size = images.shape[-1]
    left, width, height = 2, size - 5, 2
    start = (draws.uniform(1, 1) * (size - 1)).floor()
    rise = (draws.uniform(1, 1) * 10).floor() - 5
    angle = by_numpy(np.arctan, rise / width)
    sin, cos = by_numpy(np.sin, angle), by_numpy(np.cos, angle)
    length = width / cos
    # Where it turns, along its axis and across it: a quarter of a period, then every half.
    turns = range(height, width, 2 * height)
    along = [torch.zeros_like(length), *(torch.full_like(length, turn) for turn in turns), length]
    across = [0.0, *(height * (-1) ** i for i in range(len(turns)))]
    end = across[-1] / (2 * (length - 2 * height * (length // (2 * height))))
    points = [
        (left + t * cos - s * sin, start + t * sin + s * cos)
        for t, s in zip(along, [*across, end], strict=True)
    ]
    drawn = torch.zeros(len(images), size, size)
    for before, after in pairwise(points):
        drawn += line(*before, *after, size)
    return (images + drawn.unsqueeze(1)).clamp_(max=1)


def canny_edges(images: Tensor, draws: Draws) -> Tensor:
    """Draw only the edges, white on black (Canny 1986, sigma 1, thresholds 0.1 and 0.2).

    Of colour images, the edges of the mean of the channels. Approximated: the smoothing continues
    the image by its edge pixels.
    """
    height, width = images.shape[-2:]
    channels = images.split(1, 1)
    smooth = blur(weighted_sum(channels, [1 / len(channels)] * len(channels)), 1)
    mean, slope = (1, 2, 1), (-1, 0, 1)
    dx = correlate(correlate(smooth, mean, 2), slope, 3)
    dy = correlate(correlate(smooth, slope, 2), mean, 3)
    strength = by_numpy(np.sqrt, dx * dx + dy * dy)
    peaks = is_peak(strength, dx, dy)
    peaks &= F.pad(torch.ones(height - 2, width - 2, dtype=torch.bool), (1, 1, 1, 1))
    weak, edges = (peaks & (strength >= 0.1)).float(), (peaks & (strength >= 0.2)).float()
    while True:  # weak edges that touch an edge are edges
        grown = F.max_pool2d(edges, 3, 1, 1) * weak
        if torch.equal(grown, edges):
            return edges.expand_as(images)
        edges = grown


CORRUPTIONS: dict[str, Change] = {
    change.__name__: change
    for change in (
        identity, shot_noise, impulse_noise, glass_blur, motion_blur, shear, scale, rotate,
        brightness, translate, stripe, fog, spatter, dotted_line, zigzag, canny_edges, inverse,
    )
}  # fmt: skip


def pick(images: Tensor, source: Tensor) -> Tensor:
    """Return float ``[batch, channels, pixels]``: of each image, the pixels at flat positions.

    Args:
        images: float ``[batch, channels, height, width]``.
        source: int64 ``[batch, pixels]``, shared by the channels.
    """
    channels = images.shape[1]
    return images.flatten(2).gather(2, source.unsqueeze(1).expand(-1, channels, -1))


def warp(images: Tensor, *matrix: Tensor | float) -> Tensor:
    """Sample each image bilinearly at an affine map about its centre; outside is black.

    Args:
        images: float ``[batch, channels, size, size]`` in [0, 1].
        matrix: the six numbers of a 2x3 matrix from target to source, in half sizes; each one for
            all images or a tensor ``[batch]``.
    """
    numbers = [torch.as_tensor(number).float().expand(len(images)) for number in matrix]
    return move(images, torch.stack(numbers, 1).view(-1, 2, 3)).clamp_(0, 1)


def correlate(images: Tensor, weights: Sequence[float], axis: int) -> Tensor:
    """Correlate images with an odd number of weights along an axis.

    Beyond their ends rows and columns continue with their last value.

    Args:
        images: float ``[batch, channels, height, width]``.
        weights: applied from the first row or column to the last.
        axis: 2 to go down the columns, 3 along the rows.
    """
    reach, length = len(weights) // 2, images.shape[axis]
    padding = [0, 0, reach, reach] if axis == 2 else [reach, reach, 0, 0]
    padded = F.pad(images, padding, mode="replicate")
    return weighted_sum([padded.narrow(axis, i, length) for i in range(len(weights))], weights)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur ``[batch, channels, height, width]`` with a Gaussian, cut at four sigma."""
    reach = int(4 * sigma + 0.5)
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)]
    weights = [weight / sum(weights) for weight in weights]
    return correlate(correlate(images, weights, 2), weights, 3)


def line(column: Tensor, row: Tensor, to_column: Tensor, to_row: Tensor, size: int) -> Tensor:
    """Return lines that fade to black at 1.45 pixels above and below, ``[batch, size, size]``.

    Args:
        column: where each line begins, ``[batch or 1, 1, 1]``, and so on.
        row: likewise.
        to_column: where it ends, to the right of ``column``.
        to_row: likewise.
        size: height and width of the image.
    """
    columns = torch.arange(size)
    center = row + (to_row - row) / (to_column - column) * (columns - column)
    distance = (columns.view(-1, 1) - center).abs().clamp_(max=2)
    drawn = (by_numpy(np.log1p, -distance / 2.3) + 1).clamp_(min=0)
    return drawn * ((columns >= column.floor()) & (columns < to_column.ceil()))


@lru_cache(maxsize=1)
def fog_patterns(key: tuple[int, ...], size: int) -> Tensor:
    """Return the corners of ``FOG_MAPS`` plasma fractals, float32 ``[FOG_MAPS, size, size]``.

    Each map has its minimum at 0 and its maximum at 1. Midpoints of squares, then of their sides,
    are the mean of four neighbours and a random number; the map continues periodically. At every
    doubling the range of that number shrinks by 1.4 squared.
    """
    draws = Draws((*key, 1), 0, FOG_MAPS)
    height, spread = torch.zeros(FOG_MAPS, 1, 1), 1.0
    while (width := height.shape[-1]) < FOG_SIZE:
        noise = [spread * (2 * draws.uniform(width, width) - 1) for _ in range(3)]
        right, below = height.roll(-1, 2), height.roll(-1, 1)
        middle = (height + right + below + below.roll(-1, 2)) / 4 + noise[0]
        beside = (height + right + middle + middle.roll(1, 1)) / 4 + noise[1]
        under = (height + below + middle + middle.roll(1, 2)) / 4 + noise[2]
        upper, lower = torch.stack([height, beside], 3), torch.stack([under, middle], 3)
        height = torch.stack([upper.flatten(2), lower.flatten(2)], 2).flatten(1, 2)
        spread /= 1.4**2
    low, high = height.amin((1, 2), keepdim=True), height.amax((1, 2), keepdim=True)
    return ((height - low) / (high - low))[:, :size, :size].clone()


def is_peak(strength: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Tell where the gradient is no weaker than on both sides along itself, bool, same shape.

    Args:
        strength: its length, float ``[batch, 1, height, width]``.
        dx: its component along a row.
        dy: its component along a column.
    """
    height, width = strength.shape[-2:]
    padded = F.pad(strength, (1, 1, 1, 1))

    def beside(down: int, right: int) -> Tensor:
        return padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    steep, falling = dy.abs() > dx.abs(), dx * dy >= 0
    share = torch.minimum(dx.abs(), dy.abs()) / torch.maximum(dx.abs(), dy.abs())
    peak = torch.ones_like(steep)
    for way in (1, -1):
        straight = torch.where(steep, beside(way, 0), beside(0, way))
        rising = torch.where(steep, beside(way, -way), beside(-way, way))
        diagonal = torch.where(falling, beside(way, way), rising)
        peak &= strength >= straight + share * (diagonal - straight)
    return peak
