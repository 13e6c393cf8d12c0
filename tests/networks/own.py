"""A network as a user may write one: batch normalisation, dropout, and a size learnt from data."""

from torch import Tensor, nn


class Net(nn.Module):
    """A convolution and a dense layer.

    Args:
        channels: of the images.
        classes: number of classes.
        width: number of filters.
    """

    def __init__(self, channels: int, classes: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 5, stride=4),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.LazyLinear(classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Features(Net):
    """Not a classifier: it returns the images."""

    def forward(self, images: Tensor) -> Tensor:
        return images
