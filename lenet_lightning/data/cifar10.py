"""CIFAR-10: 60,000 photographs of ten classes, 32x32 colour (Krizhevsky 2009)."""

from lenet_lightning.data.datamodule import ImageDataModule


class CIFAR10(ImageDataModule):
    """CIFAR-10: 60,000 photographs of ten classes, 32x32 colour (Krizhevsky 2009).

    See ``ImageDataModule`` for the options.
    """

    dataset = "CIFAR10"
    channels = 3
