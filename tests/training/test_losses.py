"""Losses and penalties against their formulas; Keras's agreement is in test_keras."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lenet_lightning.networks.build import with_scaling
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training.losses import Penalty, class_loss, kernels

LOSSES = ["cross_entropy", "bce", "mse", "l1"]


def sample_loss(p: list[float], target: list[float], loss: str) -> float:
    """One sample's loss from its probabilities, in plain Python."""
    pairs = list(zip(p, target, strict=True))
    if loss == "cross_entropy":
        return -sum(t * math.log(q) for q, t in pairs)
    per_class = {
        "bce": lambda q, t: -(t * math.log(q) + (1 - t) * math.log(1 - q)),
        "mse": lambda q, t: (q - t) ** 2,
        "l1": lambda q, t: abs(q - t),
    }[loss]
    return sum(per_class(q, t) for q, t in pairs) / len(pairs)


@settings(max_examples=30, deadline=None)
@given(
    loss=st.sampled_from(LOSSES),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    temperature=st.sampled_from([1.0, 0.5, 4.0]),
    soft=st.booleans(),
    classes=st.integers(2, 12),
    batch=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_formula(loss, smoothing, temperature, soft, classes, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (batch,), generator=generator)
    given = torch.randn(batch, classes, generator=generator, dtype=torch.float64).softmax(1)
    given = given if soft else torch.eye(classes, dtype=torch.float64)[labels]
    expected = 0.0
    for row, shares in zip((logits / temperature).softmax(1).tolist(), given.tolist(), strict=True):
        target = [smoothing / classes + (1 - smoothing) * share for share in shares]
        expected += temperature**2 * sample_loss(row, target, loss)
    value = class_loss(logits, given if soft else labels, loss, smoothing, temperature)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient(loss, smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.autograd.gradcheck(lambda x: class_loss(x, labels, loss, smoothing), logits)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_saturated_logits_stay_finite(loss, right):
    logits = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    value = class_loss(logits, torch.tensor([0 if right else 2]), loss)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()
    assert (value.item() < 1e-5) == right


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_a_confident_mistake_can_be_learnt_from(loss):
    logits = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    class_loss(logits, torch.tensor([2]), loss).backward()
    assert logits.grad[0, 2] < -0.1 and logits.grad[0, 0] > 0.1


def test_kernels_are_the_weights_without_biases():
    net = with_scaling(LeNet5(), (0.5,), (0.5,))
    names = {id(p): n for n, p in net.named_parameters()}
    layers = ["conv1", "conv2", "dense1", "dense2", "output"]
    assert [names[id(p)] for p in kernels(net)] == [f"{layer}.weight" for layer in layers]


def some_weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3, 5, 5), (7, 11), (1, 1)]
    draws = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    return [nn.Parameter(draw) for draw in draws]


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.0, 0.001), (0.01, 0.0), (0.3, 0.2)])
def test_penalty_is_what_autograd_would_add(l1, l2):
    weights = some_weights()
    by_autograd = l1 * sum(w.abs().sum() for w in weights)
    by_autograd = by_autograd + l2 * sum(w.square().sum() for w in weights)
    penalty = Penalty(l1, l2)
    assert bool(penalty) == bool(l1 or l2)
    torch.testing.assert_close(penalty.value(weights), by_autograd.detach())
    assert not penalty.value(weights).requires_grad
    by_autograd.backward()
    expected = [w.grad.clone() + 1 for w in weights]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    penalty.add_gradients(weights)
    for weight, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def test_penalty_leaves_absent_gradients_absent():
    weights = some_weights()
    weights[0].grad = torch.zeros_like(weights[0])
    Penalty(0.1, 0.1).add_gradients(weights)
    assert weights[0].grad.any()
    assert weights[1].grad is None


def test_l1_has_no_gradient_at_zero():
    weight = nn.Parameter(torch.tensor([[-2.0, 0.0, 3.0]]))
    weight.grad = torch.zeros_like(weight)
    Penalty(0.5, 0.0).add_gradients([weight])
    assert weight.grad.tolist() == [[-0.5, 0.0, 0.5]]


def test_l2_is_coupled_weight_decay_of_twice_its_value():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    gradients = torch.randn(10, 6, 5, generator=generator, dtype=torch.float64)
    results = []
    for l2, decay in ((0.05, 0.0), (0.0, 0.1)):
        weight = nn.Parameter(start.clone())
        optimizer = torch.optim.Adam([weight], lr=0.1, weight_decay=decay)
        for gradient in gradients:
            weight.grad = gradient.clone()
            Penalty(0.0, l2).add_gradients([weight])
            optimizer.step()
        results.append(weight.detach())
    torch.testing.assert_close(*results)
