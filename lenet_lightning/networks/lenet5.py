"""LeNet-5 as the report builds it (LeCun et al. 1998 with max pooling and ReLU)."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lenet_lightning.networks import fused
from lenet_lightning.networks.initializers import Initializer, initialize

Activation = Literal["relu", "leaky_relu", "elu", "tanh", "silu"]
Kernel = Literal["auto", "fused", "torch"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "tanh": torch.tanh,
    "silu": F.silu,
}


class Standardize(nn.Module):
    """``(x - mean) / std`` per channel, on ``[batch, channels, height, width]``."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        scale = 1 / torch.tensor(std).view(-1, 1, 1)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", -torch.tensor(mean).view(-1, 1, 1) * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised images, same shape and dtype."""
        return torch.addcmul(self.shift, x, self.scale)


class LeNet5(nn.Module):
    """Two stages of 5x5 convolution, 2x2 max pooling and activation, then three dense layers.

    Layout: conv 6, conv 16, dense 120, 84, ``num_classes``; 61,706 parameters on one channel and
    62,006 on three, with ten classes. Pooling comes before the activation: for an increasing
    activation (all but SiLU) the two orders give the same result, and this one is cheaper.

    Args:
        in_channels: 1 or 3 (any positive number works).
        num_classes: length of the output.
        activation: hidden activation; the output is linear (the loss applies softmax).
        initializer: kernels' initialiser, see ``initializers``.
        dropout: probability of dropping a unit of the 120 and 84 layers while training, in [0, 1).
        mean: per-channel mean subtracted from the input, in input units.
        std: per-channel standard deviation by which the input is divided.
        kernel: ``"fused"`` takes the CPU's fused convolution and pooling, ``"torch"`` torch's own
            operators, ``"auto"`` the fused one where it is available and applies.

    Raises:
        RuntimeError: ``kernel="fused"`` where the fused kernel is unavailable.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        activation: Activation = "relu",
        initializer: Initializer = "he_normal",
        dropout: float = 0.0,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        kernel: Kernel = "torch",
    ) -> None:
        super().__init__()
        self.standardize = Standardize(mean, std) if mean else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.dense1 = nn.Linear(16 * 5 * 5, 120)
        self.dense2 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation
        self.kernel = kernel
        if kernel == "fused" and (reason := fused.unavailable()):
            raise RuntimeError(reason)
        self.fused = kernel != "torch" and fused.unavailable() is None
        initialize(self, initializer)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 images ``[batch, in_channels, 32, 32]`` to logits ``[batch, num_classes]``.

        Pixel values are in [0, 1]: 0 is black, 1 is white.
        """
        act = ACTIVATIONS[self.activation]
        x = self.standardize(x)
        x = self.stage(x, self.conv1)
        x = self.stage(x, self.conv2)
        x = self.dropout(act(self.dense1(x.flatten(1))))
        x = self.dropout(act(self.dense2(x)))
        return self.output(x)

    def stage(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """Convolution, 2x2 max pooling, activation."""
        if self.fused and fused.supports(x, conv.weight):
            relu = self.activation == "relu"
            x = fused.conv_pool(x, conv.weight, conv.bias, relu)
            return x if relu else ACTIVATIONS[self.activation](x)
        return ACTIVATIONS[self.activation](F.max_pool2d(conv(x), 2))
