"""Adversarial attacks: test images altered within a distance so that a given network errs.

Written out, since no kept library fits: torchattacks 3.5 needs requests 2.25, older than the floor
in ``pyproject.toml``, and foolbox 3.3 needs GitPython and three packages more for these formulas.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lenet_lightning.data.batches import to_unit
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.robustness.draws import Draws

EPSILONS = (8, 16, 32)
"""Largest change of a pixel, in 1/255."""
IMAGES = 1000
"""At most so many test images are attacked, the first ones: each costs 100 times a prediction."""
STEPS = 10
BATCH = 500


def fgsm(network: nn.Module, images: Tensor, labels: Tensor, epsilon: float, _: Tensor) -> Tensor:
    """Return images moved along the sign of the gradient.

    The fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572).

    Args:
        network: maps images to logits.
        images: float32 ``[batch, channels, 32, 32]`` in [0, 1].
        labels: int64 ``[batch]``.
        epsilon: how far each pixel moves.
    """
    return (images + epsilon * gradient(network, images, labels).sign()).clamp(0, 1)


def pgd(
    network: nn.Module, images: Tensor, labels: Tensor, epsilon: float, start: Tensor
) -> Tensor:
    """Return images moved along the sign of the gradient in steps, from a random start.

    Projected gradient descent (Madry et al. 2018, arXiv:1706.06083), ten steps of a quarter of
    ``epsilon``.

    Args:
        network: maps images to logits.
        images: float32 ``[batch, channels, 32, 32]`` in [0, 1].
        labels: int64 ``[batch]``.
        epsilon: how far each pixel moves at most.
        start: uniform random numbers in [0, 1), of the images' shape.
    """
    altered = (images + epsilon * (2 * start - 1)).clamp(0, 1)
    for _ in range(STEPS):
        altered = altered + 2.5 * epsilon / STEPS * gradient(network, altered, labels).sign()
        altered = altered.clamp(images - epsilon, images + epsilon).clamp(0, 1)
    return altered


ATTACKS: dict[str, Callable[[nn.Module, Tensor, Tensor, float, Tensor], Tensor]] = {
    "fgsm": fgsm,
    "pgd": pgd,
}


def gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of each image's cross-entropy by its pixels, of the images' shape."""
    images = images.detach().requires_grad_()
    loss = F.cross_entropy(network(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def accuracies(
    network: nn.Module, images: Tensor, labels: Tensor, seed: int
) -> dict[tuple[str, int], float]:
    """Return a network's accuracy in [0, 1] under each attack, by its name and epsilon.

    Args:
        network: maps images to logits.
        images: uint8 ``[count, channels, 32, 32]``; the first ``IMAGES`` are attacked.
        labels: int64 ``[count]``.
        seed: of the random starts; they depend on nothing else but the image's position.
    """
    network = copy.deepcopy(network).eval()
    if isinstance(network, LeNet5):
        network.fused = False  # torch's operators have the gradient by the image
    images, labels = images[:IMAGES], labels[:IMAGES]
    correct = dict.fromkeys([(name, e) for name in ATTACKS for e in EPSILONS], 0)
    for first in range(0, len(labels), BATCH):
        batch, target = to_unit(images[first : first + BATCH]), labels[first : first + BATCH]
        for name, epsilon in correct:
            key = (seed, *f"{name} {epsilon}".encode())
            start = Draws(key, first, len(target)).uniform(*batch.shape[1:])
            altered = ATTACKS[name](network, batch, target, epsilon / 255, start)
            with torch.no_grad():
                hits = network(altered).argmax(1) == target
            correct[name, epsilon] += int(hits.sum())
    return {key: count / len(labels) for key, count in correct.items()}
