"""LeNet-5 as the report builds it (LeCun et al. 1998 with max pooling and ReLU).

Two constructions of it cannot tell an image from its negative. With ``z = x - 0.5`` the negative
``1 - x`` becomes ``-z``, so a network ignores polarity exactly if it is an even function of z.

``absolute``
    conv1 without bias is odd in z, ``w * (-z) = -(w * z)``, and its absolute value is even:
    ``|w * (-z)| = |w * z|``. All that follows sees the same numbers for both polarities, to the
    rounding of ``1 - x``. It saves the six biases and costs one pass.
``averaged``
    The mean of a network's logits over both polarities, ``g(x) = (f(x) + f(1 - x)) / 2``, is even
    whatever f is, since ``1 - (1 - x) = x`` only swaps the summands (the group average or Reynolds
    operator of the group {x, 1 - x}). It costs two passes.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lenet_lightning.errors import UserError
from lenet_lightning.networks import fused
from lenet_lightning.networks.initializers import Initializer, initialize
from lenet_lightning.number_types import BelowOne

Activation = Literal["relu", "leaky_relu", "elu", "tanh", "silu"]
ConvActivation = Literal[Activation, "absolute"]
Kernel = Literal["auto", "fused", "torch"]
Invariance = Literal["none", "absolute", "averaged"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "tanh": torch.tanh,
    "silu": F.silu,
}


class Standardize(nn.Module):
    """``(x - mean) / std`` per channel, on ``[batch, channels, height, width]``.

    Args:
        mean: of each channel, in input units.
        std: standard deviation of each channel, > 0.

    Attributes:
        scale: ``1 / std``, a buffer ``[channels, 1, 1]``, saved with the weights.
        shift: ``-mean / std``, likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(len(mean), 1, 1))
        self.register_buffer("shift", torch.zeros(len(mean), 1, 1))
        self.set_statistics(mean, std)

    def set_statistics(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Replace mean and standard deviation, in place."""
        scale = 1 / torch.tensor(std, device=self.scale.device).view(-1, 1, 1)
        self.scale.copy_(scale)
        self.shift.copy_(-torch.tensor(mean, device=scale.device).view(-1, 1, 1) * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised images, same shape and dtype."""
        # Not addcmul, whose rounding depends on where a pixel lies in the batch.
        return x * self.scale + self.shift


class LeNet5(nn.Module):
    """Two stages of 5x5 convolution, 2x2 max pooling and activation, then three dense layers.

    Layout: conv 6, conv 16, dense 120, 84, ``num_classes``; 61,706 parameters on one channel and
    62,006 on three, with ten classes. Pooling comes before the activation: for an increasing
    activation (all but SiLU) the two orders give the same result, and this one is cheaper. The
    absolute value comes before pooling: of each window the largest magnitude is kept.

    Args:
        in_channels: 1 or 3 (any positive number works).
        num_classes: length of the output.
        activation: hidden activation; the output is linear (the loss applies softmax).
        conv_activation: activation of the convolutions, where it is another one: also
            ``absolute``, the absolute value. With invariance ``absolute``, conv2's only.
        initializer: initialiser of the kernels; ``default`` is torch's.
        dropout: probability of dropping a unit of the two hidden dense layers while training.
        invariance: ``none``, or a construction that gives the same logits for an image and its
            negative, the border included (``data.negate_border``, the default): ``absolute``
            (conv1 without bias, then the absolute value; needs ``model.scaling`` centered) or
            ``averaged`` (the mean of the logits of both polarities, at twice the cost).
        kernel: arithmetic on the CPU: ``fused`` (fast), ``torch``, or ``auto``: fused where
            available. With ``torch`` all hooks of layers and parameters are called.

    Attributes:
        standardize: is applied to the images first; the identity, unless invariance is
            ``absolute``, which subtracts 0.5.
        arguments: those after ``num_classes``, as given.

    Raises:
        UserError: ``kernel="fused"`` where the fused kernel is unavailable.
    """

    TRAINING_ONLY = ("initializer", "dropout", "kernel")
    """Arguments on which the output of a trained network does not depend, but for rounding."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        activation: Activation = "relu",
        conv_activation: ConvActivation | None = None,
        initializer: Initializer = "he_normal",
        dropout: BelowOne = 0.0,
        invariance: Invariance = "none",
        kernel: Kernel = "auto",
    ) -> None:
        given = dict(locals())
        super().__init__()
        names = list(inspect.signature(LeNet5).parameters)[2:]
        self.arguments: dict[str, Any] = {name: given[name] for name in names}
        absolute = invariance == "absolute"
        centre = (0.5,) * in_channels, (1.0,) * in_channels
        self.standardize = Standardize(*centre) if absolute else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, bias=not absolute)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.dense1 = nn.Linear(16 * 5 * 5, 120)
        self.dense2 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self.dropout = nn.Dropout(dropout)
        convolutions = conv_activation or activation
        first: ConvActivation = "absolute" if absolute else convolutions
        self.activations = first, convolutions, activation
        if unknown := {*self.activations} - ACTIVATIONS.keys() - {"absolute"}:
            raise ValueError(f"unknown activation {unknown.pop()}")
        self.kernel = kernel
        self.invariance = invariance
        if kernel == "fused" and (reason := fused.unavailable()):
            raise UserError(f"model.network.kernel is fused, but {reason} Use torch or auto.")
        self.fused = kernel != "torch" and fused.unavailable() is None
        initialize(self, initializer)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 images ``[batch, in_channels, 32, 32]`` to logits ``[batch, num_classes]``.

        Pixel values are in [0, 1]: 0 is black, 1 is white.
        """
        if self.invariance == "averaged":
            return (self.logits(x) + self.logits(1 - x)) / 2
        return self.logits(x)

    def logits(self, x: Tensor) -> Tensor:
        """Logits of one pass over the layers."""
        act = ACTIVATIONS[self.activations[2]]
        x = self.stage(self.first_stage(x), self.conv2, self.activations[1])
        x = self.dropout(act(self.dense1(x.flatten(1))))
        x = self.dropout(act(self.dense2(x)))
        return self.output(x)

    def first_stage(self, x: Tensor) -> Tensor:
        """The 6 maps ``[batch, 6, 14, 14]`` that conv1, its activation and pooling make of images.

        With invariance ``absolute`` they are the same for an image and its negative.
        """
        return self.stage(self.standardize(x), self.conv1, self.activations[0])

    def stage(self, x: Tensor, conv: nn.Conv2d, activation: ConvActivation) -> Tensor:
        """Convolution, 2x2 max pooling and activation, in the class's order."""
        if self.fused and fused.supports(x, conv.weight):
            if activation in ("relu", "absolute"):
                return fused.conv_pool(x, conv.weight, conv.bias, activation)
            pooled = fused.conv_pool(x, conv.weight, conv.bias)
        elif activation == "absolute":
            return F.max_pool2d(conv(x).abs(), 2)
        else:
            pooled = F.max_pool2d(conv(x), 2)
        return ACTIVATIONS[activation](pooled)
