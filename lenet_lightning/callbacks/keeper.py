"""The callbacks that keep one run's folder, together."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lenet_lightning import resume
from lenet_lightning.callbacks.curves import Curves
from lenet_lightning.callbacks.pictures import TensorBoardPictures
from lenet_lightning.callbacks.record import Replica, RunRecord
from lenet_lightning.classifier import prefix


class Keeper:
    """Keeps the folder of a run, or of one of several replicas that are trained as one.

    Args:
        monitor: the metric that chooses the best epoch.
        seed: the run's own seed.
        replica: which one of several; None for a run of its own.

    Attributes:
        record: config.yaml, run.json, metrics.csv and the test's predictions.
        pictures: what TensorBoard shows beside scalars.
        curves: curves.png.
        best: checkpoints/best.ckpt.
        last: checkpoints/last.ckpt.
    """

    def __init__(self, monitor: str, seed: int, replica: Replica | None = None) -> None:
        self.prefix = prefix(replica.number if replica else None)
        self.record = RunRecord(monitor, seed, replica)
        self.pictures, self.curves = TensorBoardPictures(), Curves()
        self.best = ModelCheckpoint(
            monitor=self.prefix + monitor,
            mode="min" if "loss" in monitor else "max",
            filename="best",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        # Not save_last: Lightning saves that only in epochs that improve on the best.
        self.last = ModelCheckpoint(
            filename="last", enable_version_counter=False, save_on_train_epoch_end=True
        )

    @property
    def callbacks(self) -> list[Callback]:
        """All of them, in the order in which Lightning calls them."""
        return [self.pictures, self.curves, self.record, self.best, self.last]

    @property
    def folder(self) -> Path:
        """The run's folder, once it is open."""
        assert self.record.folder is not None
        return self.record.folder

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        """Write into ``folder``; ``config`` is the run's complete configuration."""
        self.record.open(folder, yaml.safe_dump(config, sort_keys=False))
        self.curves.open(folder)
        self.pictures.open(folder, config)
        self.best.dirpath = self.last.dirpath = str(folder / "checkpoints")

    def states(self) -> dict[str, Any]:
        """What the checkpoint of a run of its own holds of its callbacks."""
        return {
            self.own_key(each): each.state_dict() | {"monitor": monitor}
            for each, monitor in ((self.best, self.record.monitor), (self.last, None))
        }

    def load_states(self, states: dict[str, Any]) -> None:
        """Take up :meth:`states`, also of a folder that has moved since."""
        for each in (self.best, self.last):
            state = states.get(self.own_key(each))
            continuation = resume.Continuation(self.folder / "checkpoints" / "last.ckpt", {})
            if state and continuation.moved(state, str(each.dirpath)):
                each.load_state_dict(state)

    def own_key(self, callback: ModelCheckpoint) -> str:
        """Return the key of a callback's state in the checkpoint of a run of its own."""
        return callback.state_key.replace(self.prefix, "") if self.prefix else callback.state_key
