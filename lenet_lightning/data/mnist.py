"""MNIST: 70,000 handwritten digits, 28x28 grey (LeCun, Cortes & Burges)."""

from lenet_lightning.data.datamodule import ImageDataModule


class MNIST(ImageDataModule):
    """MNIST: 70,000 handwritten digits, 28x28 grey (LeCun, Cortes & Burges).

    See ``ImageDataModule`` for the options.
    """

    dataset = "MNIST"
