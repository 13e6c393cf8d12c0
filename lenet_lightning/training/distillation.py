"""Knowledge distillation: a student learns the predictions of teachers (Hinton et al. 2015).

The probabilities that teachers predict hold more than a label: how similar an image is to each
class. An ensemble of teachers errs less than any of them. The student sees the same augmented
images as its teachers, and gains from long training (Beyer et al. 2022, "Knowledge distillation: a
good teacher is patient and consistent").
"""

import glob
import hashlib
import inspect
from copy import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jsonargparse.typing import PositiveFloat, restricted_number_type
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from lenet_lightning.data.datamodule import SPLIT_OPTIONS, ImageDataModule, InputSpec
from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import Kernel
from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.training import pretrained
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import mean_of

Share = restricted_number_type("Share", float, [(">", 0), ("<=", 1)])


class Distillation(Callback):
    """Trains a student on the predictions of teachers for each augmented image.

    The target becomes ``(1 - weight)`` times the class plus ``weight`` times the softmax of the
    teachers' mean logits, these and the network's divided by the temperature. Only training
    changes: every reported loss but ``train/loss`` is of classes. Teachers must not have trained on
    images that validate this run.

    Args:
        teachers: their checkpoints: a file, or a pattern with ``*`` for several. Of several runs
            of one name (``version_N``) the newest counts.
        weight: the teachers' share of the target, in (0, 1].
        temperature: divides the logits of teachers and student, > 0; above 1, unlikely classes
            weigh more. The loss is multiplied by its square, which keeps the size of gradients.

    Attributes:
        digests: the SHA-256 of each teacher's checkpoint by its path.

    Raises:
        UserError: from :meth:`setup`, before training: no checkpoint is there; or one is damaged,
            of an unfinished run, of another dataset, or has trained on validation images.
    """

    def __init__(
        self,
        teachers: str,
        weight: Share = 1.0,  # type: ignore[valid-type]
        temperature: PositiveFloat = 1.0,
    ) -> None:
        self.teachers = teachers
        self.weight = weight
        self.temperature = temperature
        self.networks: list[nn.Module] = []
        self.digests: dict[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load and check the teachers of a training, and say how many there are."""
        if stage != "fit":
            return
        data = cast(ImageDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        classifier = cast(Classifier, pl_module)
        kernel: Kernel = getattr(classifier.network, "kernel", "auto")
        self.networks.clear()
        for path in find(self.teachers):
            network, checkpoint, config = pretrained.load(path, kernel)
            check_teacher(path, checkpoints.spec_of(checkpoint), config, data)
            self.digests[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            self.networks.append(network.to(trainer.strategy.root_device))
        classifier.teacher, classifier.temperature = self.target, self.temperature
        count = len(self.networks)
        classifier.print(f"Distilled from {count} teacher{'s' * (count > 1)}: {self.teachers}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the teachers from the classifier."""
        classifier = cast(Classifier, pl_module)
        classifier.teacher, classifier.temperature = None, 1.0

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Remove the teachers from the classifier."""
        self.teardown(trainer, pl_module, "fit")

    @torch.no_grad()
    def target(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the target of training: the probability of each class.

        Args:
            images: float32 ``[batch, channels, 32, 32]`` in [0, 1].
            labels: int64 ``[batch]``.

        Returns:
            float32 ``[batch, classes]``; each row sums to 1.
        """
        logits = mean_of([network(images) for network in self.networks]).float()
        predicted = (logits / self.temperature).softmax(-1)
        classes = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
        return torch.lerp(classes, predicted, self.weight)


def find(pattern: str) -> list[Path]:
    """Return the checkpoints that a pattern names, sorted, of each run's name the newest.

    Raises:
        UserError: there is none, or one is of an unfinished run.
    """
    newest: dict[Any, Path] = {}
    paths = map(Path, glob.glob(pattern))
    for path in sorted(paths, key=lambda path: run_folder.version(path.parent.parent)):
        folder = run_folder.folder_of(path)
        if folder and run_folder.read(folder).manifest.status != "finished":
            raise UserError(f"The teacher {path} is of a run that is not finished: finish it.")
        newest[(folder.parent, path.name) if folder else path] = path
    if not newest:
        raise UserError(
            f"Distillation.teachers is {pattern}, but there is no such checkpoint: train the "
            "teachers first (the files in configs/best say how at their top), or name others."
        )
    return sorted(newest.values())


def check_teacher(
    path: Path, spec: InputSpec, config: dict[str, Any], data: ImageDataModule
) -> None:
    """Refuse a teacher of another dataset, or one that has trained on validation images."""
    if spec.name != data.dataset:
        raise UserError(
            f"The teacher {path} was trained on {spec.name}, but data is {data.dataset}: choose "
            f"teachers of {data.dataset}."
        )
    data.check_pictures(spec, path)
    options = config["data"]["init_args"]
    trained = copy(data)
    known_options = inspect.signature(ImageDataModule).parameters
    for key in SPLIT_OPTIONS:
        setattr(trained, key, options.get(key, known_options[key].default))
    known, _ = trained.split(data.train_images.labels.cpu().numpy())
    seen = len(np.intersect1d(known, data.val_index.numpy()))
    if seen:
        raise UserError(
            f"The teacher {path} has trained on {seen:,} of the {len(data.val_index):,} images "
            "that validate this run, which would flatter it: give both the same data.protocol, "
            "data.val_size and data.split_seed."
        )
