"""Gradient accumulation: one optimizer step for the mean gradient of several batches."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn


class MeanGradient:
    """The mean gradient of several batches, as if their images were one batch.

    Args:
        network: whose gradients are averaged.

    Attributes:
        batches: how many have been added.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.clear()

    def clear(self) -> None:
        """Forget the batches."""
        self.batches = self.images = 0
        self.earlier: list[Tensor] = []

    def add(self, images: int) -> None:
        """Average the network's gradients, of a batch of ``images``, with those added before."""
        self.batches, self.images = self.batches + 1, self.images + images
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        for gradient, earlier in zip(gradients, self.earlier, strict=False):  # none at first
            gradient.lerp_(earlier, 1 - images / self.images)
        self.earlier = [gradient.clone() for gradient in gradients]


class AccumulationSchedule(GradientAccumulationScheduler):
    """Lightning's, for a training step that itself follows ``trainer.accumulate_grad_batches``."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Allow manual optimization, which Lightning's refuses."""


def accumulation_schedule(_: type, *args: Any, **kwargs: Any) -> AccumulationSchedule:
    """Build an :class:`AccumulationSchedule` in place of the class that is named."""
    return AccumulationSchedule(*args, **kwargs)


def batches_per_step(trainer: Any) -> int:
    """Return how many batches an optimizer step takes; 0 if that changes while training.

    Args:
        trainer: a Trainer, or the options of one.
    """
    for callback in trainer.callbacks or []:
        path = getattr(callback, "class_path", "")  # of an option
        name = GradientAccumulationScheduler.__name__
        if isinstance(callback, GradientAccumulationScheduler) or path.endswith(name):
            return 0
    return int(trainer.accumulate_grad_batches)
