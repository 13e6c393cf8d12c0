"""A training batch's gradients on the CPU in one call, in place of autograd's eighty."""

from typing import cast

import torch
from torch import Tensor, nn

from lenet_lightning.networks import fused
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training.losses import Loss, Penalty

# Of more images calls cost nothing, and layer by layer less memory is in use at a time.
MOST_IMAGES = 512


def takes(network: nn.Module, loss: Loss) -> bool:
    """Whether :class:`DirectLoss` knows a network, its options and parameters, and a loss."""
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
        penalty: on its kernels.
        label_smoothing: as for ``losses.class_loss``.
        temperature: likewise.
    """

    def __init__(
        self,
        network: LeNet5,
        penalty: Penalty,
        label_smoothing: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        self.network = network
        self.passes = 2 if network.polarity == "averaged" else 1
        penalties = penalty.l1, penalty.l2
        self.options = label_smoothing, temperature, self.passes, *penalties, network.activations
        layers = network.conv1, network.conv2, network.dense1, network.dense2, network.output
        self.parameters = [p for layer in layers for p in (layer.weight, layer.bias)]

    def __call__(
        self, images: Tensor, wanted: Tensor, scale: float
    ) -> tuple[Tensor, Tensor] | None:
        """Replace the gradients by those of ``scale`` times the loss, and of the penalty.

        No hooks of layers and parameters are called.

        Args:
            images: float32 ``[batch, channels, 32, 32]``.
            wanted: as the target of ``losses.class_loss``.
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
        images = self.network.standardize(images)
        return fused.lenet5_gradients(
            images, self.parameters, wanted, gradients, scale, *self.options
        )
