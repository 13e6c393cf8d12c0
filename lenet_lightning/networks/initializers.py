"""Weight initialisers with Keras's exact semantics.

Source: Keras documentation, "Layer weight initializers" (``VarianceScaling``): ``HeNormal`` and
``GlorotNormal`` draw from a normal distribution truncated at two standard deviations, whose
variance *after* truncation is the stated one. ``torch.nn.init.kaiming_normal_`` and
``xavier_normal_`` do not truncate.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Initializer = Literal["he_normal", "glorot_normal", "ones", "default"]

# Standard deviation of a unit normal distribution truncated to [-2, 2].
TRUNCATED_STD = 0.87962566103423978


def truncated_normal_(weight: Tensor, variance: float) -> Tensor:
    """Fill ``weight`` in place from a normal truncated at two sigmas, with the given variance.

    Args:
        weight: any float tensor.
        variance: the variance after truncation, > 0.
    """
    sigma = variance**0.5 / TRUNCATED_STD
    return nn.init.trunc_normal_(weight, std=sigma, a=-2 * sigma, b=2 * sigma)


def he_normal_(weight: Tensor) -> Tensor:
    """Truncated normal of variance ``2 / fan_in`` (He et al. 2015, as in Keras ``HeNormal``)."""
    fan_in, _ = fans(weight)
    return truncated_normal_(weight, 2 / fan_in)


def glorot_normal_(weight: Tensor) -> Tensor:
    """Truncated normal of variance ``2 / (fan_in + fan_out)`` (Glorot & Bengio 2010)."""
    return truncated_normal_(weight, 2 / sum(fans(weight)))


def fans(weight: Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a ``[out, in, *kernel]`` weight, the kernel's area included."""
    area = weight[0, 0].numel()
    return weight.shape[1] * area, weight.shape[0] * area


KERNEL_INITIALIZERS = {
    "he_normal": he_normal_,
    "glorot_normal": glorot_normal_,
    "ones": nn.init.ones_,
}


@torch.no_grad()
def initialize(module: nn.Module, initializer: Initializer) -> None:
    """Initialise every convolution and dense layer of ``module`` in place.

    Kernels follow ``initializer``; biases are 0, as in Keras. ``"default"`` keeps torch's own
    initialisation (Kaiming uniform with a = sqrt(5), biases uniform).
    """
    if initializer == "default":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            KERNEL_INITIALIZERS[initializer](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
