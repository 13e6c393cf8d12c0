"""LeNet-5 as published: average pooling that is trained, scaled tanh, a partially connected C3.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86 (11), 1998, section II.B.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Table I of the paper: the maps of S2 from which each of the 16 maps of C3 is computed.
C3_INPUTS = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)),
    tuple(range(6)),
)


def squash(x: Tensor) -> Tensor:
    """The paper's activation, ``1.7159 tanh(2/3 x)``: 1 at 1 and -1 at -1."""
    return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """The sum over 2x2 pixels, times a trained coefficient, plus a trained bias; per map.

    Args:
        maps: number of maps.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((maps, 1, 1), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, maps, height, width]`` to half the height and width."""
        return 4 * F.avg_pool2d(x, 2) * self.weight + self.bias


class PartialConv2d(nn.Conv2d):
    """A convolution whose output maps are each connected to some of the input maps.

    Args:
        inputs: for each output map, the input maps to which it is connected.
        in_channels: number of input maps.
        kernel_size: side of the kernel.
    """

    connected: Tensor

    def __init__(
        self, inputs: tuple[tuple[int, ...], ...], in_channels: int, kernel_size: int
    ) -> None:
        super().__init__(in_channels, len(inputs), kernel_size)
        connected = torch.zeros(len(inputs), in_channels, 1, 1)
        for row, seen in zip(connected, inputs, strict=True):
            row[list(seen)] = 1
        self.register_buffer("connected", connected)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, in_channels, height, width]`` to ``[batch, len(inputs), ...]``."""
        return F.conv2d(x, self.weight * self.connected, self.bias)


class OriginalLeNet5(nn.Module):
    """LeNet-5 of 1998: C1, S2, C3, S4, C5 and F6 of the paper, then a dense output layer.

    The paper compares F6 with one fixed 7x12 bitmap a class; the output is a dense layer here, so
    that the loss can be cross-entropy. On one channel the other layers have the paper's 60,000
    trained parameters; the output layer adds 850 for ten classes. The paper scales its input
    nearly as ``model.scaling`` ``standardized`` does.

    Args:
        in_channels: 1 or 3 (any positive number works).
        num_classes: length of the output.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, 6, 5)
        self.s2 = Subsampling(6)
        self.c3 = PartialConv2d(C3_INPUTS, 6, 5)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw weights uniformly from +-2.4 / fan-in, as the paper; biases are 0."""
        seen = torch.tensor([float(len(inputs)) for inputs in C3_INPUTS]).view(-1, 1, 1, 1)
        for layer in (self.c1, self.c3, self.c5, self.f6, self.output):
            fan_in = layer.weight[0].numel() if layer is not self.c3 else seen * 25
            layer.weight.uniform_(-1, 1).mul_(2.4 / fan_in)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.c3.weight *= self.c3.connected

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[batch, in_channels, 32, 32]`` to logits ``[batch, num_classes]``."""
        x = squash(self.s2(squash(self.c1(x))))
        x = squash(self.s4(squash(self.c3(x))))
        x = squash(self.f6(squash(self.c5(x)).flatten(1)))
        return self.output(x)
