"""Accuracy of many networks on altered test images; each alteration is made once for all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lenet_lightning.data import datasets, fetch
from lenet_lightning.data.batches import to_unit
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.errors import UserError
from lenet_lightning.robustness import attacks
from lenet_lightning.robustness.detection import Detection, auroc, confidence
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
    network: nn.Module
    spec: InputSpec
    config: dict[str, Any]

    @property
    def dataset(self) -> str:
        """Name of the dataset it was trained on."""
        return self.spec.name

    @property
    def place(self) -> tuple[str, int, str, str]:
        """The first columns of its rows: setting, seed, group and dataset."""
        setting = self.result.setting
        return setting.name, self.result.seed, setting.group, self.dataset


class Row(NamedTuple):
    """A line of ``robustness.csv``.

    Attributes:
        setting: name of the setting in the study.
        seed: of the run.
        group: of the setting; empty in a study without groups.
        dataset: whose test images were altered.
        perturbation: see ``perturbations.Level``; or ``fgsm`` or ``pgd``, see ``attacks``.
        level: likewise; of an attack its epsilon in 1/255.
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


def load(result: Result, imports: Collection[str] = ()) -> Trained:
    """Load the best checkpoint of a finished run.

    Args:
        result: the run.
        imports: import paths that a network of the user's own may be imported from.

    Raises:
        UserError: it is absent, damaged, or does not fit what it tells of itself.
    """
    path = result.path / "checkpoints" / checkpoints.BEST
    network, checkpoint, config = pretrained.load(path, "auto", imports)
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
    """Return a row for every level, attack and network of one dataset, network by network.

    Args:
        networks: trained on this dataset.
        images: uint8 ``[count, channels, 32, 32]``.
        labels: int64 ``[count]``.
        seed: of all that is random; see ``perturbations.Level.apply``.
        tick: called after every level, and after the attacks on a network.
    """
    rows: list[list[Row]] = [[] for _ in networks]
    for level in LEVELS:
        found = accuracies([t.network for t in networks], images, labels, level, seed)
        for own, trained, accuracy in zip(rows, networks, found, strict=True):
            own.append(Row(*trained.place, *level[:2], accuracy, len(labels)))
        tick()
    for own, trained in zip(rows, networks, strict=True):
        under_attack = attacks.accuracies(trained.network, images, labels, seed)
        size = min(len(labels), attacks.IMAGES)
        own += [Row(*trained.place, *attack, value, size) for attack, value in under_attack.items()]
        tick()
    return [row for own in rows for row in own]


def detect(
    networks: Sequence[Trained], images: Tensor, other: str, root: str, count: int | None
) -> list[Detection]:
    """Return how well each network of one dataset detects the test images of another.

    Args:
        networks: trained on the same dataset.
        images: its test images, uint8 ``[count, channels, 32, 32]``.
        other: the dataset to detect.
        root: folder of the datasets; nothing is fetched.
        count: take only so many of its images, from the first on.

    Raises:
        UserError: the other dataset is absent or damaged.
    """
    test = fetch.load(other, root, download=False).test
    unknown = torch.from_numpy(to_input_size(test.images[:count]))
    found = []
    for trained in networks:
        area = auroc(confidence(trained.network, images), confidence(trained.network, unknown))
        found.append(Detection(*trained.place, other, *area, len(images), len(unknown)))
    return found


@torch.inference_mode()
def accuracies(
    networks: Sequence[nn.Module], images: Tensor, labels: Tensor, level: Level, seed: int
) -> list[float]:
    """Return each network's accuracy on the altered images, in [0, 1]."""
    correct = torch.zeros(len(networks), dtype=torch.long)
    for first in range(0, len(labels), BATCH):
        altered = level.apply(to_unit(images[first : first + BATCH]), seed, first)
        target = labels[first : first + BATCH]
        correct += torch.stack([(n(altered).argmax(1) == target).sum() for n in networks])
    return (correct.double() / len(labels)).tolist()
