"""Several seeds trained as one program leave what they would leave one by one."""

import shlex
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor

from lenet_lightning import checkpoints, runs
from lenet_lightning.callbacks.keeper import Keeper
from lenet_lightning.callbacks.record import continue_command
from lenet_lightning.classifier import Classifier
from lenet_lightning.errors import UserError
from lenet_lightning.signals import Interrupted


def unfinished(
    keepers: list[Keeper], configs: list[dict[str, Any]]
) -> list[tuple[Path, Path]] | None:
    """Return each replica's run folder and the checkpoint from which all can go on together.

    The folders are then held. None if one of them has no unfinished run of its configuration, or if
    no checkpoints of one epoch are left.
    """
    found: list[Path] = []
    for keeper, config in zip(keepers, configs, strict=True):
        candidates = runs.find(config["logs"], config["name"], config)
        for run in candidates:
            ended = run.manifest["status"] in ("finished", "nonfinite")
            if not ended and keeper.record.hold(run.folder):
                found.append(run.folder)
                break
    if len(found) == len(keepers) and (paths := checkpoints.newest_common(found)):
        return list(zip(found, paths, strict=True))
    for keeper in keepers:
        keeper.record.release()
    return None


def create_folders(keepers: list[Keeper], configs: list[dict[str, Any]]) -> list[Path]:
    """Make and hold a run folder for each replica.

    Raises:
        UserError: one cannot be made; then none is left.
    """
    folders: list[Path] = []
    try:
        for keeper, config in zip(keepers, configs, strict=True):
            folders.append(runs.create(config["logs"], config["name"]))
            keeper.record.hold(folders[-1])
    except UserError:
        for keeper, folder in zip(keepers, folders, strict=False):
            keeper.record.release()
            runs.discard(folder)
        raise
    return folders


class Replicas(Checkpoint):
    """Keeps a folder for each replica, with the callbacks of a run of its own.

    Those see a trainer that logs to their own folder, and their checkpoints hold their own replica.
    One callback in the trainer's list in place of five a replica: Lightning goes through that list
    at every step.

    It is a ``Checkpoint`` for the reason that ``RunRecord`` is one. Nothing is written before
    :meth:`open`.

    Args:
        keepers: one for each replica.
    """

    def __init__(self, keepers: list[Keeper]) -> None:
        self.keepers = keepers
        self.loggers: dict[Keeper, list[Logger]] = {keeper: [] for keeper in keepers}
        self.alone: dict[Keeper, Classifier] = {}
        self.running: list[Keeper] = []
        self.name = ""
        self.current: Keeper | None = None

    def open(self, alone: list[Classifier], name: str, tensorboard: bool) -> None:
        """Start to keep the folders, all of which are open.

        Args:
            alone: a classifier for each replica on its own.
            name: what all of them were called, ``{seed}`` in it for the seed of each.
            tensorboard: whether to write event files.
        """
        self.running, self.name = list(self.keepers), name
        self.alone = dict(zip(self.keepers, alone, strict=True))
        for keeper in self.keepers if tensorboard else []:
            folder = keeper.folder
            self.loggers[keeper] = [
                TensorBoardLogger(
                    folder.parent, name="", version=folder.name, default_hp_metric=False
                )
            ]

    def each(self, trainer: Trainer, keepers: list[Keeper] | None = None) -> Iterator[Keeper]:
        """Yield every running keeper while the trainer logs to its folder and saves its replica."""
        before = trainer.loggers
        for keeper in list(self.running if keepers is None else keepers):
            trainer.loggers, self.current = self.loggers[keeper], keeper
            yield keeper
        trainer.loggers, self.current = before, None

    def call(self, hook: str, trainer: Trainer, *args: Any) -> None:
        """Call a hook of all running keepers' callbacks."""
        for keeper in self.each(trainer):
            for callback in keeper.callbacks:
                getattr(callback, hook)(trainer, *args)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the checkpoints' callbacks where they save."""
        if stage == "fit":
            self.call("setup", trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write every configuration and a first run.json."""
        for keeper in self.each(trainer):
            alone = self.alone[keeper]
            alone.trainer = trainer
            alone.configure_model()
            for callback in keeper.callbacks:
                callback.on_fit_start(trainer, alone)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show data and untrained networks, and save first checkpoints."""
        for keeper in self.each(trainer):
            for callback in keeper.callbacks:
                callback.on_train_start(trainer, self.alone[keeper])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clocks."""
        self.call("on_train_epoch_start", trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch has figures of its own."""
        self.call("on_validation_end", trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give up the replicas that failed; record and save the others; print one line for all."""
        failures = cast(Classifier, pl_module).failures
        failed = [keeper for keeper in self.running if self.keepers.index(keeper) in failures]
        self.stop(trainer, pl_module, failed)
        self.call("on_train_epoch_end", trainer, pl_module)
        if self.running:
            pl_module.print(epoch_line([keeper.record.rows[-1] for keeper in self.running]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the end of the training."""
        self.call("on_train_end", trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and keep the test of the replica that is tested."""
        assert self.current is not None
        for callback in self.current.callbacks:
            callback.on_test_end(trainer, pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Record why the runs stopped, and how they can go on."""
        started = self.running and self.running[0].record.manifest
        if isinstance(exception, Interrupted) and started:
            exception.add_note(f"Continue with: {self.continue_command()}")
        self.stop(trainer, pl_module, list(self.running), exception)

    def stop(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        keepers: list[Keeper],
        exception: BaseException | None = None,
    ) -> None:
        """Record why some replicas stopped: their own failure, or what stopped all."""
        failures = cast(Classifier, pl_module).failures
        for keeper in self.each(trainer, keepers):
            cause = failures.get(self.keepers.index(keeper), exception)
            for callback in keeper.callbacks:
                callback.on_exception(trainer, pl_module, cast(BaseException, cause))
            self.finish(keeper, "failed")

    def finish(self, keeper: Keeper, status: str) -> None:
        """Close a replica's event file and count it among those that run no longer."""
        for logger in self.loggers[keeper]:
            logger.finalize(status)
        self.running.remove(keeper)

    def continue_command(self) -> str:
        """Return what continues the replicas that are running."""
        first = continue_command(self.running[0].folder)
        if len(self.running) == len(self.keepers):
            # The configuration of the first names its own folder.
            name = f" --name {shlex.quote(self.name)}" if "{seed}" in self.name else ""
            return f"{first} --model.replicas {len(self.keepers)}{name}"
        others = ", ".join(str(keeper.folder) for keeper in self.running[1:])
        return f"{first}" + (f" (and likewise {others})" if others else "")

    def test(self, trainer: Trainer, keeper: Keeper) -> None:
        """Test the best checkpoint of one replica, as ``fit`` tests that of a run of its own."""
        for _ in self.each(trainer, [keeper]):
            trainer.test(
                self.alone[keeper],
                trainer.datamodule,  # type: ignore[attr-defined]
                ckpt_path=keeper.best.best_model_path,
                weights_only=True,
                verbose=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """The states of each keeper's callbacks, which :func:`split` takes apart."""
        return {"states": [keeper.states() for keeper in self.keepers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the states that :func:`join` brought together."""
        for keeper, states in zip(self.keepers, state_dict["states"], strict=True):
            keeper.load_states(states)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save nothing but the replica whose turn it is, and its own configuration."""
        if self.current is not None:
            split(checkpoint, self.keepers.index(self.current), self.state_key)
            checkpoint[checkpoints.CONFIG_KEY] = self.current.record.config


def epoch_line(rows: list[dict[str, str]]) -> str:
    """Format the rows of an epoch for the terminal: means and standard deviations."""

    def figure(name: str, form: str = ".4f", scale: float = 1.0) -> str:
        values = [scale * float(row[name]) for row in rows]
        spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
        return f"{statistics.mean(values):{form}}{spread}"

    def share(name: str) -> str:
        return f"{figure(name, '.2f', 100)}%"

    parts = [f"epoch {int(rows[0]['epoch']):3d}"]
    for stage in ("train", "val", "test"):
        if f"{stage}/acc" in rows[0]:
            parts.append(f"{stage} loss {figure(f'{stage}/loss')} acc {share(f'{stage}/acc')}")
        if f"{stage}/acc_negative" in rows[0]:
            parts.append(f"negatives {share(f'{stage}/acc_negative')}")
    seconds = sum(float(row["seconds"]) for row in rows)
    return "  ".join([*parts, f"{len(rows)} replicas", f"{seconds:.1f} s"])


def is_parameter(name: str) -> bool:
    """Whether a name of a state dict is that of a parameter; buffers are shared by all replicas."""
    return name.endswith((".weight", ".bias"))


def is_stacked_state(value: Any) -> bool:
    """Whether an entry of an optimiser's state has a part for each replica; counters have none."""
    return isinstance(value, Tensor) and value.dim() > 0


def split(checkpoint: dict[str, Any], replica: int, key: str) -> None:
    """Turn a checkpoint of all replicas into one replica's, in place; nothing is shared with it.

    Args:
        checkpoint: Lightning's checkpoint dictionary.
        replica: its number.
        key: where the states of all keepers' callbacks are.
    """
    weights = checkpoint["state_dict"]
    checkpoint["state_dict"] = {
        name: value[replica].clone() if is_parameter(name) else value
        for name, value in weights.items()
    }
    optimizer = checkpoint["optimizer_states"][0]
    optimizer["state"] = {
        number: {
            name: value[replica].clone() if is_stacked_state(value) else value
            for name, value in state.items()
        }
        for number, state in optimizer["state"].items()
    }
    checkpoint["callbacks"] = checkpoint["callbacks"][key]["states"][replica]


def join(several: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return the checkpoint of all replicas, of those that :func:`split` made at one step."""
    first = several[0]
    weights = {
        name: torch.stack([each["state_dict"][name] for each in several])
        if is_parameter(name)
        else value
        for name, value in first["state_dict"].items()
    }
    optimizers = [each["optimizer_states"][0]["state"] for each in several]
    state = {
        number: {
            name: torch.stack([own[number][name] for own in optimizers])
            if is_stacked_state(value)
            else value
            for name, value in own_state.items()
        }
        for number, own_state in optimizers[0].items()
    }
    return first | {
        "state_dict": weights,
        "optimizer_states": [first["optimizer_states"][0] | {"state": state}],
        "callbacks": {key: {"states": [each["callbacks"] for each in several]}},
    }


class JoiningCheckpointIO(checkpoints.DurableCheckpointIO):
    """Reads the checkpoints of several replicas as one.

    Attributes:
        together: the files; loading the first one gives them all.
        key: where the states of all keepers' callbacks go.
    """

    def __init__(self, key: str) -> None:
        self.together: list[str] = []
        self.key = key

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load all that belong together, or one for its test, without the states of callbacks."""
        if str(path) in self.together[:1]:
            return join([checkpoints.load(each) for each in self.together], self.key)
        return checkpoints.load(path) | {"callbacks": {}}
