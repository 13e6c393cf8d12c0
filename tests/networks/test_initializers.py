"""Initialisers against their definition."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from lenet_lightning.networks.initializers import (
    KERNEL_INITIALIZERS,
    TRUNCATED_STD,
    fans,
    initialize,
)
from lenet_lightning.networks.lenet5 import LeNet5

LARGE = [(400, 500), (64, 100, 5, 5)]


def variance(name: str, weight: torch.Tensor) -> float:
    fan_in, fan_out = fans(weight)
    return {"he_normal": 2 / fan_in, "glorot_normal": 2 / (fan_in + fan_out)}[name]


def draw(name: str, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return KERNEL_INITIALIZERS[name](torch.empty(shape, dtype=torch.float64))


def test_fans():
    assert fans(torch.empty(120, 400)) == (400, 120)
    assert fans(torch.empty(16, 6, 5, 5)) == (150, 400)


def test_deviation_of_the_truncated_normal():
    assert stats.truncnorm(-2, 2).std() == pytest.approx(TRUNCATED_STD, rel=1e-12)


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("name", ["he_normal", "glorot_normal"])
def test_variance_and_truncation(name, shape):
    weight = draw(name, shape)
    expected = variance(name, weight)
    # The variance of n = 160,000 draws has a relative deviation below 0.3 %.
    assert weight.var().item() == pytest.approx(expected, rel=0.015)
    assert weight.mean().abs().item() < 4 * math.sqrt(expected / weight.numel())
    bound = 2 * math.sqrt(expected) / TRUNCATED_STD
    assert weight.abs().max().item() <= bound
    assert weight.abs().max().item() > 0.999 * bound


@pytest.mark.parametrize("name", ["he_normal", "glorot_normal"])
def test_distribution(name):
    weight = draw(name, (400, 500))
    sigma = math.sqrt(variance(name, weight)) / TRUNCATED_STD
    fit = stats.kstest(weight.flatten().numpy(), stats.truncnorm(-2, 2, scale=sigma).cdf)
    assert fit.pvalue > 0.001


@pytest.mark.parametrize("name", ["he_normal", "glorot_normal", "ones"])
def test_biases_are_zero(name):
    net = LeNet5(initializer=name)
    biases = [p for n, p in net.named_parameters() if n.endswith("bias")]
    assert len(biases) == 5
    assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize("name", ["he_normal", "glorot_normal"])
def test_every_layer_of_the_network(name):
    torch.manual_seed(0)
    for layer in LeNet5(3, initializer=name).modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            expected = variance(name, layer.weight)
            assert layer.weight.var().item() == pytest.approx(expected, rel=0.2)


def test_ones():
    net = LeNet5(initializer="ones")
    kernels = [p for n, p in net.named_parameters() if n.endswith("weight")]
    assert len(kernels) == 5
    assert all(torch.equal(kernel, torch.ones_like(kernel)) for kernel in kernels)


def test_default_is_that_of_torch():
    torch.manual_seed(0)
    expected = nn.Sequential(nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)).state_dict().values()
    torch.manual_seed(0)
    net = LeNet5(initializer="default")
    ours = [net.conv1.weight, net.conv1.bias, net.conv2.weight, net.conv2.bias]
    assert all(torch.equal(one, other) for one, other in zip(ours, expected, strict=True))


def test_the_seed_decides():
    assert torch.equal(draw("he_normal", (84, 120), 1), draw("he_normal", (84, 120), 1))
    assert not torch.equal(draw("he_normal", (84, 120), 1), draw("he_normal", (84, 120), 2))


def test_layers_without_biases_and_other_layers():
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4))
    initialize(module, "ones")
    assert torch.equal(module[0].weight, torch.ones(4, 3))
    assert module[0].weight.requires_grad
