"""Find the character in an ordinary picture and lay it out as the training images are.

Scans, photographs and drawings are dark on light, off centre and unevenly lit; MNIST's images are
light on black, fitted into a box of 20x20 pixels and centred by mass (LeCun et al. 1998).

1. A sheet of paper is cut out of a photograph that shows what it lies on.
2. The paper's brightness is a quadratic surface through most of the picture, fitted without what
   deviates from it. Lines across the whole picture belong to the paper.
3. What deviates is ink. Polarity: if the cubes of the deviations sum to less than 0, ink is dark,
   and the picture is reversed.
4. The character is the part with the most ink (above Otsu's threshold) and the parts close to it.
5. It is scaled to the box of the training images and centred as they are. Strokes thinner than a
   pen's are widened.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Ink = Literal["auto", "light", "dark"]
Grey = npt.NDArray[np.float32]

WORKING_SIDE = 160
"""Pixels; larger pictures are searched at this size, and their character is cut out at it."""
FAINT = 48.0
"""Contrast below which the colours of a picture are looked at one by one."""
SEEN = 8.0
"""Least contrast of ink to paper, of 255, below which a picture holds no character."""


class Layout(NamedTuple):
    """How the images of a dataset were made.

    Attributes:
        size: height and width of an image in pixels.
        box: side of the square that the object was fitted into; centred by mass where it is
            smaller than the image, else by its outline.
        strokes: whether it is made of strokes of ink; else its shades of grey matter.
    """

    size: int
    box: int
    strokes: bool = True


class Found(NamedTuple):
    """A picture in the form of the training images.

    Attributes:
        image: uint8 ``[size, size]``, light ink on black.
        reversed: whether the picture's ink was dark.
    """

    image: npt.NDArray[np.uint8]
    reversed: bool


def find(picture: Image.Image, layout: Layout, ink: Ink = "auto") -> Found | None:
    """Find the character in a picture.

    Args:
        picture: mode ``L`` or ``RGB``, any size.
        layout: of the training images.
        ink: ``light`` or ``dark``, or ``auto`` to decide by the picture.

    Returns:
        None if the picture has no contrast.
    """
    picture = as_grey(picture)
    picture = sheet(picture) if layout.strokes else picture
    working = reduced(picture)
    grey = np.asarray(working, np.float32)
    strength, dark = ink_of(grey, ink)
    mask = characters(strength) if layout.strokes else solid(strength)
    if mask is None:
        return None
    box = bounds(mask)
    # A small character in a large picture: look at it again, in the pixels that it has.
    if working.size != picture.size and max(box[2] - box[0], box[3] - box[1]) < WORKING_SIDE / 3:
        near = picture.crop(around(box, working.size, picture.size))
        if (again := find(near, layout, "dark" if dark else "light")) is not None:
            return again
    return Found(lay_out(strength, mask, layout), dark)


def as_grey(picture: Image.Image) -> Image.Image:
    """Return a picture in grey, or the one of its colours in which ink that grey hides stands out.

    Yellow on white and red on green are nearly one grey.
    """
    grey = picture.convert("L")
    if picture.mode != "RGB" or contrast(grey) >= FAINT:
        return grey
    return max([grey, *picture.split()], key=contrast)


def contrast(picture: Image.Image) -> float:
    """Return by how much the strongest ink of a grey picture differs from its paper, of 255."""
    return float(np.percentile(ink_of(np.asarray(reduced(picture), np.float32))[0], 99.8))


def reduced(picture: Image.Image) -> Image.Image:
    """Return a picture of at most ``WORKING_SIDE`` pixels a side, each the mean of what it was."""
    longest = max(picture.size)
    if longest <= WORKING_SIDE:
        return picture
    size = [max(1, round(side * WORKING_SIDE / longest)) for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.BOX, reducing_gap=3.0)


def sheet(picture: Image.Image) -> Image.Image:
    """Cut a sheet of paper out of a photograph that shows what it lies on; else return all of it.

    A sheet is a filled rectangle of another brightness than the border, with a character on it.
    """
    grey = np.asarray(reduced(picture), np.float32)
    height, width = grey.shape
    threshold = otsu(grey - grey.min()) + float(grey.min())
    bright = grey > threshold
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    if min(grey.shape) < 48 or 0.1 < border.mean() < 0.9:
        return picture
    labels, count = ndimage.label(bright != (border.mean() > 0.5))
    if not count:
        return picture
    largest = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    top, left, bottom, right = bounds(largest)
    area = (bottom - top) * (right - left)
    if area < 0.15 * grey.size or largest.sum() < 0.75 * area:
        return picture
    inset = 1 + round(0.03 * max(bottom - top, right - left))
    inside = grey[top + inset : bottom - inset, left + inset : right - inset]
    contrast = abs(float(np.median(grey[largest]) - np.median(grey[bright == bright[0, 0]])))
    # A thick stroke is filled too, but nothing is written on it.
    if min(inside.shape) < 8 or float(np.ptp(ndimage.gaussian_filter(inside, 1))) < contrast / 3:
        return picture
    x, y = picture.width / width, picture.height / height
    return picture.crop(
        (
            round((left + inset) * x),
            round((top + inset) * y),
            round((right - inset) * x),
            round((bottom - inset) * y),
        )
    )


def ink_of(grey: Grey, ink: Ink = "auto") -> tuple[Grey, bool]:
    """Return how much ink each pixel holds, >= 0, and whether ink is dark.

    Args:
        grey: float ``[height, width]`` in 0..255.
        ink: as for :func:`find`.
    """
    if min(grey.shape) >= 48:  # thin strokes of smaller pictures would not survive
        grey = ndimage.gaussian_filter(grey, 0.7, mode="nearest")
    deviation = without_lines(grey - background(grey))
    # Ink is rare and strong, noise and shades are frequent and weak: cubes tell their sides.
    cubes = float((deviation.astype(np.float64) ** 3).sum())
    dark = cubes < 0 if ink == "auto" else ink == "dark"
    return np.maximum(-deviation if dark else deviation, 0), dark


def background(grey: Grey) -> Grey:
    """Return the paper's brightness at each pixel: a quadratic surface, fitted without the ink."""
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y]).reshape(6, -1)
    values = grey.ravel()
    # The paper is what most pixels along the border look like.
    edge = max(1, min(height, width) // 12)
    border = np.ones_like(grey, bool)
    border[edge:-edge, edge:-edge] = False
    level = float(np.median(grey[border]))
    surface = np.full_like(values, level)
    for terms_used in (1, 3, 6, 6, 6):
        residual = values - surface
        scale = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        kept = np.abs(residual) <= max(2.5 * scale, 6.0)
        if kept.sum() < max(60, 0.2 * len(values)):
            break
        used = terms[:terms_used, kept][:, ::5]  # a fifth of the pixels tells as much
        solution = np.linalg.lstsq(used.T, values[kept][::5], rcond=None)[0]
        surface = solution @ terms[:terms_used]
    return surface.reshape(grey.shape).astype(np.float32)


def without_lines(deviation: Grey) -> Grey:
    """Take the lines of ruled paper away: what most of a whole row or column deviates by."""
    for axis in (1, 0):
        low, high = np.quantile(deviation, (0.1, 0.9), axis=axis, keepdims=True)
        deviation = deviation - np.maximum(low, 0) - np.minimum(high, 0)
    return deviation.astype(np.float32)


def characters(strength: Grey) -> npt.NDArray[np.bool_] | None:
    """Return which pixels belong to the character, None if there is none.

    It is the part with the most ink, with the parts that lie close to it: a broken stroke's.
    """
    threshold = otsu(strength)
    if float(strength.max()) < SEEN or threshold <= 0:
        return None
    mask = strength > threshold
    gap = max(1, round(max(strength.shape) / 40))
    joined = ndimage.binary_dilation(mask, np.ones((2 * gap + 1,) * 2, bool))
    labels, count = ndimage.label(joined, np.ones((3, 3), int))
    if not count:
        return None
    labels = labels * mask
    ink = ndimage.sum_labels(strength, labels, np.arange(1, count + 1))
    boxes = ndimage.find_objects(labels)
    # Frames, shadows and tables reach the border; a character may touch it, seldom at its ends.
    height, width = strength.shape
    for i, (rows, columns) in enumerate(boxes):
        sides = (rows.start == 0) + (rows.stop == height)
        sides += (columns.start == 0) + (columns.stop == width)
        ink[i] *= (1.0, 0.5, 0.1, 0.02, 0.01)[sides] if count > 1 else 1.0
    main = int(ink.argmax())
    rows, columns = boxes[main]
    reach = 0.25 * max(rows.stop - rows.start, columns.stop - columns.start)
    kept = [
        i + 1
        for i, box in enumerate(boxes)
        if ink[i] >= 0.08 * ink[main] and apart(box, boxes[main]) <= reach
    ]
    return np.isin(labels, kept)


def solid(strength: Grey) -> npt.NDArray[np.bool_] | None:
    """Return which pixels belong to the largest object of any shade, None if there is none."""
    mask = strength > max(SEEN, 0.08 * float(strength.max()))
    labels, count = ndimage.label(ndimage.binary_fill_holes(ndimage.binary_opening(mask)))
    return labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()) if count else None


def apart(one: tuple[slice, ...], other: tuple[slice, ...]) -> int:
    """Return by how many pixels two boxes are apart along the axis where they are most."""
    return max(max(a.start - b.stop, b.start - a.stop, 0) for a, b in zip(one, other, strict=True))


def otsu(values: Grey) -> float:
    """Return the threshold that separates two classes of values best (Otsu 1979)."""
    counts, edges = np.histogram(values, 128)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts).astype(np.float64)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(edges[1:][int(np.nan_to_num(between).argmax())])


def bounds(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of what a mask holds."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def around(
    box: tuple[int, int, int, int], size: tuple[int, int], full: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a box with a margin, in the full picture's pixels."""
    top, left, bottom, right = box
    margin = 0.6 * max(bottom - top, right - left)
    scale = full[0] / size[0], full[1] / size[1]
    return (
        max(0, int((left - margin) * scale[0])),
        max(0, int((top - margin) * scale[1])),
        min(full[0], int((right + margin) * scale[0]) + 1),
        min(full[1], int((bottom + margin) * scale[1]) + 1),
    )


def lay_out(strength: Grey, mask: npt.NDArray[np.bool_], layout: Layout) -> npt.NDArray[np.uint8]:
    """Scale a character to the layout's box and centre it.

    Args:
        strength: of ink, float ``[height, width]``.
        mask: which pixels belong to the character.
        layout: of the training images.
    """
    if layout.strokes:
        full = float(np.percentile(strength[mask], 75))
        # Its soft edge belongs to it; what is left of paper and of noise does not.
        near = ndimage.binary_dilation(mask)
        values = np.where(near, np.clip((strength / full - 0.15) / 0.7, 0, 1), 0)
        top, left, bottom, right = bounds(values > 0.2)
        values = thickened(values[top:bottom, left:right].astype(np.float32))
    else:
        top, left, bottom, right = bounds(mask)
        values = (np.where(mask, strength, 0) / 255)[top:bottom, left:right].astype(np.float32)
    scale = layout.box / max(values.shape)
    height, width = (max(1, round(side * scale)) for side in values.shape)
    filtered = Image.fromarray(values).resize(
        (width, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    )
    small = np.clip(np.asarray(filtered), 0, 1)
    if layout.strokes:
        small = small / max(float(small.max()), 1e-6)
    centre = np.array(small.shape) / 2
    if layout.box < layout.size:
        centre = np.array(ndimage.center_of_mass(small)) + 0.5
    offset = np.rint(layout.size / 2 - centre).astype(int)
    y, x = np.clip(offset, 0, layout.size - np.array(small.shape))
    image = np.zeros((layout.size, layout.size), np.float32)
    image[y : y + height, x : x + width] = small
    return np.rint(255 * image).astype(np.uint8)


def thickened(values: Grey) -> Grey:
    """Widen strokes that would be thinner than a pen's in the training images.

    Args:
        values: of ink, in [0, 1].
    """
    inside = ndimage.distance_transform_edt(np.pad(values > 0.5, 1))
    width = 4 * float(inside[inside > 0].mean()) - 1 if inside.any() else 0.0
    missing = 0.09 * max(values.shape) - width  # a pen's: 1.8 pixels of 20
    if missing < 1:
        return values
    radius = round(missing / 2)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x * x + y * y <= radius * radius + 0.5
    return ndimage.grey_dilation(np.pad(values, radius), footprint=disc).astype(np.float32)
