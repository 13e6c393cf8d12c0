"""Areas under the ROC curve, and their intervals."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import mannwhitneyu

from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.robustness import detection


def test_the_area_is_that_of_mann_and_whitney() -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.rand(50, generator=generator, dtype=torch.float64) ** 0.5
    other = torch.rand(70, generator=generator, dtype=torch.float64)
    expected = mannwhitneyu(known, other).statistic / (50 * 70)
    area, low, high = detection.auroc(known, other)
    assert area == pytest.approx(expected, abs=1e-6)
    assert 0.5 < low < area < high < 1


def test_the_interval_is_hanleys_and_mcneils() -> None:
    known, other = torch.ones(51), torch.zeros(58)
    known[:10] = 0.5
    other[:30] = 0.5
    area, low, high = detection.auroc(known, other)
    error = (high - low) / 2 / 1.959964
    pairs = area / (2 - area), 2 * area**2 / (1 + area)
    expected = area * (1 - area) + 50 * (pairs[0] - area**2) + 57 * (pairs[1] - area**2)
    assert error == pytest.approx((expected / (51 * 58)) ** 0.5, rel=1e-4)
    assert detection.auroc(torch.ones(3), torch.zeros(3)) == (1.0, 1.0, 1.0)


def test_confidence_is_the_largest_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "BATCH", 3)
    network = LeNet5().eval()
    images = (255 * torch.rand(8, 1, 32, 32)).byte()
    found = detection.confidence(network, images)
    expected = network(images / 255).softmax(1).amax(1).double()
    assert found.dtype == torch.float64 and torch.allclose(found, expected, atol=1e-5)
