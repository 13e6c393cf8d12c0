"""LeNet-5: its size, its layers' order, and its options."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_lightning.errors import UserError
from lenet_lightning.networks import fused
from lenet_lightning.networks.build import with_scaling
from lenet_lightning.networks.lenet5 import ACTIVATIONS, LeNet5, Standardize
from tests.networks.compiler import needs_kernel
from tests.rounding import inexact_operators

MONOTONE = ["relu", "leaky_relu", "elu", "tanh"]


def images(channels: int = 1, count: int = 4) -> torch.Tensor:
    return torch.rand(count, channels, 32, 32, generator=torch.Generator().manual_seed(0))


def network(channels: int = 1, seed: int = 0, **options) -> LeNet5:
    torch.manual_seed(seed)
    # Biases other than 0 show whether they are added in the right place.
    return LeNet5(channels, initializer="default", **options)


def by_hand(net: LeNet5, x: torch.Tensor) -> torch.Tensor:
    """The report's layers in the report's order: activation, then pooling."""
    first, second, act = (ACTIVATIONS.get(name, torch.abs) for name in net.activations)
    for conv, conv_act in ((net.conv1, first), (net.conv2, second)):
        x = F.max_pool2d(conv_act(F.conv2d(x, conv.weight, conv.bias)), 2)
    for dense in (net.dense1, net.dense2):
        x = act(F.linear(x.flatten(1), dense.weight, dense.bias))
    return F.linear(x, net.output.weight, net.output.bias)


@pytest.mark.parametrize(("channels", "expected"), [(1, 61_706), (3, 62_006)])
def test_parameters(channels, expected):
    assert sum(p.numel() for p in LeNet5(channels).parameters()) == expected
    standardized = with_scaling(LeNet5(channels), (0.5,) * channels, (0.2,) * channels)
    assert sum(p.numel() for p in standardized.parameters()) == expected


@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("channels", "classes", "count"), [(1, 10, 1), (3, 7, 5), (2, 2, 0)])
def test_logits(channels, classes, count, activation, kernel):
    net = network(channels, num_classes=classes, activation=activation, kernel=kernel)
    logits = net(images(channels, count))
    assert logits.shape == (count, classes)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("activation", MONOTONE)
@pytest.mark.parametrize("channels", [1, 3])
def test_pooling_before_activation_is_pooling_after_it(channels, activation):
    net = network(channels, activation=activation)
    x = images(channels)
    torch.testing.assert_close(net(x), by_hand(net, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize("conv_activation", [*MONOTONE, "absolute"])
def test_convolutions_with_an_activation_of_their_own(conv_activation, kernel):
    net = network(activation="silu", conv_activation=conv_activation, kernel=kernel)
    assert net.activations == (conv_activation, conv_activation, "silu")
    assert sum(p.numel() for p in net.parameters()) == 61_706
    x = images()
    torch.testing.assert_close(net(x), by_hand(net, x), rtol=1e-5, atol=1e-6)


def test_the_absolute_invariance_decides_on_the_first_layer():
    net = network(activation="elu", conv_activation="tanh", invariance="absolute")
    assert net.activations == ("absolute", "tanh", "elu")


@needs_kernel
@pytest.mark.parametrize("conv_activation", [None, "absolute"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_fused_kernel_gives_the_same_logits_and_gradients(
    channels, activation, conv_activation
):
    results, options = [], {"activation": activation, "conv_activation": conv_activation}
    for kernel in ("torch", "fused"):
        net = network(channels, kernel=kernel, **options)
        assert net.fused == (kernel == "fused")
        logits = net(images(channels))
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in net.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_fused_kernel_that_is_unavailable(monkeypatch):
    monkeypatch.setattr(fused, "unavailable", lambda: "there is no compiler.")
    with pytest.raises(UserError, match="kernel is fused, but there is no compiler"):
        LeNet5(kernel="fused")
    assert not LeNet5(kernel="auto").fused
    assert not LeNet5(kernel="torch").fused


@pytest.mark.parametrize("kernel", ["auto", "torch"])
def test_channels_last_gives_the_same_logits(kernel):
    net = network(3, kernel=kernel)
    x = images(3)
    expected = net(x)
    net = net.to(memory_format=torch.channels_last)
    for arranged in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(net(arranged), expected, rtol=1e-5, atol=1e-6)


def test_ones():
    """Every kernel entry 1, biases 0: the logits are known, equal, and huge."""
    net = LeNet5(initializer="ones", kernel="torch")
    logits = net(torch.ones(1, 1, 32, 32))
    # 25 pixels; 6 channels of 25 features; 400, 120 and 84 features.
    assert logits[0].tolist() == pytest.approx([25 * 150 * 400 * 120 * 84] * 10)


@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 9), start=st.integers(0, 8))
def test_an_image_does_not_depend_on_its_batch(batch, start):
    net = network(kernel="auto")
    x = images(count=17)
    together = net(x)[start : start + batch]
    torch.testing.assert_close(net(x[start : start + batch]), together, rtol=1e-4, atol=1e-6)


def test_dropout_only_while_training():
    net, without = network(dropout=0.5), network()
    x = images(count=8)
    expected = without(x)
    first, second = net(x), net(x)
    assert not torch.equal(first, second)
    net.eval()
    assert torch.equal(net(x), expected)


def test_dropout_keeps_the_expected_scale():
    """Units are dropped in both hidden dense layers, and those kept are scaled up."""
    net = LeNet5(initializer="ones", dropout=0.25, kernel="torch")
    x = torch.ones(1000, 1, 32, 32)
    with torch.no_grad():
        torch.manual_seed(0)
        logits = net(x)[:, 0]
        expected = net.eval()(x[:1])[0, 0]
    ratio = logits / expected
    assert ratio.mean().item() == pytest.approx(1, abs=0.01)
    # The share of units kept varies binomially in each of the two layers.
    deviation = (0.25 / 0.75 * (1 / 120 + 1 / 84)) ** 0.5
    assert ratio.std().item() == pytest.approx(deviation, rel=0.1)


def test_standardize():
    x = images(3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    layer = Standardize(mean, std)
    for channel in range(3):
        expected = (x[:, channel] - mean[channel]) / std[channel]
        torch.testing.assert_close(layer(x)[:, channel], expected)
    assert not list(layer.parameters())
    torch.testing.assert_close(
        with_scaling(network(3), mean, std)(x), network(3)(layer(x)), rtol=1e-5, atol=1e-6
    )


def test_standardize_rounds_a_pixel_alike_wherever_it_lies():
    layer, x = Standardize((0.13,), (0.31,)), torch.rand(70, 1, 3, 3)
    alone = [layer(pixel) for pixel in x.flatten().split(1)]
    assert torch.equal(layer(x).flatten(), torch.stack(alone).flatten())
    assert inexact_operators(lambda: layer(x)) == set()


def test_standardize_is_saved_with_the_weights():
    net = with_scaling(network(1), (0.1,), (0.3,))
    copy = with_scaling(network(1, seed=1), (0.0,), (1.0,))
    copy.load_state_dict(net.state_dict())
    assert torch.equal(copy(images()), net(images()))
