"""Fashion-MNIST: 70,000 pictures of clothes, 28x28 grey (Xiao, Rasul & Vollgraf 2017)."""

from lenet_lightning.data.datamodule import ImageDataModule


class FashionMNIST(ImageDataModule):
    """Fashion-MNIST: 70,000 pictures of clothes, 28x28 grey (Xiao, Rasul & Vollgraf 2017).

    See ``ImageDataModule`` for the options.
    """

    dataset = "FashionMNIST"
