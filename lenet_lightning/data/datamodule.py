"""``ImageDataModule``: split, polarity and batches of every labelled dataset."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging

from lenet_lightning.data import fetch, splits
from lenet_lightning.data.augmentation import NO_AUGMENTATION, Augmentation
from lenet_lightning.data.batches import EvaluationBatches, Images, TrainBatches
from lenet_lightning.data.input_size import repeat_and_padding, to_input_size
from lenet_lightning.data.polarity import TrainPolarity
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError

Protocol = Literal["holdout", "report", "watch"]

# Options that decide which training images train and which validate.
SPLIT_OPTIONS = ("protocol", "val_size", "split_seed", "num_folds", "fold", "subset")

# Images delivered together to the training step by default: enough to hide the cost of a call.
IMAGES_PER_EXECUTION = 1024
MAX_STEPS_PER_EXECUTION = 64


@dataclass(frozen=True)
class InputSpec:
    """What a network needs of its data; saved in every checkpoint.

    Attributes:
        name: the dataset's name.
        channels: 1 or 3.
        size: height and width in pixels before padding to 32.
        classes: class names, in the order of the labels.
        mean: per channel, of the training images with their padding, in [0, 1].
        std: per channel, likewise.
        digest: of the training images, if they may change: those of the user's own folder.
    """

    name: str
    channels: int
    size: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers, as checkpoints and JSON hold them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "InputSpec":
        """Rebuild from :meth:`to_dict`."""
        restored: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**restored)


class ImageDataModule(LightningDataModule):
    """A dataset held as one uint8 tensor on the device, with its negatives.

    Every evaluation reports the original and the negative images by name.

    Args:
        root: folder of the datasets; each lives in a folder of its own below it.
        download: fetch what is missing or damaged; false refuses instead.
        batch_size: images of a training batch over all devices, or ``full`` for the whole set.
        eval_batch_size: images evaluated together, over all devices.
        steps_per_execution: batches of a call of the training step (Keras's name); any
            value gives the same training. ``auto`` takes about a thousand images at a time.
        protocol: ``holdout`` chooses the best epoch on validation images split from the training
            set and tests once, at the end. ``watch`` does the same and also evaluates the test set
            every epoch for the record. ``report`` is the report's own: all training images train,
            and the test set is the validation set, so its best figure is chosen on the test set.
        val_size: images of the validation split; a tenth of the training set when null.
        split_seed: seed of the validation split and of ``subset``, the same for every run seed.
        num_folds: split the training set into this many folds and validate on one of them.
        fold: which fold validates, from 0.
        subset: train on this many images only (after the split), for quick trials.
        train_polarity: which training images are reversed: ``original`` none, ``negative`` all,
            ``half`` a seeded half fixed for the run (the report's), ``random`` each with
            probability one half in every epoch.
        negate_border: whether the negative reverses the padding too (the whole 32x32 input).
        augmentation: random changes of the training images; none by default.
        seed: of order, polarity and augmentation; the command line sets it from seed_everything.

    Raises:
        UserError: from :meth:`setup`, if the options do not fit the dataset or each other.
    """

    dataset: str = ""
    splits_test: bool = False
    """Whether the test images are split off the same images as the training images."""

    def __init__(
        self,
        root: str = "datasets",
        download: bool = True,
        batch_size: PositiveInt | Literal["full"] = 64,
        eval_batch_size: PositiveInt = 1000,
        steps_per_execution: PositiveInt | Literal["auto"] = "auto",
        protocol: Protocol = "holdout",
        val_size: PositiveInt | None = None,
        split_seed: splits.Seed = 0,
        num_folds: PositiveInt | None = None,
        fold: NonNegativeInt = 0,
        subset: PositiveInt | None = None,
        train_polarity: TrainPolarity = "original",
        negate_border: bool = True,
        augmentation: Augmentation = NO_AUGMENTATION,
        seed: splits.Seed = 0,
    ) -> None:
        super().__init__()
        self.root = root
        self.download = download
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.steps_per_execution = steps_per_execution
        self.protocol = protocol
        self.val_size = val_size
        self.split_seed = split_seed
        self.num_folds = num_folds
        self.fold = fold
        self.subset = subset
        self.train_polarity = train_polarity
        self.negate_border = negate_border
        self.augmentation = augmentation
        self.seed = seed
        self.digests: dict[str, str] = {}
        self.check_folds()

    def check_folds(self) -> None:
        """Refuse combinations of split options that contradict each other."""
        if self.num_folds is None:
            if self.fold:
                raise UserError(f"data.fold is {self.fold} but data.num_folds is not set.")
            return
        if self.num_folds < 2 or self.fold >= self.num_folds:
            raise UserError(
                f"data.fold is {self.fold} and data.num_folds {self.num_folds}: "
                "expected at least 2 folds, and a fold from 0 to num_folds - 1."
            )
        if self.val_size is not None or self.protocol == "report":
            raise UserError(
                "data.num_folds cannot be combined with data.val_size or with "
                "data.protocol report: each of them decides what validates; keep one."
            )

    @property
    def channels(self) -> int:
        """1 or 3; known without the data."""
        return DATASETS[self.dataset].channels

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels; known without the data."""
        return DATASETS[self.dataset].classes

    @property
    def training_size(self) -> int:
        """Number of training and validation images; known without the data."""
        return DATASETS[self.dataset].training_size

    @property
    def training_digest(self) -> str:
        """Digest of training images that may change; empty for those of a published dataset."""
        return ""

    def check_pictures(self, trained: InputSpec, path: str | Path) -> None:
        """Refuse a checkpoint of this dataset whose training images are not those of now.

        Images that are split off for validation or testing are then others too, and may be among
        those that it was trained on.

        Args:
            trained: the checkpoint's ``InputSpec``.
            path: the checkpoint.
        """
        known = trained.name == self.dataset and trained.digest
        if known and trained.digest != self.training_digest:
            raise UserError(
                f"The checkpoint {path} was trained on other pictures than data.root {self.root} "
                "holds or data.test_size leaves now, and may know those that would evaluate it: "
                "restore them, or put test pictures into a folder test beside train."
            )

    def fetch_dataset(self) -> None:
        """Fetch and prove what is absent or damaged."""
        fetch.fetch(self.dataset, self.root, self.download)

    def load_dataset(self) -> fetch.Dataset:
        """Return the images as they are stored; nothing is fetched."""
        return fetch.load(self.dataset, self.root, download=False)

    def prepare_data(self) -> None:
        """Fetch and prove the files, unless they are loaded; runs in one process per machine."""
        if not hasattr(self, "train_index"):
            self.fetch_dataset()

    def setup(self, stage: str | None = None) -> None:
        """Load the images onto the device and split them.

        Raises:
            UserError: the dataset's files are absent or damaged and cannot be fetched, or
                ``val_size``, ``subset`` or ``batch_size`` is larger than the data allow.
        """
        if hasattr(self, "train_index"):
            return
        dataset = self.load_dataset()
        self.digests = dict(dataset.digests)
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        self.train_images, self.test_images = (
            resident(images, device, self.negate_border) for images in (dataset.train, dataset.test)
        )
        train, val = self.split(dataset.train.labels)
        self.train_index, self.val_index = torch.from_numpy(train), torch.from_numpy(val)
        self.test_index = torch.arange(len(dataset.test.labels))
        mean, std = mean_and_std(self.train_images.pixels)
        size, digest = dataset.train.images.shape[-1], self.training_digest
        self.spec = InputSpec(self.dataset, self.channels, size, self.classes, mean, std, digest)

    def split(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (train, validation) positions in the training set."""
        train, val = self.held_out(labels)
        if self.subset is not None:
            self.check_size("subset", self.subset, len(train))
            train = train[splits.stratified_order(labels[train], self.split_seed)[: self.subset]]
        if self.batch_size != "full":
            self.check_size("batch_size", self.batch_size, len(train))
        return train, val

    def held_out(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (all that may train, validation) positions in the training set."""
        count = len(labels)
        if self.protocol == "report":
            return np.arange(count), np.arange(0)
        if self.num_folds is not None:
            self.check_size("num_folds", self.num_folds, count)
            return splits.k_fold(labels, self.num_folds, self.fold, self.split_seed)
        val_size = self.val_size or splits.default_val_size(count)
        self.check_size("val_size", val_size, count - 1)
        return splits.holdout(labels, val_size, self.split_seed)

    def check_size(self, key: str, value: int, most: int) -> None:
        """Refuse a size that the data cannot give."""
        if value > most:
            raise UserError(
                f"data.{key} is {value}, but {self.dataset} allows at most {most} here."
            )

    @property
    def ranks(self) -> tuple[int, int]:
        """(This process, number of processes)."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> TrainBatches:
        """Return the training batches; iterating gives one epoch."""
        batch_size = len(self.train_index) if self.batch_size == "full" else self.batch_size
        return TrainBatches(
            self.train_images,
            self.train_index,
            batch_size,
            steps_per_execution(self.steps_per_execution, batch_size, self.trainer),
            self.seed,
            self.train_polarity,
            self.augmentation,
            *self.ranks,
        )

    def val_dataloader(self) -> EvaluationBatches | list[EvaluationBatches]:
        """Return what is evaluated every epoch: validation images, then test images if watched."""
        if self.protocol == "report":
            return self.test_dataloader()
        options = self.eval_batch_size, *self.ranks
        val = EvaluationBatches(self.train_images, self.val_index, *options)
        return [val, self.test_dataloader()] if self.protocol == "watch" else val

    def test_dataloader(self) -> EvaluationBatches:
        """Return the test images and their negatives."""
        options = self.eval_batch_size, *self.ranks
        return EvaluationBatches(self.test_images, self.test_index, *options)

    def predict_dataloader(self) -> EvaluationBatches:
        """Return the test images: predictions for them agree with ``test``."""
        return self.test_dataloader()

    @property
    def picture_names(self) -> list[str]:
        """Names of what :meth:`predict_dataloader` delivers, in its order."""
        return [f"{self.dataset}/test/{i}" for i in range(len(self.test_index))]


def resident(split: fetch.Split, device: torch.device, negate_border: bool) -> Images:
    """Bring images to the network's input size and onto a device."""
    pixels = torch.from_numpy(to_input_size(split.images))
    labels = torch.from_numpy(split.labels)
    border = 0 if negate_border else repeat_and_padding(split.images.shape[-1])[1]
    return Images(pixels.to(device), labels.to(device), border)


def mean_and_std(pixels: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation in [0, 1] of each channel of uint8 images, exactly."""
    counts = torch.stack([torch.bincount(p.flatten(), minlength=256) for p in pixels.unbind(1)])
    counts = counts.cpu()  # Apple's GPUs have no float64
    value = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = (share * value).sum(1)
    std = ((share * value.square()).sum(1) - mean.square()).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def steps_per_execution(
    option: int | Literal["auto"], batch_size: int, trainer: Trainer | None
) -> int:
    """Return how many batches to deliver together.

    What counts batches sees one batch at a time, so that it means what it says: some Trainer
    options, averages of weights over steps, and checkpoints every so many steps.
    """
    if trainer and not (
        is_whole(trainer.val_check_interval)
        and is_whole(trainer.limit_train_batches)
        and trainer.overfit_batches == 0.0  # type: ignore[attr-defined]
        and not any(map(counts_steps, trainer.callbacks))  # type: ignore[attr-defined]
    ):
        return 1
    if option != "auto":
        return option
    return max(1, min(MAX_STEPS_PER_EXECUTION, IMAGES_PER_EXECUTION // batch_size))


def is_whole(share: float) -> bool:
    """Whether a Trainer option means the whole epoch: 1.0 does, the integer 1 means one batch."""
    return isinstance(share, float) and share == 1.0


def counts_steps(callback: Callback) -> bool:
    """Whether a callback averages weights over single steps, or saves after a number of them."""
    if isinstance(callback, ModelCheckpoint):
        return "'every_n_train_steps': 0" not in callback.state_key
    return isinstance(callback, WeightAveraging) and not getattr(callback, "averages_epochs", False)
