"""KerasAdam against the algorithm in plain NumPy; Keras's agreement is in test_keras."""

import copy

import numpy as np
import pytest
import torch

from lenet_lightning.optimizers import KerasAdam


def gradients(steps: int, size: int = 40) -> torch.Tensor:
    """Gradients of every scale around epsilon, float64 ``[steps, size]``."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(-10, 2, size, dtype=torch.float64)
    return scale * torch.randn(steps, size, generator=generator, dtype=torch.float64)


def by_hand(grads: np.ndarray, lr=1e-3, betas=(0.9, 0.999), epsilon=1e-7) -> np.ndarray:
    """Kingma & Ba 2015, end of section 2: epsilon beside the uncorrected sqrt(v)."""
    value = m = v = np.zeros(grads.shape[1])
    for t, g in enumerate(grads, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        rate = lr * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        value = value - rate * m / (np.sqrt(v) + epsilon)
    return value


def run(optimizer: torch.optim.Optimizer, grads: torch.Tensor) -> torch.Tensor:
    (parameter,) = optimizer.param_groups[0]["params"]
    for gradient in grads:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def parameter(size: int = 40) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(size, dtype=torch.float64))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.0005},
        {"lr": 0.1, "betas": (0.5, 0.9), "epsilon": 1e-3},
        {"epsilon": 1e-12},
    ],
)
def test_formula(options, fused):
    grads = gradients(20)
    moved = run(KerasAdam([parameter()], fused=fused, **options), grads)
    np.testing.assert_allclose(moved.numpy(), by_hand(grads.numpy(), **options), rtol=1e-9)


def test_weight_decay_is_coupled():
    start = torch.linspace(-1, 1, 40, dtype=torch.float64)
    with_decay, added = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = KerasAdam([with_decay], weight_decay=0.1)
    other = KerasAdam([added])
    for gradient in gradients(5):
        with_decay.grad = gradient.clone()
        added.grad = gradient + 0.1 * added.detach()
        optimizer.step()
        other.step()
    torch.testing.assert_close(with_decay, added)


def test_a_resumed_optimizer_goes_on_exactly():
    grads = gradients(10)
    whole = run(KerasAdam([parameter()]), grads)
    first = KerasAdam([parameter()])
    half = run(first, grads[:5])
    state = copy.deepcopy(first.state_dict())
    second = KerasAdam([torch.nn.Parameter(half.clone())])
    second.load_state_dict(state)
    assert torch.equal(run(second, grads[5:]), whole)


def test_a_changed_learning_rate_applies_from_the_next_step():
    grads = gradients(2)
    optimizer = KerasAdam([parameter()])
    before = run(optimizer, grads[:1]).clone()
    optimizer.param_groups[0]["lr"] = 0.0
    assert torch.equal(run(optimizer, grads[1:]), before)


def test_groups_have_options_of_their_own():
    grads = gradients(5)
    one, other = parameter(), parameter()
    optimizer = KerasAdam([{"params": [one], "epsilon": 1e-3}, {"params": [other], "lr": 0.01}])
    for gradient in grads:
        one.grad, other.grad = gradient.clone(), gradient.clone()
        optimizer.step()
    expected = by_hand(grads.numpy(), epsilon=1e-3)
    np.testing.assert_allclose(one.detach().numpy(), expected, rtol=1e-9)
    expected = by_hand(grads.numpy(), lr=0.01)
    np.testing.assert_allclose(other.detach().numpy(), expected, rtol=1e-9)


def test_a_group_added_later():
    grads = gradients(3)
    one, late = parameter(), parameter()
    optimizer = KerasAdam([one], epsilon=1e-3)
    run(optimizer, grads)
    optimizer.add_param_group({"params": [late]})
    for gradient in grads:
        late.grad = gradient.clone()
        optimizer.step()
    np.testing.assert_allclose(
        late.detach().numpy(), by_hand(grads.numpy(), epsilon=1e-3), rtol=1e-9
    )


def test_a_closure_gives_its_loss():
    value = torch.nn.Parameter(torch.ones(3))
    optimizer = KerasAdam([value], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = value.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    assert optimizer.step(closure).item() < 3


def test_parameters_without_gradients_stay():
    used, unused = parameter(), parameter()
    optimizer = KerasAdam([used, unused])
    used.grad = torch.ones_like(used)
    optimizer.step()
    assert used.any() and not unused.any()
