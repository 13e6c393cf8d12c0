"""Accuracy of many networks on altered test images; each alteration is made once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lenet_lightning.data import datasets
from lenet_lightning.data.batches import to_unit
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.robustness.perturbations import LEVELS, Level
from lenet_lightning.store import checkpoints
from lenet_lightning.study.results import Result
from lenet_lightning.training import pretrained

# So many images are altered and evaluated together: they and their copies stay in the cache.
BATCH = 500


class Trained(NamedTuple):
    """A finished run's best network.

    Attributes:
        result: the run.
        network: its network, for inference.
        spec: describes the images it was trained on.
        config: the run's configuration.
    """

    result: Result
    network: LeNet5
    spec: InputSpec
    config: dict[str, Any]

    @property
    def dataset(self) -> str:
        """Name of the dataset it was trained on."""
        return self.spec.name


class Row(NamedTuple):
    """A line of ``robustness.csv``.

    Attributes:
        setting: name of the setting in the study.
        seed: of the run.
        group: of the setting; empty in a study without groups.
        dataset: whose test images were altered.
        perturbation: see ``perturbations.Level``.
        level: likewise.
        accuracy: in [0, 1].
        images: how many images it is measured on.
    """

    setting: str
    seed: int
    group: str
    dataset: str
    perturbation: str
    level: float | str
    accuracy: float
    images: int


def load(result: Result) -> Trained:
    """Load the best checkpoint of a finished run.

    Raises:
        UserError: it is absent, damaged, or does not fit what it tells of itself.
    """
    path = result.path / "checkpoints" / checkpoints.BEST
    network, checkpoint, config = pretrained.load(path, kernel="auto")
    return Trained(result, network, checkpoints.spec_of(checkpoint), config)


def test_set(
    spec: InputSpec,
    config: dict[str, Any],
    path: Path,
    root: str | None = None,
    count: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return test images, uint8 ``[count, channels, 32, 32]``, and their labels, int64 ``[count]``.

    Args:
        spec: describes the images that a checkpoint was trained on.
        config: its configuration.
        path: the checkpoint.
        root: folder of the datasets, or of the pictures; by default where the run found them.
        count: take only so many, from the first on.

    Raises:
        UserError: the dataset is absent, damaged, another than the checkpoint's, or smaller than
            ``count``.
    """
    dataset = datasets.of_checkpoint(spec, config, path, root)
    test, size = dataset.test, len(dataset.test.labels)
    if count is not None and count > size:
        raise UserError(
            f"--images is {count}, but {dataset.name} has {size} test images: give fewer."
        )
    pixels = torch.from_numpy(to_input_size(test.images[:count]))
    return pixels, torch.from_numpy(test.labels[:count])


def evaluate(
    networks: Sequence[Trained],
    images: Tensor,
    labels: Tensor,
    seed: int,
    tick: Callable[[], object] = lambda: None,
) -> list[Row]:
    """Return a row for every level and network of one dataset, in the order of the networks.

    Args:
        networks: trained on this dataset.
        images: uint8 ``[count, channels, 32, 32]``.
        labels: int64 ``[count]``.
        seed: of all that is random; see ``perturbations.Level.apply``.
        tick: called after every level.
    """
    columns = []
    for level in LEVELS:
        columns.append(accuracies([t.network for t in networks], images, labels, level, seed))
        tick()
    return [
        row(trained, level, column[place], len(labels))
        for place, trained in enumerate(networks)
        for level, column in zip(LEVELS, columns, strict=True)
    ]


def row(trained: Trained, level: Level, accuracy: float, images: int) -> Row:
    """Return the row of one network at one level."""
    result, setting = trained.result, trained.result.setting
    where = (setting.name, result.seed, setting.group, trained.dataset)
    return Row(*where, level.perturbation, level.level, accuracy, images)


@torch.inference_mode()
def accuracies(
    networks: Sequence[LeNet5], images: Tensor, labels: Tensor, level: Level, seed: int
) -> list[float]:
    """Return each network's accuracy on the altered images, in [0, 1]."""
    correct = torch.zeros(len(networks), dtype=torch.long)
    for first in range(0, len(labels), BATCH):
        altered = level.apply(to_unit(images[first : first + BATCH]), seed, first)
        target = labels[first : first + BATCH]
        correct += torch.stack([(n(altered).argmax(1) == target).sum() for n in networks])
    return (correct.double() / len(labels)).tolist()


def by_dataset(networks: Iterable[Trained]) -> dict[str, list[Trained]]:
    """Return the networks trained on each dataset, in order."""
    found: dict[str, list[Trained]] = {}
    for trained in networks:
        found.setdefault(trained.dataset, []).append(trained)
    return found
