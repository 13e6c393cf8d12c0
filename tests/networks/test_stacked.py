"""Stacked networks against the networks that they are made of."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_lightning.networks.lenet5 import ACTIVATIONS, LeNet5
from lenet_lightning.networks.stacked import StackedLeNet5
from tests.networks.compiler import can_compile

KERNELS = ["torch", *(["fused"] if can_compile() else [])]
CENTRED = {"mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)}


def networks(count: int = 3, **options: Any) -> list[LeNet5]:
    """Networks of different weights, all biases other than 0."""
    torch.manual_seed(0)
    return [LeNet5(3, initializer="default", **options) for _ in range(count)]


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")


def assert_as_alone(alone: list[LeNet5], stacked: StackedLeNet5, dropout: bool = False) -> None:
    """Logits and every gradient are those of the networks on their own."""
    x, labels = images(5, len(alone)), torch.randint(10, (5, len(alone)))
    seeds = [7 + r for r in range(len(alone))]
    logits = stacked(x, seeds if dropout else ())
    loss(logits, labels).backward()
    for r, network in enumerate(alone):
        network.train(dropout)
        torch.manual_seed(seeds[r])
        expected = network(x[:, r])
        torch.testing.assert_close(logits[:, r], expected, rtol=1e-5, atol=1e-5)
        loss(expected, labels[:, r]).backward()
        for name, parameter in network.named_parameters():
            found = stacked.get_parameter(name).grad
            assert found is not None
            torch.testing.assert_close(found[r], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("polarity", ["plain", "absolute", "averaged"])
@pytest.mark.parametrize("conv_activation", [None, "absolute"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_logits_and_gradients(activation, conv_activation, polarity, kernel):
    options = {"activation": activation, "conv_activation": conv_activation}
    alone = networks(polarity=polarity, kernel=kernel, **options, **CENTRED)
    assert_as_alone(alone, StackedLeNet5(alone))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("polarity", ["plain", "averaged"])
def test_dropout_drops_what_each_network_drops(polarity, kernel):
    alone = networks(dropout=0.4, polarity=polarity, kernel=kernel)
    assert_as_alone(alone, StackedLeNet5(alone), dropout=True)


def test_nothing_is_dropped_without_seeds():
    alone = networks(dropout=0.4)
    stacked, x = StackedLeNet5(alone), images(4, 3)
    assert torch.equal(stacked(x), stacked(x))
    assert not torch.equal(stacked(x, [0, 1, 2]), stacked(x))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_last_batch_of_one_image_and_one_replica(kernel):
    for batch, count in product((0, 1), (1, 2)):
        stacked = StackedLeNet5(networks(count, kernel=kernel))
        assert stacked(images(batch, count)).shape == (batch, count, 10)


@pytest.mark.parametrize("polarity", ["plain", "absolute", "averaged"])
def test_images_that_all_share(polarity):
    alone = networks(polarity=polarity, kernel="auto", dropout=0.5, **CENTRED)
    stacked, x = StackedLeNet5(alone), images(6)
    logits = stacked.shared(x)
    assert logits.shape == (6, 3, 10)
    for r, network in enumerate(alone):
        assert torch.equal(logits[:, r], network.eval()(x))


def test_a_replica_can_be_taken_out():
    alone = networks(**CENTRED)
    stacked = StackedLeNet5(alone)
    for r, network in enumerate(alone):
        copy = LeNet5(3, **CENTRED)
        copy.load_state_dict(stacked.replica(r))
        state = network.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in copy.state_dict().items())


def test_it_has_its_own_weights_and_no_others():
    alone = networks(2)
    stacked = StackedLeNet5(alone)
    names = [name for name, _ in alone[0].named_parameters()]
    assert [name for name, _ in stacked.named_parameters()] == names
    before = alone[0].conv1.weight.clone()
    with torch.no_grad():
        for parameter in stacked.parameters():
            parameter.zero_()
    assert torch.equal(alone[0].conv1.weight, before)
    assert not stacked.shared(images(1)).any()
