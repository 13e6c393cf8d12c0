"""Attacks stay within their distance and do what their formulas say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.robustness import attacks

IMAGES = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize("name", attacks.ATTACKS)
@pytest.mark.parametrize("epsilon", [0.01, 0.2])
def test_changes_stay_within_epsilon_and_the_range(name: str, epsilon: float) -> None:
    network = LeNet5().eval()
    start = torch.rand(IMAGES.shape, generator=torch.Generator().manual_seed(1))
    altered = attacks.ATTACKS[name](network, IMAGES, LABELS, epsilon, start)
    assert altered.min() >= 0 and altered.max() <= 1
    assert (altered - IMAGES).abs().max() <= epsilon + 1e-6
    loss = nn.functional.cross_entropy
    assert loss(network(altered), LABELS) > loss(network(IMAGES), LABELS)


class Linear(nn.Module):
    """Two classes: the sum of the pixels, and its opposite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = 0.1 * (x.flatten(1).sum(1) - 8)
        return torch.stack([total, -total], 1)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_a_linear_network_is_attacked_in_the_best_direction(name: str) -> None:
    images, labels = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1])
    expected = torch.tensor([0.4, 0.6]).view(2, 1, 1, 1).expand_as(images)
    altered = attacks.ATTACKS[name](Linear(), images, labels, 0.1, images)
    assert torch.allclose(altered, expected, atol=1e-5)


@pytest.mark.parametrize("kernel", ["torch", "auto"])
def test_accuracies_depend_neither_on_batches_nor_on_the_kernel(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = LeNet5(kernel=kernel).eval()  # type: ignore[arg-type]
    torch.manual_seed(0)
    reference = LeNet5().eval()
    pixels, labels = (255 * torch.rand(40, 1, 32, 32)).byte(), torch.arange(40) % 10
    expected = attacks.accuracies(reference, pixels, labels, 0)
    fused = network.fused
    monkeypatch.setattr(attacks, "BATCH", 7)
    assert attacks.accuracies(network, pixels, labels, 0) == expected
    assert network.fused == fused
    monkeypatch.setattr(attacks, "IMAGES", 20)
    first = attacks.accuracies(network, pixels, labels, 0)
    assert first == attacks.accuracies(network, pixels[:20], labels[:20], 0)
