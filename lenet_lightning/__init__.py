"""LeNet-5 trained with PyTorch Lightning on images and on their negatives."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The public names, and the modules that define them. Imported when first used: importing the
# package alone imports neither torch nor Lightning.
_PUBLIC = {
    "CIFAR10": "data.cifar10",
    "Classifier": "training.classifier",
    "CycleAveraging": "training.weight_averaging",
    "Digits": "data.digits",
    "Distillation": "training.distillation",
    "FashionMNIST": "data.fashion_mnist",
    "KerasAdam": "training.optimizers",
    "LeNet5": "networks.lenet5",
    "LinearCycles": "training.schedulers",
    "MNIST": "data.mnist",
    "Muon": "training.optimizers",
    "Pictures": "data.image_folder",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
