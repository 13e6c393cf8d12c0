"""Digits: 1,797 handwritten digits, 8x8 grey, from scikit-learn; needs no download."""

from lenet_lightning.data.datamodule import ImageDataModule


class Digits(ImageDataModule):
    """Digits: 1,797 handwritten digits, 8x8 grey, from scikit-learn; needs no download.

    See ``ImageDataModule`` for the options.
    """

    dataset = "Digits"
