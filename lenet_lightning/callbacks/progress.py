"""One progress bar for the whole command."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from lenet_lightning.training.accumulation import batches_per_step


class StepBar(ProgressBar):
    """A tqdm bar that counts optimizer steps over all epochs; epochs print above it.

    It is redrawn at most ten times a second and hides where standard error is not a terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True
        self.bar: tqdm[Any] | None = None

    def disable(self) -> None:
        """Show nothing from now on."""
        self.is_enabled = False

    def enable(self) -> None:
        """Show the bar again."""
        self.is_enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the step where training stands."""
        steps, accumulated = trainer.max_steps, batches_per_step(trainer)
        if steps < 0 and trainer.max_epochs and trainer.max_epochs > 0 and accumulated:
            batches: int = trainer.train_dataloader.steps  # type: ignore[union-attr]
            steps = trainer.max_epochs * -(-batches // accumulated)
        self.bar = tqdm(
            total=steps if steps > 0 else None,
            initial=trainer.global_step,
            unit=" steps",
            leave=False,
            dynamic_ncols=True,
            disable=None if self.is_enabled else True,
        )

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Advance to the optimizer step reached."""
        if self.bar is not None:
            self.bar.update(trainer.global_step - self.bar.n)

    def on_train_end(self, *_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_exception(self, *_: Any) -> None:
        """Close the bar."""
        self.on_train_end()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line above the bar."""
        tqdm.write(" ".join(map(str, args)))
