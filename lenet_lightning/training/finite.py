"""Stops a training whose loss or weights are infinite or not a number."""

import torch
from torch import Tensor, nn

from lenet_lightning.errors import NonFiniteError


def check_finite(
    losses: Tensor,
    network: nn.Module,
    val_loss: Tensor | None,
    steps: list[int],
    epoch: int,
    learning_rate: float,
) -> None:
    """Raise if a loss of an epoch or a weight is not finite, so that none is saved.

    Args:
        losses: training loss of each batch of the epoch, ``[batches]``.
        network: whose parameters are checked.
        val_loss: the epoch's validation loss, a scalar; None without validation.
        steps: the optimizer step of each batch.
        epoch: named in the error, there counted from 1.
        learning_rate: likewise.

    Raises:
        NonFiniteError: naming the step, the epoch, the learning rate and what to try.
    """
    bad = (~losses.isfinite()).nonzero()
    finite = torch.cat([p.detach().flatten() for p in network.parameters()]).isfinite()
    if not len(bad) and (val_loss is None or val_loss.isfinite()) and finite.all():
        return
    what = "loss is" if len(bad) or finite.all() else "weights are"
    step = steps[int(bad[0]) if len(bad) else -1]
    raise NonFiniteError(
        f"The {what} no longer finite at step {step} (epoch {epoch + 1}, learning rate "
        f"{learning_rate:g}): most likely the learning rate is too high; try a tenth of it, or "
        "trainer.gradient_clip_val 1."
    )
