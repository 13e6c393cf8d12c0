"""Strict readers of the file formats that datasets and pictures come in.

Each takes the bytes of one file and its name, and either returns arrays or raises
`lenet_lightning.errors.UserError` with one sentence that names the file. Nothing a file says
about itself is believed before it is checked against the bytes that are there.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import pickletools
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lenet_lightning.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Bytes = bytes | bytearray | memoryview | Pixels

CIFAR_SHAPE = (3, 32, 32)
CIFAR_PIXELS = 3 * 32 * 32
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
LONGEST_SIDE = 65_535  # pixels of a user's picture


def gunzip(data: bytes, name: str, limit: int) -> bytes:
    """Return what gzip-compressed `data` holds, which may be at most `limit` bytes."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} is not a whole gzip file ({error}).") from error
    if len(content) > limit:
        raise UserError(f"{name} unpacks to more than the {limit:,} bytes expected.")
    return content


def parse_idx_images(data: Bytes, name: str) -> Pixels:
    """Return the images of an idx file, uint8 [N, 1, H, W] in 0..255.

    Format: LeCun's idx for MNIST (magic 2051, three big-endian sizes, the pixels).
    """
    return _parse_idx(data, name, dimensions=3, content="images")[:, None]


def parse_idx_labels(data: Bytes, name: str, num_classes: int = 10, first: int = 0) -> Labels:
    """Return the labels of an idx file (magic 2049), int64 [N] in 0..num_classes-1.

    Args:
        data: the file's content.
        name: the file's name.
        num_classes: number of classes.
        first: the label in the file that becomes 0.
    """
    labels = _parse_idx(data, name, 1, "labels").astype(np.int64) - first
    return _checked_labels(labels, name, num_classes)


def _parse_idx(data: Bytes, name: str, dimensions: int, content: str) -> Pixels:
    view = np.frombuffer(data, np.uint8)
    header = 4 + 4 * dimensions
    if len(view) < header:
        raise UserError(f"{name} is too short for an idx file of {content} ({len(view)} bytes).")
    magic, *sizes = struct.unpack(f">{1 + dimensions}I", view[:header].tobytes())
    if magic != 0x0800 + dimensions:
        raise UserError(
            f"{name} is not an idx file of {content}: it starts with {magic}, "
            f"not {0x0800 + dimensions}."
        )
    if 0 in sizes:
        raise UserError(f"{name} declares no {content} (sizes {sizes}).")
    if len(view) - header != math.prod(sizes):
        raise UserError(
            f"{name} declares {math.prod(sizes):,} bytes of {content} and holds "
            f"{len(view) - header:,}."
        )
    return view[header:].reshape(sizes)


def parse_cifar(data: Bytes, name: str, num_classes: int = 10) -> tuple[Pixels, Labels]:
    """Return images, uint8 [N, 3, 32, 32] in 0..255, and labels, int64 [N], of a CIFAR-10 file.

    Format: the canonical binary version, per image a label byte and 3,072 channel-first pixels
    (Krizhevsky, 2009).
    """
    view = np.frombuffer(data, np.uint8)
    record = 1 + CIFAR_PIXELS
    if len(view) == 0 or len(view) % record:
        raise UserError(
            f"{name} is not a CIFAR-10 binary file: expected images of {record:,} bytes each, but "
            f"it has {len(view):,} bytes."
        )
    rows = view.reshape(-1, record)
    return rows[:, 1:].reshape(-1, *CIFAR_SHAPE), _checked_labels(rows[:, 0], name, num_classes)


def cifar_records(images: Pixels, labels: Labels) -> bytes:
    """Return the canonical binary form of images [N, 3, 32, 32] and labels [N]."""
    pixels = images.reshape(len(images), CIFAR_PIXELS)
    return np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1).tobytes()


def parse_cifar_pickle(data: bytes, name: str) -> bytes:
    """Return the canonical binary form of a batch of CIFAR-10's Python version.

    The pickle is only read as a list of opcodes: nothing in it is executed.
    """
    key, pixels = b"", b""
    values: list[Any] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if isinstance(argument, (str, bytes)):
                raw = argument.encode("latin-1") if isinstance(argument, str) else argument
                if raw in (b"labels", b"data", b"batch_label", b"filenames"):
                    key = raw
                elif key == b"data" and len(raw) > len(pixels):
                    pixels = raw
            elif key == b"labels" and opcode.name == "BININT1":
                values.append(argument)
    except Exception as error:  # genops fails in many ways on other bytes
        raise UserError(f"{name} is not a pickled CIFAR-10 batch ({error}).") from error
    if not values or len(pixels) != len(values) * CIFAR_PIXELS:
        raise UserError(
            f"{name} is not a pickled CIFAR-10 batch: it holds {len(values):,} labels and "
            f"{len(pixels):,} bytes of pixels."
        )
    images = np.frombuffer(pixels, np.uint8).reshape(-1, *CIFAR_SHAPE)
    return cifar_records(images, _checked_labels(np.array(values), name, 10))


def parse_sheet(data: bytes, name: str) -> Pixels:
    """Return the images of a PNG sheet, uint8 [N, 3, 32, 32] in 0..255.

    A sheet is 1,024 pixels wide, 8-bit RGB; each of its rows is one 32x32 image. Pillow fills
    missing rows with 0, which the digest of the images shows.
    """
    try:
        with _opened(io.BytesIO(data), ("PNG",)) as sheet:
            if sheet.mode != "RGB" or sheet.width != CIFAR_SHAPE[1] * CIFAR_SHAPE[2]:
                raise ValueError(f"{sheet.width} pixels wide, mode {sheet.mode}")
            rows = np.asarray(sheet)
    except Exception as error:  # Pillow fails in many ways on damaged files
        raise UserError(f"{name} is not a sheet of 32x32 colour images ({error}).") from error
    return np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(-1, *CIFAR_SHAPE)


def parse_json_labels(data: bytes, name: str, num_classes: int = 10) -> Labels:
    """Return the labels in a JSON list of whole numbers, int64 [N] in 0..num_classes-1."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not a JSON file.") from error
    if not isinstance(values, list) or not all(type(v) is int for v in values):
        raise UserError(f"{name} is not a JSON list of whole numbers.")
    if any(abs(v) > 255 for v in values):  # may not fit into 64 bits
        values = [-1]
    return _checked_labels(np.array(values, np.int64), name, num_classes)


def parse_digits(data: bytes, name: str) -> tuple[Pixels, Labels]:
    """Return images, uint8 [N, 1, 8, 8] in 0..255, and labels of scikit-learn's digits.csv.

    Each line holds 64 values in 0..16, here scaled to 0..255, and the label.
    """
    try:
        table = np.array([line.split(b",") for line in data.splitlines()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{name} is not a table of whole numbers.") from error
    if table.ndim != 2 or table.shape[1] != 65:
        raise UserError(f"{name} does not hold 64 pixels and a label on each line.")
    pixels, labels = table[:, :64], table[:, 64]
    if pixels.min() < 0 or pixels.max() > 16:
        raise UserError(f"{name} holds pixel values outside 0..16.")
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return images, _checked_labels(labels, name, 10)


def _checked_labels(labels: npt.NDArray[np.integer], name: str, num_classes: int) -> Labels:
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise UserError(f"{name} holds labels outside 0..{num_classes - 1}.")
    return labels.astype(np.int64)


def read_picture(path: str | Path) -> Image:
    """Return a user's picture, upright, in mode ``L`` or ``RGB`` (8 bits).

    Grey pictures of 1 to 16 bits become ``L``, all others ``RGB``. A picture with transparent parts
    is laid on white if what is visible is dark, and on black if it is light: a drawing in white ink
    does not vanish. Of several pages or frames the first is taken.

    Raises:
        UserError: the file is missing, damaged, not a picture in one of `PICTURE_FORMATS`, of
            numbers beyond 16 bits, or so large (`LONGEST_SIDE`, Pillow's ``MAX_IMAGE_PIXELS``)
            that it may be a decompression bomb.
    """
    from PIL import Image

    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe is to wait
            raise UserError(f"The picture {path} cannot be read: it is not a regular file.")
        with path.open("rb") as file, _opened(file) as picture:
            if max(picture.size) > LONGEST_SIDE:
                raise Image.DecompressionBombError
            return plain(picture)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"The picture {path} does not exist.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"The picture {path} is too large: at most {Image.MAX_IMAGE_PIXELS:,} pixels are read, "
            f"{LONGEST_SIDE:,} a side."
        ) from error
    except Image.UnidentifiedImageError as error:
        formats = ", ".join(PICTURE_FORMATS)
        raise UserError(f"{path} is not a picture: expected {formats}.") from error
    except Exception as error:  # Pillow fails in many ways on damaged files
        reason = " ".join(str(error).split())
        raise UserError(f"The picture {path} cannot be read ({reason}).") from error


@contextmanager
def _opened(file: IO[bytes], formats: tuple[str, ...] = PICTURE_FORMATS) -> Iterator[Image]:
    """Open a picture; a decompression bomb is an error, and other remarks are not shown."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=formats) as picture:
            yield picture


def plain(picture: Image) -> Image:
    """Return a loaded, upright copy of a picture of any mode, in mode ``L`` or ``RGB``.

    Raises:
        ValueError: its values do not fit into 16 bits.
    """
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode[0] in "IF":  # more than 8 bits a pixel, which Pillow's convert would clip
        values = np.asarray(picture)
        if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError("its values do not fit into 16 bits")
        return Image.fromarray(np.rint(values / np.float32(257)).astype(np.uint8))
    grey = _is_grey(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        background = "white" if _is_dark(picture) else "black"
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    return picture.convert("L" if grey else "RGB")


def is_grey_file(path: str | Path) -> bool:
    """Return whether a picture is stored in grey, by the head of its file; true if unreadable."""
    path = Path(path)
    try:
        if not path.is_file():  # to open a pipe is to wait
            return True
        with path.open("rb") as file, _opened(file) as picture:
            return _is_grey(picture)
    except Exception:  # Pillow fails in many ways on damaged files
        return True


def _is_grey(picture: Image) -> bool:
    """Whether a picture's mode is grey, of 1 to 16 bits or more, with transparency or without."""
    return picture.mode in ("1", "L", "LA", "La") or picture.mode[0] in "IF"


def _is_dark(picture: Image) -> bool:
    """Whether what is visible of an RGBA picture is dark on average, or nothing is."""
    from PIL import ImageChops, ImageStat

    alpha = picture.getchannel("A")
    (visible,) = ImageStat.Stat(alpha).sum
    (light,) = ImageStat.Stat(ImageChops.multiply(picture.convert("RGB").convert("L"), alpha)).sum
    return light <= visible / 2
