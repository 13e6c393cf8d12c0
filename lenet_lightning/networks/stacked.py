"""Several LeNet-5s, the replicas, as one program: every parameter has a leading dimension for them.

A call costs as much for one small network as for eight, so that together they take less time than
one after another wherever calls cost more than arithmetic. What is computed for a replica is what
it would compute on its own: on the CPU one call of the fused kernel for all, elsewhere a grouped
convolution, and one batched matrix product for each dense layer. The dense layers hold features
first, ``[replicas, features, batch]``, with which both the product and the gradient of its weights
need no copy.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lenet_lightning.networks import fused
from lenet_lightning.networks.lenet5 import (
    ACTIVATIONS,
    ConvActivation,
    LeNet5,
    fused_stage,
    pool_and_activate,
)


def stack(parameters: Sequence[Tensor]) -> nn.Parameter:
    """Stack parameters of equal shape; see :func:`is_stacked`."""
    stacked = nn.Parameter(torch.stack([p.detach() for p in parameters]))
    stacked.stacked = True  # type: ignore[attr-defined]
    return stacked


def is_stacked(parameter: Tensor) -> bool:
    """Whether a parameter's first dimension counts replicas, as :func:`stack` makes it."""
    return getattr(parameter, "stacked", False)


class StackedLayer(nn.Module):
    """The weights ``[replicas, out, in, ...]`` and biases ``[replicas, out]`` of one layer.

    Args:
        layers: the same convolution or dense layer of every network.
    """

    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Conv2d | nn.Linear]) -> None:
        super().__init__()
        self.weight = stack([layer.weight for layer in layers])
        biases = [layer.bias for layer in layers if layer.bias is not None]
        self.bias = stack(biases) if biases else None

    def convolve(self, x: Tensor) -> Tensor:
        """Map ``[batch, replicas, in, height, width]`` to ``[batch, replicas * out, ...]``."""
        x, weight = x.flatten(1, 2), self.weight.flatten(0, 1)
        bias = None if self.bias is None else self.bias.flatten()
        if x.device.type == "cpu":  # half the time there
            x = x.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, bias, groups=len(self.weight))

    def multiply(self, x: Tensor) -> Tensor:
        """Map ``[replicas, in, batch]`` to ``[replicas, out, batch]``."""
        return torch.baddbmm(cast(Tensor, self.bias).unsqueeze(2), self.weight, x)


class StackedLeNet5(nn.Module):
    """LeNet-5s of the same options as one module.

    Parameters have the names of ``LeNet5``'s and are copies of the networks'. Buffers are shared.

    Args:
        networks: one for each replica, alike but for their weights.
    """

    def __init__(self, networks: Sequence[LeNet5]) -> None:
        super().__init__()
        first = networks[0]
        self.standardize = first.standardize
        self.conv1 = StackedLayer([network.conv1 for network in networks])
        self.conv2 = StackedLayer([network.conv2 for network in networks])
        self.dense1 = StackedLayer([network.dense1 for network in networks])
        self.dense2 = StackedLayer([network.dense2 for network in networks])
        self.output = StackedLayer([network.output for network in networks])
        self.replicas = len(networks)
        self.dropout = first.dropout.p
        self.activations = first.activations
        self.polarity = first.polarity
        self.fused = first.fused
        self.widths = first.dense1.out_features, first.dense2.out_features
        # In a tuple it is no submodule: its weights are not this network's.
        self.alone = (copy.deepcopy(first).eval(),)

    def forward(self, x: Tensor, seeds: Sequence[int] = ()) -> Tensor:
        """Map images of each replica to its logits ``[batch, replicas, classes]``.

        Args:
            x: float32 ``[batch, replicas, channels, 32, 32]`` in [0, 1].
            seeds: of dropout, one for each replica: it drops what a network of its own drops after
                ``torch.manual_seed``. Nothing is dropped without seeds.
        """
        masks = self.masks(seeds, len(x), x.device)
        if self.polarity == "averaged":
            return (self.logits(x, masks) + self.logits(1 - x, masks)) / 2
        return self.logits(x, masks)

    def masks(self, seeds: Sequence[int], batch: int, device: torch.device) -> Iterator[Tensor]:
        """Yield what the hidden units ``[replicas, features, batch]`` of each layer are scaled by.

        A replica's are drawn in the order in which its own network would draw them.
        """
        if not (seeds and self.dropout):
            return iter(())
        passes = 2 if self.polarity == "averaged" else 1
        drawn = []
        for seed in seeds:
            torch.manual_seed(seed)
            ones = [torch.ones(batch, width, device=device) for width in self.widths * passes]
            drawn.append([F.dropout(x, self.dropout).mT for x in ones])
        return map(torch.stack, zip(*drawn, strict=True))

    def logits(self, x: Tensor, masks: Iterator[Tensor]) -> Tensor:
        """Logits ``[batch, replicas, classes]`` of one pass over the layers."""
        act = ACTIVATIONS[self.activations[2]]
        x = self.stage(self.standardize(x), self.conv1, self.activations[0])
        x = self.stage(x, self.conv2, self.activations[1])
        x = x.permute(1, 2, 3, 4, 0).flatten(1, 3)
        for dense in (self.dense1, self.dense2):
            x = act(dense.multiply(x))
            mask = next(masks, None)
            x = x if mask is None else x * mask
        return self.output.multiply(x).permute(2, 0, 1)

    def stage(self, x: Tensor, conv: StackedLayer, activation: ConvActivation) -> Tensor:
        """Convolution, 2x2 max pooling and activation, as in ``LeNet5``."""
        if self.fused and fused.supports(x, conv.weight):
            return fused_stage(x, conv.weight, conv.bias, activation)
        maps = pool_and_activate(conv.convolve(x), activation)
        return maps.unflatten(1, (self.replicas, -1))

    def shared(self, images: Tensor) -> Tensor:
        """Map images that all replicas see to logits, nothing dropped.

        Large batches gain nothing from one program, so that each replica has its turn.

        Args:
            images: float32 ``[batch, channels, 32, 32]``.

        Returns:
            ``[batch, replicas, classes]``.
        """
        weights = map(self.replica, range(self.replicas))
        return torch.stack([functional_call(self.alone[0], each, images) for each in weights], 1)

    def replica(self, number: int) -> dict[str, Tensor]:
        """Return the state dict of one replica, which a ``LeNet5`` loads; it shares the memory."""
        weights = {name: p.detach()[number] for name, p in self.named_parameters()}
        return weights | dict(self.named_buffers())
