"""A datamodule for each dataset of the registry: ``MNIST``, ``FashionMNIST``, ``CIFAR10``, ..."""

from lenet_lightning.data.datamodule import ImageDataModule
from lenet_lightning.data.registry import DATASETS, DatasetFacts


def datamodule(facts: DatasetFacts) -> type[ImageDataModule]:
    """Return the datamodule class of a dataset, a subclass of ``ImageDataModule``."""
    description = f"{facts.title}: {facts.description}\n\nSee ``ImageDataModule`` for the options."
    attributes = {"dataset": facts.name, "__doc__": description, "__module__": __name__}
    return type(facts.name, (ImageDataModule,), attributes)


DATAMODULES = {name: datamodule(facts) for name, facts in DATASETS.items()}

globals().update(DATAMODULES)


def __getattr__(name: str) -> type[ImageDataModule]:
    """Tell type checkers that the datasets' names are attributes of this module."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
