"""Ensembles: the mean of the probabilities of several networks (Lakshminarayanan et al. 2017)."""

import glob
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lenet_lightning.data.datamodule import SPLIT_OPTIONS, InputSpec
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import POLARITIES, mean_of

# Options that a reported loss depends on, beside the network's own.
LOSS_OPTIONS = ("loss", "label_smoothing", "l1", "l2")


def members(pattern: str) -> list[str]:
    """Return the checkpoints that ``--ckpt_path`` names, sorted.

    Args:
        pattern: a file, there or not; a run folder, for its best checkpoint; or a pattern with
            ``*``, ``?`` or ``[...]`` for several.

    Raises:
        UserError: a pattern fits no file, or several of one run.
    """
    if Path(pattern).is_dir():
        return [run_folder.checkpoint_in(pattern)]
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [pattern]
    if found := [run_folder.checkpoint_in(path) for path in sorted(glob.glob(pattern))]:
        for path, other in pairwise(found):
            if run_folder.folder_of(path) and run_folder.folder_of(path) == run_folder.folder_of(
                other
            ):
                raise UserError(
                    f"ckpt_path is {pattern}, which fits {path} and {Path(other).name}, one "
                    "network at two times: end it with /best.ckpt."
                )
        return found
    raise UserError(
        f"ckpt_path is {pattern}, but no file fits that pattern: expected .ckpt files such as "
        "'lightning_logs/mnist/version_*/checkpoints/best.ckpt', in quotes."
    )


def same_images(specs: dict[str, InputSpec]) -> None:
    """Refuse networks of different datasets.

    Args:
        specs: what each checkpoint's network expects of its input, by its path.

    Raises:
        UserError: naming one that differs from the first.
    """
    first, *others = specs
    for path in others:
        if specs[path].name != specs[first].name or specs[path].classes != specs[first].classes:
            raise UserError(
                f"The checkpoint {path} was trained on {specs[path].name}, but {first} on "
                f"{specs[first].name}: choose checkpoints of one dataset."
            )


def same_options(first: dict[str, Any], other: dict[str, Any], path: str, validate: bool) -> None:
    """Refuse a network whose loss, or whose validation images, are not those of the first.

    Args:
        first: the configuration of the first checkpoint's run, complete.
        other: that of another one.
        path: where that other checkpoint lies.
        validate: whether validation images are what is evaluated.

    Raises:
        UserError: naming the option.
    """
    data = (config["data"]["init_args"] for config in (first, other))
    options = [
        ("model", first["model"], other["model"], LOSS_OPTIONS),
        ("data", *data, ("negate_border", *(SPLIT_OPTIONS if validate else ()))),
    ]
    for group, ours, theirs, keys in options:
        for key in keys:
            if ours.get(key) != theirs.get(key):
                raise UserError(
                    f"{group}.{key} is {ours[key]}, but the checkpoint {path} was trained with "
                    f"{theirs[key]}, so that metrics are not comparable: evaluate it separately."
                )


class Ensemble:
    """Networks that are tested one after another, and their mean."""

    def __init__(self) -> None:
        self.probabilities: list[Tensor] = []
        self.penalties: list[Tensor] = []

    def add(self, classifier: Classifier) -> None:
        """Add a network whose test has ended."""
        self.classifier = classifier
        self.probabilities.append(classifier.test_logits.softmax(-1))
        penalty = classifier.objective.penalty
        self.penalties.append(penalty.add_to(torch.zeros(()), 1, classifier.kernels))

    def figures(self, labels: Tensor) -> dict[str, float]:
        """Return accuracies in [0, 1] and losses of the mean probabilities.

        Losses are comparable with those of each network: they include the mean penalty.

        Args:
            labels: int64 ``[count]``, of the test images.

        Returns:
            acc, loss, acc_negative, loss_negative.
        """
        figures = {}
        mean = mean_of(self.probabilities).to(labels.device)
        penalty = float(torch.stack(self.penalties).mean())
        for suffix, probabilities in zip(POLARITIES, mean, strict=True):
            # The softmax of a logarithm of probabilities is these probabilities.
            logits = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
            loss = self.classifier.objective(logits, labels)
            figures[f"acc{suffix}"] = float((logits.argmax(-1) == labels).float().mean())
            figures[f"loss{suffix}"] = float(loss) / len(labels) + penalty
        return figures
