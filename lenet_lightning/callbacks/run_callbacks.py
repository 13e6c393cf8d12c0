"""The callbacks that write a run's folder."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lenet_lightning import strict_yaml
from lenet_lightning.callbacks.curves import Curves
from lenet_lightning.callbacks.recorder import RunRecord
from lenet_lightning.callbacks.tensorboard import TensorBoardPictures


class RunCheckpoint(ModelCheckpoint):
    """The run folder's own checkpoints: a class of its own, so that users may add another."""


class Keeper:
    """The callbacks that write a run's folder.

    Args:
        monitor: the metric that chooses the best epoch.
        seed: the run's own seed.

    Attributes:
        record: config.yaml, run.json, metrics.csv and the test's predictions.
        pictures: what TensorBoard shows beside scalars.
        curves: curves.png.
        best: checkpoints/best.ckpt.
        last: checkpoints/last.ckpt.
    """

    def __init__(self, monitor: str, seed: int) -> None:
        self.record = RunRecord(monitor, seed)
        self.pictures, self.curves = TensorBoardPictures(), Curves()
        self.best = RunCheckpoint(
            monitor=monitor,
            mode="min" if "loss" in monitor else "max",
            filename="best",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        # Not save_last: Lightning saves that only in epochs that improve on the best.
        self.last = RunCheckpoint(
            filename="last", enable_version_counter=False, save_on_train_epoch_end=True
        )

    @property
    def callbacks(self) -> list[Callback]:
        """All of them, in the order in which Lightning calls them."""
        return [self.pictures, self.curves, self.record, self.best, self.last]

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        """Write into ``folder``; ``config`` is the run's complete configuration."""
        self.record.open(folder, strict_yaml.dumps(config))
        self.curves.open(folder)
        self.pictures.open(folder, config)
        self.best.dirpath = self.last.dirpath = str(folder / "checkpoints")
