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
        best: checkpoints/best.ckpt.
        last: checkpoints/last.ckpt.
    """

    def __init__(self, monitor: str, seed: int) -> None:
        self.record = RunRecord(monitor, seed)
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

    def open(self, folder: Path, config: dict[str, Any], callbacks: list[Callback]) -> None:
        """Write into ``folder`` from now on.

        Args:
            folder: of the run.
            config: the run's complete configuration.
            callbacks: the trainer's, ``best`` and ``last`` among them; the others are put before.
        """
        self.record.open(folder, strict_yaml.dumps(config))
        first = callbacks.index(self.best)
        callbacks[first:first] = [TensorBoardPictures(folder, config), Curves(folder), self.record]
        self.best.dirpath = self.last.dirpath = str(folder / "checkpoints")
