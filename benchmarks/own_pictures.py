"""Measure ``predict`` on ordinary pictures of digits: accuracy with and without finding the digit.

    python benchmarks/own_pictures.py --ckpt_path CKPT [CKPT ...] [--save FOLDER]

Two sets, each of 200 pictures (20 a class), are drawn by program:

drawn   digits of 14 fonts and of splines as by a pen, on paper of all kinds: plain, ruled,
        unevenly lit, noisy, transparent; colours, sizes, places vary, a third is light on dark
pasted  test images of MNIST, enlarged to strokes of ink, turned and sheared, on paper as a
        telephone photographs it: shadows, grain, folds, blur, JPEG
"""

import io
from pathlib import Path

import common
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage
from scipy.interpolate import CubicSpline
from torch import nn

from lenet_lightning.data import fetch, readers
from lenet_lightning.data.batches import to_unit
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.data.pictures import as_trained
from lenet_lightning.statistics import wilson
from lenet_lightning.store.checkpoints import spec_of
from lenet_lightning.training import pretrained

Rng = np.random.Generator
Floats = npt.NDArray[np.float64]

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif",
    "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol",
    "cmr10", "cmss10", "cmtt10", "cmb10",
)  # fmt: skip

# Points that a pen passes, x and y in [0, 1], one list a stroke.
STROKES: dict[int, list[list[tuple[float, float]]]] = {
    0: [[(0.55, 0.02), (0.15, 0.25), (0.1, 0.65), (0.45, 0.98), (0.85, 0.7), (0.85, 0.3),
         (0.5, 0.02)]],
    1: [[(0.45, 0.05), (0.48, 0.5), (0.5, 0.97)]],
    2: [[(0.12, 0.25), (0.45, 0.03), (0.82, 0.25), (0.55, 0.6), (0.12, 0.93)],
        [(0.12, 0.93), (0.5, 0.92), (0.9, 0.94)]],
    3: [[(0.15, 0.12), (0.5, 0.03), (0.78, 0.22), (0.42, 0.46)],
        [(0.42, 0.46), (0.85, 0.68), (0.5, 0.97), (0.1, 0.85)]],
    4: [[(0.3, 0.05), (0.2, 0.35), (0.12, 0.58)], [(0.12, 0.58), (0.5, 0.56), (0.9, 0.55)],
        [(0.7, 0.1), (0.66, 0.5), (0.62, 0.97)]],
    5: [[(0.8, 0.05), (0.5, 0.05), (0.25, 0.06)], [(0.25, 0.06), (0.22, 0.25), (0.2, 0.45)],
        [(0.2, 0.45), (0.6, 0.42), (0.83, 0.7), (0.5, 0.97), (0.12, 0.88)]],
    6: [[(0.7, 0.03), (0.3, 0.35), (0.15, 0.7), (0.45, 0.97), (0.8, 0.75), (0.55, 0.52),
         (0.2, 0.7)]],
    7: [[(0.1, 0.07), (0.5, 0.06), (0.88, 0.05)], [(0.88, 0.05), (0.6, 0.45), (0.4, 0.97)]],
    8: [[(0.75, 0.15), (0.45, 0.02), (0.25, 0.22), (0.55, 0.48), (0.8, 0.75), (0.48, 0.98),
         (0.18, 0.76), (0.5, 0.46), (0.77, 0.2)]],
    9: [[(0.8, 0.2), (0.45, 0.04), (0.18, 0.28), (0.45, 0.5), (0.8, 0.22)],
        [(0.8, 0.2), (0.76, 0.55), (0.66, 0.97)]],
}  # fmt: skip


def font_glyph(rng: Rng, digit: int, side: int) -> Floats:
    """Return a digit of a random font, ink in [0, 1], about ``side`` pixels high."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(folder / f"{rng.choice(FONTS)}.ttf", round(1.35 * side))
    image = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(image).text((side, side), str(digit), 255, font, anchor="mm")
    return np.asarray(image.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC)) / 255


def pen_glyph(rng: Rng, digit: int, side: int) -> Floats:
    """Return a digit as a pen draws it, ink in [0, 1], about ``side`` pixels high."""
    scale, image = 4, Image.new("L", (8 * side, 8 * side))
    draw = ImageDraw.Draw(image)
    width = scale * side * rng.uniform(0.03, 0.14)
    aspect, slant = rng.uniform(0.5, 0.9), rng.uniform(-0.1, 0.35)
    for stroke in STROKES[digit]:
        points = np.array(stroke) + rng.normal(0, 0.022, (len(stroke), 2))
        path = CubicSpline(np.linspace(0, 1, len(points)), points)(np.linspace(0, 1, 80))
        x = (path[:, 0] - 0.5) * aspect + slant * (0.5 - path[:, 1])
        dots = 4 * side + scale * side * np.stack([x, path[:, 1] - 0.5], 1)
        for (x0, y0), pressure in zip(dots, 1 + 0.15 * np.sin(np.linspace(0, 6, 80)), strict=True):
            r = width * pressure / 2
            draw.ellipse((x0 - r, y0 - r, x0 + r, y0 + r), 255)
    return np.asarray(image.resize((2 * side, 2 * side), Image.Resampling.BOX)) / 255


def smooth_noise(rng: Rng, shape: tuple[int, int], coarse: int) -> Floats:
    """Return noise of ``coarse`` cells a side, smoothly enlarged, of mean 0 and deviation 1."""
    cells = rng.normal(0, 1, (coarse, coarse))
    image = Image.fromarray(cells.astype(np.float32)).resize(shape[::-1], Image.Resampling.BICUBIC)
    noise = np.asarray(image, np.float64)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-9))


def place(rng: Rng, glyph: Floats, shape: tuple[int, int]) -> Floats:
    """Lay a digit anywhere on an empty page, whole."""
    rows, columns = np.flatnonzero(glyph.any(1)), np.flatnonzero(glyph.any(0))
    glyph = glyph[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    page = np.zeros(shape)
    free = [max(0, room - own) for room, own in zip(shape, glyph.shape, strict=True)]
    y, x = (int(rng.integers(0.06 * f, 0.94 * f + 1)) for f in free)
    height, width = (min(a, b) for a, b in zip(glyph.shape, shape, strict=True))
    page[y : y + height, x : x + width] = glyph[:height, :width]
    return page


def drawn(rng: Rng, digit: int) -> Image.Image:
    """Return a picture of the first set."""
    height = int(rng.choice([64, 96, 150, 240, 400, 700]))
    width = round(height * rng.uniform(0.75, 1.5))
    side = round(min(height, width) * rng.uniform(0.35, 0.85))
    ink = place(rng, (font_glyph if rng.random() < 0.5 else pen_glyph)(rng, digit, side),
                (height, width))  # fmt: skip
    light = rng.random() < 1 / 3
    if rng.random() < 0.12:  # a drawing on nothing
        colour = np.full((height, width, 3), rng.integers(200, 256, 3) if light else
                         rng.integers(0, 90, 3))  # fmt: skip
        pixels = np.concatenate([colour, 255 * ink[..., None]], 2)
        return Image.fromarray(np.rint(pixels).astype(np.uint8))  # RGBA by its shape
    dark, bright = rng.uniform(0, 90, 3), rng.uniform(185, 255, 3)
    paper, pen = (dark, bright) if light else (bright, dark)
    page = np.broadcast_to(paper, (height, width, 3)).copy()
    if rng.random() < 0.2:  # ruled
        lines = np.arange(round(height * 0.1), height, max(8, round(height * 0.16)))
        page[lines] += 0.35 * (pen - paper)
    page += ink[..., None] * (pen - page)
    if rng.random() < 0.5:  # uneven light
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        angle = rng.uniform(0, 2 * np.pi)
        shade = 0.5 + 0.5 * (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2)
        page *= (1 - rng.uniform(0.1, 0.5) * shade)[..., None]
    page += rng.uniform(0, 4) * smooth_noise(rng, (height, width), 12)[..., None]
    page += rng.normal(0, rng.choice([0, 3, 10, 20]), (height, width, 1))
    if rng.random() < 0.1:  # dust
        page[rng.random((height, width)) < 0.01] = rng.choice([0, 255])
    picture = Image.fromarray(np.rint(np.clip(page, 0, 255)).astype(np.uint8))
    return jpeg(picture, int(rng.integers(40, 95))) if rng.random() < 0.4 else picture


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """Return a picture after JPEG compression."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).copy()


def pasted(rng: Rng, image: npt.NDArray[np.uint8]) -> Image.Image:
    """Return a picture of the second set.

    Args:
        rng: decides everything else.
        image: uint8 ``[28, 28]`` of MNIST.
    """
    height, width = (480, 640) if rng.random() < 0.5 else (640, 480)
    side = rng.uniform(0.25, 0.7) * 480
    # Enlarged, cut at half its height and softened: strokes of ink with sharp edges.
    large = Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC)
    stroke = np.clip((np.asarray(large.filter(ImageFilter.GaussianBlur(4)), float) - 90) / 60, 0, 1)
    glyph = np.asarray(Image.fromarray((255 * stroke).astype(np.uint8)).resize(
        (round(side * 1.4),) * 2, Image.Resampling.LANCZOS), float) / 255  # fmt: skip
    turn, shear = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(-0.08, 0.08)
    matrix = np.array([[np.cos(turn), np.sin(turn) + shear], [-np.sin(turn), np.cos(turn)]])
    centre = np.array(glyph.shape) / 2
    glyph = ndimage.affine_transform(glyph, matrix, centre - matrix @ centre, order=1)
    glyph = np.where(glyph > 0.02, glyph, 0)
    ink = place(rng, glyph, (height, width))
    ink *= np.clip(0.9 + 0.08 * smooth_noise(rng, (height, width), 60), 0.6, 1)
    paper = rng.uniform(170, 245) * np.array([1, rng.uniform(0.93, 1), rng.uniform(0.82, 1)])
    pen = rng.uniform(10, 100, 3) if rng.random() < 0.85 else np.array([30, 40, 150])
    page = paper + ink[..., None] * (pen - paper)
    # The lamp, the photographer's shadow, a fold, the paper's grain.
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    lamp = (x - rng.random()) ** 2 + (y - rng.random()) ** 2
    light = 1.05 - rng.uniform(0.1, 0.45) * lamp
    if rng.random() < 0.4:
        angle, where = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8)
        side_of = (x - where) * np.cos(angle) + (y - where) * np.sin(angle)
        light *= 1 - rng.uniform(0.1, 0.3) / (1 + np.exp(-side_of / rng.uniform(0.02, 0.1)))
    if rng.random() < 0.3:
        light *= 1 - 0.1 * np.exp(-(((x - rng.uniform(0.1, 0.9)) / 0.006) ** 2))
    light += 0.012 * smooth_noise(rng, (height, width), 90)
    page = page * light[..., None] + rng.normal(0, rng.uniform(2, 9), page.shape)
    picture = Image.fromarray(np.rint(np.clip(page, 0, 255)).astype(np.uint8))
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    return jpeg(blurred, int(rng.integers(35, 90)))


def drawn_set(seed: int = 0, count: int = 200) -> list[tuple[Image.Image, int]]:
    """Return the pictures of the first set with their digits."""
    rng = np.random.default_rng([seed, 1])
    return [(drawn(rng, i % 10), i % 10) for i in range(count)]


def pasted_set(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], seed: int = 0, count: int = 200
) -> list[tuple[Image.Image, int]]:
    """Return the pictures of the second set with their digits.

    Args:
        images: uint8 ``[n, 28, 28]``.
        labels: int64 ``[n]``.
        seed: decides which images are taken, and all else.
        count: pictures, as many of each class.
    """
    rng = np.random.default_rng([seed, 2])
    chosen = [rng.choice(np.flatnonzero(labels == i % 10)) for i in range(count)]
    return [(pasted(rng, images[i]), int(labels[i])) for i in chosen]


def measure(
    network: nn.Module, spec: InputSpec, pictures: list[tuple[Image.Image, int]], find: bool
) -> int:
    """Return how many pictures a network classifies correctly, read as ``predict`` reads them."""
    pixels = np.stack([
        as_trained(readers.plain(picture), spec, find)[0] for picture, _ in pictures
    ])  # fmt: skip
    images = to_unit(torch.from_numpy(to_input_size(pixels)))
    with torch.inference_mode():
        answers = network(images).argmax(1).tolist()
    return sum(answer == digit for answer, (_, digit) in zip(answers, pictures, strict=True))


def main() -> None:
    """Print a table, one line per set and network."""
    parser = common.parser(__doc__, rounds=1)
    add = parser.add_argument
    add("--ckpt_path", nargs="+", required=True, help="checkpoints of MNIST networks")
    add("--seed", type=int, default=0, help="of the pictures; 1 was used for development")
    add("--save", type=Path, help="folder to write the pictures to")
    options = parser.parse_args()
    test = fetch.load("MNIST", options.root, download=False).test
    sets = {
        "drawn": drawn_set(options.seed),
        "pasted": pasted_set(test.images[:, 0], test.labels, options.seed),
    }
    if options.save:
        save(sets, options.save)
    rows = []
    for path in options.ckpt_path:
        loaded = pretrained.load(path)
        spec, name = spec_of(loaded.checkpoint), loaded.config["name"]
        for kind, pictures in sets.items():
            before, after = (measure(loaded.network, spec, pictures, f) for f in (False, True))
            low, high = wilson(after / len(pictures), len(pictures))
            rows.append({
                "set": kind, "network": name, "seed": options.seed, "pictures": len(pictures),
                "as_they_are": before / len(pictures), "found": after / len(pictures),
                "low": round(low, 4), "high": round(high, 4),
            })  # fmt: skip
    print(common.table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    common.append(options.output, 1, rows)


def save(sets: dict[str, list[tuple[Image.Image, int]]], folder: Path) -> None:
    """Write pictures as PNG, their digit in their name."""
    for kind, pictures in sets.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i, (picture, digit) in enumerate(pictures):
            picture.save(folder / kind / f"{i:03}_is_{digit}.png")


if __name__ == "__main__":
    main()
