"""LeNet-5 trained with PyTorch Lightning on images and on their negatives."""

from importlib import import_module
from typing import Any

from lenet_lightning.data.registry import DATASETS

__version__ = "0.2.0"

# The public names, and the modules that define them. Imported when first used: importing the
# package alone imports neither torch nor Lightning.
_PUBLIC = {
    "Augmentation": "data.augmentation",
    "Classifier": "training.classifier",
    "CycleAveraging": "training.weight_averaging",
    "Distillation": "training.distillation",
    "ImageFolder": "data.class_folders",
    "KerasAdam": "training.optimizers",
    "LeNet5": "networks.lenet5",
    "LinearCycles": "training.schedulers",
    "OriginalLeNet5": "networks.lenet5_1998",
    "Muon": "training.optimizers",
    "Pictures": "data.pictures",
    "Prediction": "training.trained",
    "TrainedNetwork": "training.trained",
    "load": "training.trained",
}

__all__ = ["__version__", *_PUBLIC, *DATASETS]


def __getattr__(name: str) -> Any:
    module = "data.datasets" if name in DATASETS else _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
