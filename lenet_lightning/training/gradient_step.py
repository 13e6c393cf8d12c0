"""Gradients of a training batch: by one call in C on the CPU, a CUDA graph, or autograd."""

from collections.abc import Callable
from typing import cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lenet_lightning.networks import fused
from lenet_lightning.networks.lenet5 import LeNet5, Standardize
from lenet_lightning.training.accumulation import MeanGradient
from lenet_lightning.training.cuda_graph import BatchLoss, GraphedLoss
from lenet_lightning.training.losses import Loss, Objective, kernels

# With more images the cost of calls vanishes, and layer by layer less memory is in use at a time.
MOST_IMAGES = 512


def takes(network: nn.Module, loss: Loss) -> bool:
    """Whether :class:`DirectLoss` supports a network, its options and parameters, and a loss."""
    if loss != "cross_entropy" or not isinstance(network, LeNet5):
        return False
    return (
        network.fused
        and not network.dropout.p
        and all(p.dtype == torch.float32 and p.is_contiguous() for p in network.parameters())
    )


def gradient_of(parameter: Tensor) -> Tensor:
    """Return a parameter's gradient, whatever it holds, to write to."""
    gradient = parameter.grad
    if gradient is None or not gradient.is_contiguous():
        gradient = parameter.grad = torch.empty_like(parameter)
    return gradient


class DirectLoss:
    """Computes cross-entropy, penalty and all gradients of a network that `takes` accepts.

    Args:
        network: on the CPU.
        objective: of which the loss is cross-entropy.
    """

    def __init__(self, network: LeNet5, objective: Objective) -> None:
        self.passes = 2 if network.invariance == "averaged" else 1
        scaling = network.standardize
        self.options = fused.GradientOptions(
            label_smoothing=objective.label_smoothing,
            temperature=objective.temperature,
            passes=self.passes,
            l1=objective.penalty.l1,
            l2=objective.penalty.l2,
            activations=network.activations,
            standardization=(
                (scaling.scale, scaling.shift) if isinstance(scaling, Standardize) else None
            ),
        )
        layers = network.conv1, network.conv2, network.dense1, network.dense2, network.output
        self.parameters = [p for layer in layers for p in (layer.weight, layer.bias)]

    def __call__(
        self, images: Tensor, target: Tensor, scale: float
    ) -> tuple[Tensor, Tensor] | None:
        """Replace the gradients by those of ``scale`` times the loss, and of the penalty.

        No hooks of layers and parameters are called.

        Args:
            images: float32 ``[batch, channels, 32, 32]``.
            target: as the target of ``losses.class_loss``.
            scale: a factor.

        Returns:
            Loss and penalty summed over the batch, a scalar, and the logits. None, and nothing is
            done, where autograd should do it: in large batches, for frozen parameters, with anomaly
            detection, and for images that the kernel cannot take.
        """
        if (
            self.passes * len(images) > MOST_IMAGES
            or torch.is_anomaly_enabled()
            or not all(p is None or p.requires_grad for p in self.parameters)
            or not fused.supports(images, cast(Tensor, self.parameters[0]))
        ):
            return None
        gradients = [None if p is None else gradient_of(p) for p in self.parameters]
        if self.passes == 2:
            images = torch.cat([images, 1 - images])
        return fused.lenet5_gradients(
            images, self.parameters, target, gradients, scale, self.options
        )


class GradientStep:
    """Sets the gradients of a network's parameters for one training batch.

    Chooses the fastest way that gives the same gradients as autograd: :class:`DirectLoss` or
    :class:`cuda_graph.GraphedLoss` where they apply, else autograd.

    Args:
        network: maps images to logits; in the place in memory in which it trains.
        objective: what is minimised.
        trainer: its precision and number of devices rule out the faster ways.
        cuda_graph: use a CUDA graph if possible.
        backward: backpropagates a loss where Lightning has something to add.
        tell: is told in one sentence why no CUDA graph is used, if one was requested.

    Attributes:
        direct: the single call in C, None where it does not apply.
        loss: the loss of a batch, a CUDA graph where one is requested and possible.
        mean: of the gradients that ``trainer.accumulate_grad_batches`` accumulates.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        trainer: Trainer,
        cuda_graph: bool,
        backward: Callable[[Tensor], None],
        tell: Callable[[str], None],
    ) -> None:
        self.network, self.objective, self.mean = network, objective, MeanGradient(network)
        self.kernels = kernels(network)
        self.loss: BatchLoss | GraphedLoss = BatchLoss(network, objective)
        single = trainer.world_size == 1 and trainer.precision == "32-true"
        # Past Lightning's hooks where they have nothing to do.
        self.backward = torch.Tensor.backward if single else backward
        device = self.kernels[0].device
        self.direct: DirectLoss | None = None
        if single and device.type == "cpu" and takes(network, objective.loss):
            self.direct = DirectLoss(cast(LeNet5, network), objective)

        def refuse(reason: str) -> None:
            tell(f"model.cuda_graph: kernels are launched one by one, since {reason}.")

        if cuda_graph and (reason := why_no_graph(trainer, device, network)):
            refuse(reason)
        elif cuda_graph:
            self.loss = GraphedLoss(network, objective, refuse)

    def __call__(self, images: Tensor, target: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Replace the gradients by those of ``scale`` times the loss, and of the penalty.

        Args:
            images: float32 ``[batch, channels, 32, 32]``.
            target: as for ``losses.class_loss``.
            scale: a factor of the loss, not of the penalty.

        Returns:
            Loss and penalty summed over the batch, a scalar, and the logits
            ``[batch, classes]``; neither carries a gradient.
        """
        if self.direct and (done := self.direct(images, target, scale)):
            return done
        self.network.zero_grad()
        loss, logits = self.loss(images, target)
        self.backward(loss * scale)
        penalty = self.objective.penalty
        loss = penalty.add_to(loss.detach(), len(images), self.kernels)
        if penalty:
            penalty.add_gradients(self.kernels)
        return loss, logits


def why_no_graph(trainer: Trainer, device: torch.device, network: nn.Module) -> str | None:
    """Return what in the configuration rules out a CUDA graph, as a clause; None if nothing."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if not isinstance(network, LeNet5):
        return "the network is not LeNet-5"
    if network.dropout.p:
        return "dropout is drawn anew in every step"
    if trainer.world_size > 1:
        return "several devices train"
    return None if trainer.precision == "32-true" else f"trainer.precision is {trainer.precision}"
