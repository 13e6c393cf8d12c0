"""What every peer shares: its arguments, the images as arrays, the network, what it reports."""

import argparse
import json
from pathlib import Path

import numpy as np


def arguments(**numbers: int) -> argparse.Namespace:
    """Parse the command line; ``numbers`` are a peer's own whole numbers and their defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="MNIST")
    parser.add_argument("--root", default="datasets")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.0005, help="Adam's learning rate")
    parser.add_argument("--l2", type=float, default=0.001, help="Keras's L2 of every kernel")
    parser.add_argument("--seed", type=int, default=0)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def arrays(dataset: str, root: str) -> tuple[np.ndarray, ...]:
    """Return train images, train labels, test images, test labels; uint8 ``[N, C, 32, 32]``.

    Read plainly from the published files: no peer pays for the digests that ours proves.
    """
    folder = Path(root) / dataset
    if dataset == "CIFAR10":
        names = [[f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"]]
        parts = [cifar([folder / name for name in files]) for files in names]
    else:
        parts = [idx(folder, split) for split in ("train", "t10k")]
    return *parts[0], *parts[1]


def idx(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read an MNIST or Fashion-MNIST split and pad it to 32x32."""
    images = np.fromfile(folder / f"{split}-images-idx3-ubyte", np.uint8, offset=16)
    labels = np.fromfile(folder / f"{split}-labels-idx1-ubyte", np.uint8, offset=8)
    images = np.pad(images.reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2)))
    return images, labels.astype(np.int64)


def cifar(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read CIFAR-10's binary files: a label byte and 3,072 pixels an image."""
    records = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, 3073) for file in files])
    images = np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32)
    return images, records[:, 0].astype(np.int64)


def lenet(channels: int):
    """LeNet-5 in plain torch, initialised as Keras's he_normal does."""
    from torch import nn

    from lenet_lightning.networks.initializers import initialize

    network = nn.Sequential(
        nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    initialize(network, "he_normal")
    return network


def groups(network, l2: float) -> list[dict]:
    """Return Adam's parameter groups: weight decay has the gradient of Keras's L2 and costs less.

    Kernels only, as Keras's ``kernel_regularizer``.
    """
    kernels = [p for p in network.parameters() if p.dim() > 1]
    biases = [p for p in network.parameters() if p.dim() == 1]
    return [{"params": kernels, "weight_decay": 2 * l2}, {"params": biases}]


def report(seconds: float, accuracy: float, **more: float) -> None:
    """Print an epoch's seconds, evaluation included, its accuracy on the test set, and more."""
    print(json.dumps({"seconds": seconds, "accuracy": accuracy, **more}), flush=True)
