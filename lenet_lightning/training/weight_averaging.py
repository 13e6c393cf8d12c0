"""Averages of weights: over cycles of the learning rate, and none before its first update."""

from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lenet_lightning.training.schedulers import LinearCycles


class FromFirstUpdate(WeightAveraging):
    """An average that takes the network's place from its first update on.

    Lightning's holds the untrained network until then, and validates and saves that.

    Attributes:
        started: it has been updated.
    """

    started = False

    @property
    def state_key(self) -> str:
        """Name of its state in a checkpoint: that of the class as the configuration names it."""
        return type(self).__name__

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin without an update, also if this object has averaged another training."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self.started = False

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Note whether the class proper updates the average now."""
        due = super().should_update(step_idx, epoch_idx)
        self.started = self.started or due
        return due

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place, if there is one."""
        if self.started:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the network back."""
        if self.started:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in place, if there is one."""
        if self.started:
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the network, if there is one."""
        if self.started:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """Keep whether it has started beside Lightning's own state."""
        return super().state_dict() | {"started": self.started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.started = state_dict.get("started", True)


def from_first_update(kind: type[WeightAveraging], *args: Any, **kwargs: Any) -> WeightAveraging:
    """Build an average of weights of any class, such that it is a :class:`FromFirstUpdate`."""
    if not issubclass(kind, FromFirstUpdate):
        name = kind.__name__
        # A local class: the parser looks for the classes that a configuration may name elsewhere.
        local = {"__qualname__": f"from_first_update.<locals>.{name}"}
        kind = type(name, (FromFirstUpdate, kind), local)
    return kind(*args, **kwargs)


class CycleAveraging(FromFirstUpdate):
    """Stochastic weight averaging (SWA) over the minima of ``schedulers.LinearCycles``.

    Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization": the
    mean of the weights at the end of each cycle is nearly as accurate as the ensemble of those
    networks, at the cost of one. The average is validated, saved and tested. Until the end of the
    first cycle it is the network itself; then it changes at the end of each cycle only.

    Attributes:
        ends: number of cycles that the mean is over.
        averages_epochs: it changes at the end of an epoch only, so several optimizer steps may run
            in one training step.
    """

    averages_epochs = True

    def __init__(self) -> None:
        super().__init__(avg_fn=self.average)
        self.ends = 0
        self.now = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Reset the number of cycles, also if this object has averaged another training."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self.ends = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the schedule, which tells when cycles end."""
        self.cycles = cast(LinearCycles, trainer.lr_scheduler_configs[0].scheduler)

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Change the average at the last batch of an epoch, before that is validated."""
        before, after = (self.cycles.ended(trainer.current_epoch + more) for more in (0, 1))
        last = trainer.is_last_batch or trainer.global_step == trainer.max_steps
        self.now = last and after > before
        self.ends += self.now
        super().on_train_batch_end(trainer, *args, **kwargs)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the step that has just been taken changes the average."""
        return self.now and super().should_update(step_idx, epoch_idx)

    def average(self, average: Tensor, weights: Tensor, _: Any) -> Tensor:
        """Return the running mean updated with the newest weights."""
        return torch.lerp(average, weights, 1 / self.ends)

    def state_dict(self) -> dict[str, Any]:
        """Keep the number of ends beside Lightning's own state."""
        return super().state_dict() | {"ends": self.ends}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.ends = state_dict["ends"]
