"""The network's input is 32x32, whatever a dataset's images are."""

import numpy as np

from lenet_lightning.data.readers import Pixels

INPUT_SIZE = 32


def repeat_and_padding(size: int) -> tuple[int, int]:
    """Return how often each pixel is repeated, and the pixels of black on each side after that."""
    return INPUT_SIZE // size, INPUT_SIZE % size // 2


def to_input_size(images: Pixels) -> Pixels:
    """Bring uint8 ``[count, channels, size, size]`` to 32x32.

    Pixels are repeated as often as fits (8x8 four times), then padded with black (28x28 by 2).
    """
    repeat, padding = repeat_and_padding(images.shape[-1])
    if repeat > 1:
        images = images.repeat(repeat, axis=2).repeat(repeat, axis=3)
    if padding:
        images = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    return images
