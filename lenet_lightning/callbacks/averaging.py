"""The average of weights at which a learning rate that falls again and again comes to rest."""

from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lenet_lightning.data.batches import TrainBatches
from lenet_lightning.schedulers import LinearCycles


class CycleAveraging(WeightAveraging):
    """Averages the weights of the ends of ``schedulers.LinearCycles`` (Izmailov et al. 2018).

    The average does nearly what the ensemble of these networks does, at the price of one of them
    ("Averaging weights leads to wider optima and better generalization"). It is what is validated,
    saved and tested. Until the first descent ends it is the network itself, and then stays as it
    is from the end of one descent to the end of the next.
    """

    def __init__(self) -> None:
        super().__init__(avg_fn=self.average)
        self.ended = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learn when descents end."""
        self.cycles = cast(LinearCycles, trainer.lr_scheduler_configs[0].scheduler)
        self.steps = cast(TrainBatches, trainer.train_dataloader).steps

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the last step before the validation of an epoch changes the average."""
        if step_idx is None:
            return False
        epochs, rest = divmod(step_idx + 1, self.steps)
        self.ended = self.cycles.ended(epochs)
        return not rest and (self.ended < 1 or self.ended > self.cycles.ended(epochs - 1))

    def average(self, average: Tensor, weights: Tensor, _: Any) -> Tensor:
        """Return the average with the newest of as many weights as descents have ended."""
        return average + (weights - average) / max(1, self.ended)
