"""A datamodule for each dataset of the registry: ``MNIST``, ``FashionMNIST``, ``CIFAR10``, ..."""

from pathlib import Path
from typing import Any

from lenet_lightning.data.class_folders import ImageFolder
from lenet_lightning.data.datamodule import ImageDataModule, InputSpec
from lenet_lightning.data.fetch import Dataset, find_dataset
from lenet_lightning.data.registry import DATASETS, DatasetFacts
from lenet_lightning.errors import UserError


def datamodule(facts: DatasetFacts) -> type[ImageDataModule]:
    """Return the datamodule class of a dataset, a subclass of ``ImageDataModule``."""
    description = f"{facts.title}: {facts.description}\n\nSee ``ImageDataModule`` for the options."
    attributes = {"dataset": facts.name, "__doc__": description, "__module__": __name__}
    return type(facts.name, (ImageDataModule,), attributes)


DATAMODULES = {name: datamodule(facts) for name, facts in DATASETS.items()}

globals().update(DATAMODULES)


def of_config(config: dict[str, Any], root: str | None = None) -> ImageDataModule:
    """Return the datamodule of a stored ``fit`` configuration, with the defaults of its options.

    Args:
        config: of a run folder or a checkpoint.
        root: folder to take in place of that of the configuration.

    Raises:
        UserError: there is no such dataset, or its folder has no class folders.
    """
    options = config["data"].get("init_args", {})
    name = str(config["data"].get("class_path")).rpartition(".")[2]
    root = root or str(options.get("root", "datasets"))
    if name != "ImageFolder":
        return DATAMODULES[find_dataset(name).name](root=root)
    channels, test_size = options.get("channels"), options.get("test_size")
    return ImageFolder(
        root,
        channels=channels if channels in (1, 3) else None,
        test_size=test_size if isinstance(test_size, int) and test_size > 0 else None,
    )


def of_checkpoint(
    spec: InputSpec, config: dict[str, Any], path: str | Path, root: str | None = None
) -> Dataset:
    """Return the images that a checkpoint was trained and tested on; nothing is fetched.

    Args:
        spec: of the checkpoint.
        config: the configuration that it was trained with.
        path: the checkpoint.
        root: folder to take in place of that of the configuration.

    Raises:
        UserError: they are absent, damaged, or others than they were.
    """
    data = of_config(config, root)
    trained = (spec.name, spec.channels, spec.classes)
    if (data.dataset, data.channels, data.classes) != trained:
        raise UserError(
            f"The checkpoint {path} was trained on {spec.name}, but its configuration, or --root, "
            f"names {data.dataset}, or its classes changed: give --root with the folder as it was."
        )
    if data.splits_test:
        data.check_pictures(spec, path)
    return data.load_dataset()


def __getattr__(name: str) -> type[ImageDataModule]:
    """Tell type checkers that the datasets' names are attributes of this module."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
