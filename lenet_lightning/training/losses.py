"""Losses on class targets and penalties on kernels, with Keras's meaning."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Literal["cross_entropy", "bce", "mse", "l1"]


def class_loss(
    logits: Tensor,
    target: Tensor,
    loss: Loss,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    """Return the sum over the batch of each sample's loss, a scalar.

    Every loss compares the softmax of the logits with the target, as a Keras network with a softmax
    output does; ``bce``, ``mse`` and ``l1`` average over the classes.

    Args:
        logits: ``[batch, classes]``.
        target: labels, int64 ``[batch]``; or the probability of each class, float
            ``[batch, classes]``.
        loss: ``cross_entropy``; ``bce`` (binary cross-entropy of each class's probability);
            ``mse``; ``l1`` (mean absolute error).
        label_smoothing: share of the target spread evenly over the classes, in [0, 1).
        temperature: divides the logits; the loss is multiplied by its square, which leaves
            gradients their size (Hinton et al. 2015).
    """
    if temperature != 1:
        softened = class_loss(logits / temperature, target, loss, label_smoothing)
        return softened * temperature**2
    if loss == "cross_entropy":
        return F.cross_entropy(logits, target, reduction="sum", label_smoothing=label_smoothing)
    classes = logits.shape[-1]
    if not target.is_floating_point():
        target = F.one_hot(target, classes).to(logits.dtype)
    target = target * (1 - label_smoothing) + label_smoothing / classes
    if loss == "bce":
        # p is kept just below 1, as Keras keeps it, so that log(1 - p) is finite.
        log_p = F.log_softmax(logits, -1)
        log_not_p = torch.log1p(-log_p.exp().clamp(max=1 - torch.finfo(log_p.dtype).eps))
        per_class = -(target * log_p + (1 - target) * log_not_p)
    elif loss == "mse":
        per_class = (logits.softmax(-1) - target).square()
    else:
        per_class = (logits.softmax(-1) - target).abs()
    return per_class.mean(-1).sum()


def kernels(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights that Keras's ``kernel_regularizer`` acts on: no biases."""
    layers = (m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return [cast(nn.Parameter, layer.weight) for layer in layers]


def norms(weights: Iterable[Tensor], order: int) -> Tensor:
    """Return each weight's norm, ``[weights]``."""
    return torch.stack([torch.linalg.vector_norm(w, order) for w in weights])


@dataclass(frozen=True)
class Penalty:
    """L1 and L2 penalties: ``l1 * sum(|w|) + l2 * sum(w ** 2)`` over kernels (Keras ``L1L2``).

    Their gradients are added to ``.grad`` after the backward pass, which costs less than building
    them into the graph and gives the same gradient for any optimiser, before any clipping.

    Args:
        l1: coefficient of the absolute values, >= 0.
        l2: coefficient of the squares, >= 0; its gradient is ``2 * l2 * w``.
    """

    l1: float = 0.0
    l2: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.l1 or self.l2)

    @torch.no_grad()
    def value(self, weights: list[nn.Parameter]) -> Tensor:
        """Return the penalty, a scalar on the weights' device."""
        penalty = self.l2 * norms(weights, 2).square().sum()
        return penalty + self.l1 * norms(weights, 1).sum() if self.l1 else penalty

    def add_to(self, loss: Tensor, count: int, weights: list[nn.Parameter]) -> Tensor:
        """Return a loss summed over ``count`` images, with the penalty of each, as in Keras."""
        return loss + count * self.value(weights) if self else loss

    @torch.no_grad()
    def add_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Add the penalty's gradient to each weight's ``.grad``; absent gradients stay absent."""
        for weight in weights:
            if weight.grad is None:
                continue
            if self.l2:
                weight.grad.add_(weight, alpha=2 * self.l2)
            if self.l1:
                weight.grad.add_(weight.sign(), alpha=self.l1)


@dataclass(frozen=True)
class Objective:
    """What training minimises: :func:`class_loss` with its options, and a penalty on kernels."""

    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.0
    penalty: Penalty = Penalty()
    temperature: float = 1.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum over the batch of each sample's loss, without the penalty."""
        return class_loss(logits, target, self.loss, self.label_smoothing, self.temperature)
