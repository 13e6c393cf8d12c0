"""What every peer shares: its arguments, the images as arrays, the network in plain torch."""

import argparse
import json

import numpy as np

from lenet_lightning.data import sources


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="MNIST")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--root", default="datasets")
    return parser.parse_args()


def arrays(dataset: str, root: str) -> tuple[np.ndarray, ...]:
    """Return train images, train labels, test images, test labels; uint8 ``[N, C, 32, 32]``."""
    data = sources.load(dataset, root)
    pad = (32 - data.train.images.shape[-1]) // 2
    widths = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    train, test = np.pad(data.train.images, widths), np.pad(data.test.images, widths)
    return train, data.train.labels, test, data.test.labels


def report(seconds: list[float], accuracy: float) -> None:
    print(json.dumps({"seconds": seconds, "accuracy": accuracy}))


def lenet(channels: int):
    """LeNet-5 in plain torch."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
