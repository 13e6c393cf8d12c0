"""A folder, a glob or a single file of the user's own pictures, for ``predict``."""

import glob
from pathlib import Path

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from lightning.pytorch import LightningDataModule
from PIL import Image

from lenet_lightning.data.batches import EvaluationBatches, Images
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.find_digit import Ink, Layout, find
from lenet_lightning.data.input_size import repeat_and_padding, to_input_size
from lenet_lightning.data.readers import read_picture
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"}
SHOWN, THUMBNAIL = 40, 128
"""Pictures that are kept to be shown, and their longest side in pixels."""
REDUCED_SIDE = 8192
"""Pixels; a longer picture is made smaller before it is made square, which takes memory."""


class Pictures(LightningDataModule):
    """PNG, JPEG, BMP, TIFF and WebP pictures, brought to what the network was trained on.

    A picture with transparent parts is laid on white if what is visible is dark, else on black. For
    a network of MNIST, EMNIST or Digits, what is on it is found and laid out as their images
    are, light on black (see ``find_digit``). For others, and where nothing is found, the picture is
    turned grey or RGB as the network expects, made square by padding with its own border colour,
    and resized with antialiasing to the size of the training images.

    Args:
        root: a picture, a folder of pictures, or a glob such as ``'scans/*.png'``. Hidden files
            are ignored, among them those that macOS adds (``._scan.png``).
        eval_batch_size: pictures evaluated together.
        find_digit: find the character, fit it into the box of the training images and
            centre it as they are; false takes each picture as a whole, in its own polarity.
        ink: ``dark`` on light paper, ``light`` on dark, or ``auto``: decided for each picture.

    Attributes:
        pixels: once read, uint8 ``[pictures, channels, 32, 32]``: what the network sees.
        reversed: once read, whether each picture was reversed; None where nothing was looked for
            or found.
        thumbnails: once read, the first ``SHOWN`` pictures, small.

    Raises:
        UserError: there is no picture, or one of them cannot be read.
    """

    def __init__(
        self,
        root: str,
        eval_batch_size: PositiveInt = 1000,
        find_digit: bool = True,
        ink: Ink = "auto",
    ) -> None:
        super().__init__()
        self.root = root
        self.eval_batch_size = eval_batch_size
        self.find_digit = find_digit
        self.ink = ink
        self.files = find_pictures(root)
        self.spec: InputSpec | None = None

    @property
    def picture_names(self) -> list[str]:
        """The files' names, in the order of the predictions."""
        return [str(path) for path in self.files]

    def read(self, spec: InputSpec, negate_border: bool = True) -> None:
        """Read every picture in the form of a network's training images.

        Args:
            spec: describes what the network was trained on.
            negate_border: whether the negatives that it was trained on reverse the padding too.
        """
        self.spec = spec
        self.border = 0 if negate_border else repeat_and_padding(spec.size)[1]
        self.thumbnails: list[Image.Image] = []
        self.reversed: list[bool | None] = []
        arrays = []
        for path in self.files:
            picture = read_picture(path)
            array, reverse = as_trained(picture, spec, self.find_digit, self.ink)
            arrays.append(array)
            self.reversed.append(reverse)
            if len(self.thumbnails) < SHOWN:
                picture.thumbnail((THUMBNAIL, THUMBNAIL))
                self.thumbnails.append(picture)
        self.pixels = torch.from_numpy(to_input_size(np.stack(arrays)))

    def predict_dataloader(self) -> EvaluationBatches:
        """Return the pictures and their negatives, in the order of ``files``."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        labels = torch.zeros(len(self.pixels), dtype=torch.int64)
        images = Images(self.pixels.to(device), labels.to(device), self.border)
        return EvaluationBatches(images, torch.arange(len(labels)), self.eval_batch_size)


def find_pictures(root: str) -> list[Path]:
    """Return the pictures that ``root`` names, sorted.

    Raises:
        UserError: it names none.
    """
    path = Path(root)
    try:
        if path.is_file():
            return [path]
        candidates = path.iterdir() if path.is_dir() else map(Path, glob.glob(root, recursive=True))
        files = sorted(
            each
            for each in candidates
            if each.suffix.lower() in SUFFIXES and each.name[0] != "." and each.is_file()
        )
    except OSError as error:
        raise UserError(f"data.root is {root}, which cannot be read: {error.strerror}.") from error
    if not files:
        raise UserError(
            f"data.root is {root}: expected a picture (PNG, JPEG, BMP, TIFF, WebP), a folder that "
            "holds some, or a glob in quotes, but found none."
        )
    return files


def as_trained(
    picture: Image.Image, spec: InputSpec, find_digit: bool = True, ink: Ink = "auto"
) -> tuple[np.ndarray, bool | None]:
    """Bring a picture to the form of a network's training images.

    Args:
        picture: mode ``L`` or ``RGB``.
        spec: describes the training images.
        find_digit: as for :class:`Pictures`.
        ink: as for :class:`Pictures`.

    Returns:
        uint8 ``[channels, size, size]``, and whether the picture was reversed; None where nothing
        was looked for or found.
    """
    facts = DATASETS.get(spec.name)
    if find_digit and facts and facts.box and spec.channels == 1:
        found = find(picture, Layout(spec.size, facts.box, facts.strokes), ink)
        if found:
            return found.image[None], found.reversed
    return prepare(picture.convert("L" if spec.channels == 1 else "RGB"), spec.size), None


def prepare(picture: Image.Image, size: int) -> np.ndarray:
    """Make a picture square and ``size`` pixels wide; return uint8 ``[channels, size, size]``."""
    if max(picture.size) > REDUCED_SIDE:
        picture = picture.reduce(-(-max(picture.size) // REDUCED_SIDE))
    side = max(picture.size)
    square = Image.new(picture.mode, (side, side), picture.getpixel((0, 0)))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    array = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
