"""KerasAdam and Muon against their formulas; Keras's agreement is in test_keras."""

import copy

import numpy as np
import pytest
import torch

from lenet_lightning.store import run_folder
from lenet_lightning.training.optimizers import KerasAdam, Muon, orthogonalize


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


def lenet_parameters(dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    """A convolution's kernel and bias, a dense layer's, the output layer's."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 3, 5, 5), (6,), (20, 6), (20,), (10, 20), (10,)]
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def give_gradients(parameters: list[torch.nn.Parameter], seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


@pytest.mark.parametrize("shape", [(4, 4), (3, 20), (20, 3)])
def test_orthogonalize_brings_singular_values_to_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalize(matrix)
    assert torch.linalg.svdvals(result).sub(1).abs().max() < 0.35
    # The same directions: U^T X V is diagonal.
    core = u.mT @ result @ v.mT
    diagonal = core.diagonal(dim1=-2, dim2=-1).diag_embed()
    torch.testing.assert_close(core, diagonal, rtol=0, atol=1e-9)


def test_muon_moves_hidden_kernels_along_orthogonal_matrices():
    parameters = lenet_parameters()
    before = [p.detach().clone() for p in parameters]
    optimizer = Muon(parameters, lr=0.1, momentum=0.9, weight_decay=0.5)
    give_gradients(parameters)
    gradients = [p.grad.clone() for p in parameters]
    optimizer.step()
    for i, rows, columns in ((0, 6, 75), (2, 20, 6)):
        # After one step the Nesterov momentum points along the gradient.
        direction = orthogonalize(gradients[i].view(rows, columns)) * max(1, rows / columns) ** 0.5
        expected = before[i].view(rows, columns) * (1 - 0.1 * 0.5) - 0.1 * direction
        torch.testing.assert_close(parameters[i].view(rows, columns), expected)
    assert all(torch.equal(p.grad, g) for p, g in zip(parameters, gradients, strict=True))


def reference_muon(
    weights: list[list[np.ndarray]], gradients: list[list[np.ndarray]], momentum: float
) -> list[np.ndarray]:
    """Muon of Jordan et al. 2024 in NumPy: lr 0.02, decay 0.1, five Newton-Schulz iterations."""
    moved = []
    for weight, history in zip(weights, gradients, strict=True):
        weight, buffer = weight.copy(), np.zeros_like(weight)
        for gradient in history:
            buffer = momentum * buffer + (1 - momentum) * gradient
            x = (1 - momentum) * gradient + momentum * buffer
            transposed = x.shape[0] > x.shape[1]
            x = x.T if transposed else x
            x = x / (np.sqrt((x * x).sum()) + 1e-7)
            for _ in range(5):
                gram = x @ x.T
                x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
            x = x.T if transposed else x
            scale = np.sqrt(max(1, x.shape[0] / x.shape[1]))
            weight = weight - 0.02 * 0.1 * weight - 0.02 * scale * x
        moved.append(weight)
    return moved


@pytest.mark.parametrize("momentum", [0.95, 0.6, 0.0])
def test_twenty_steps_of_muon_are_those_of_an_independent_reference(momentum):
    parameters = lenet_parameters()
    hidden = {0: (6, 75), 2: (20, 6)}
    before = [parameters[i].detach().numpy().reshape(shape).copy() for i, shape in hidden.items()]
    optimizer = Muon(parameters, lr=0.02, momentum=momentum, weight_decay=0.1)
    gradients: list[list[np.ndarray]] = [[] for _ in hidden]
    for seed in range(20):
        give_gradients(parameters, seed)
        for history, (i, shape) in zip(gradients, hidden.items(), strict=True):
            history.append(parameters[i].grad.numpy().reshape(shape).copy())
        optimizer.step()
    expected = reference_muon(before, gradients, momentum)
    for weight, (i, shape) in zip(expected, hidden.items(), strict=True):
        ours = parameters[i].detach().numpy().reshape(shape)
        np.testing.assert_allclose(ours, weight, rtol=1e-9, atol=1e-9)


def test_defaults_of_muon():
    groups = Muon(lenet_parameters()).param_groups
    assert [group["lr"] for group in groups] == [0.01, 0.003]
    assert groups[0]["momentum"] == 0.95
    for group in groups:
        assert (group["weight_decay"], group["eps"], group["betas"]) == (0.1, 1e-8, (0.9, 0.999))
    assert groups[1]["own_lr"] == "adam_lr"  # by which resume finds the argument of the group


@pytest.mark.parametrize("optimizer", [KerasAdam, Muon])
def test_the_fused_implementation_is_a_choice(optimizer):
    for options, fused in (({}, True), ({"fused": False}, False)):
        groups = optimizer(lenet_parameters(), **options).param_groups
        assert all(group["fused"] is fused for group in groups)


@pytest.mark.parametrize(
    ("name", "good", "bad"), [("momentum", 0.0, [-0.1, 1.0, 1.5]), ("adam_lr", 0.0, [-1e-9])]
)
def test_arguments_of_muon_out_of_range(name, good, bad):
    Muon(lenet_parameters(), **{name: good})
    for value in bad:
        with pytest.raises(ValueError, match=f"{name}: {value}"):
            Muon(lenet_parameters(), **{name: value})


def test_all_else_moves_as_adamw_moves_it():
    ours, theirs = lenet_parameters(), lenet_parameters()
    rest = [1, 3, 4, 5]  # biases, and the output layer's kernel
    muon = Muon(ours, adam_lr=0.02, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3)
    adamw = torch.optim.AdamW([theirs[i] for i in rest], 0.02, (0.8, 0.9), 1e-6, 0.3)
    for seed in range(3):
        give_gradients(ours, seed)
        give_gradients(theirs, seed)
        muon.step()
        adamw.step()
    for i in rest:
        torch.testing.assert_close(ours[i], theirs[i])


def test_muon_goes_on_from_its_state():
    ours, theirs = lenet_parameters(), lenet_parameters()
    one, other = Muon(ours), Muon(theirs)
    give_gradients(ours)
    one.step()
    with torch.no_grad():
        for p, q in zip(ours, theirs, strict=True):
            q.copy_(p)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for parameters, optimizer in ((ours, one), (theirs, other)):
        give_gradients(parameters, 2)
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_muon_passes_over_what_has_no_gradient():
    parameters = lenet_parameters()
    before = [p.detach().clone() for p in parameters]
    give_gradients(parameters)
    parameters[0].grad = parameters[3].grad = None
    loss = Muon(parameters).step(lambda: 7.0)
    moved = [not torch.equal(p, b) for p, b in zip(parameters, before, strict=True)]
    assert moved == [False, True, True, False, True, True]
    assert loss == 7.0


def test_a_schedule_scales_both_learning_rates():
    optimizer = Muon(lenet_parameters(), lr=0.02, adam_lr=0.004)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=4)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.015, 0.003])


def test_muon_trains_through_the_command_line(run):
    trained = run(
        "fit --data Digits --trainer.accelerator cpu --trainer.max_epochs 3 --trainer.logger false"
        " --data.batch_size 32 --model.optimizer lenet_lightning.Muon"
        " --model.optimizer.lr 0.02 --model.optimizer.weight_decay 0 --name muon"
    )
    assert trained.code == 0, trained.err
    assert run_folder.read("lightning_logs/muon/version_0").manifest.test["acc"] > 0.9
