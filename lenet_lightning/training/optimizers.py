"""Optimisers that torch lacks: Keras's Adam, and Muon for whole networks."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT


class KerasAdam(torch.optim.Adam):
    """Adam as Keras computes it (Kingma & Ba 2015, the form before section 2.1's equation).

    Keras adds epsilon to ``sqrt(v)`` before the bias correction, torch after it. The two agree when
    torch's epsilon is ``epsilon / sqrt(1 - beta2**t)`` at step t, so each step sets that and lets
    torch's (fused) implementation do the rest.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, Keras's default 0.001.
        betas: decay rates of the moments.
        epsilon: Keras's epsilon, 1e-7 by default.
        weight_decay: coupled decay added to the gradient, as in ``torch.optim.Adam``.
        fused: use torch's fused implementation.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__(params, lr, betas, eps=epsilon, weight_decay=weight_decay, fused=fused)
        own = {"epsilon": epsilon, "steps": 0}
        self.defaults |= own  # for groups that are added later
        for group in self.param_groups:
            group |= own | group

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure`` re-evaluates the loss, as for every torch optimiser."""
        for group in self.param_groups:
            group["steps"] += 1
            group["eps"] = group["epsilon"] / (1 - group["betas"][1] ** group["steps"]) ** 0.5
        return super().step(closure)


class Muon(torch.optim.AdamW):
    """Muon on the hidden kernels, AdamW on everything else (Jordan et al. 2024).

    A hidden kernel is every parameter of two or more dimensions but the last, which is the output
    layer's. It moves along its momentum made orthogonal, so that every direction of the matrix
    learns at the same pace; a convolution's kernel counts as the matrix
    ``[out, in * height * width]``. ``torch.optim.Muon`` takes matrices only.

    Args:
        params: a network's parameters, in its order.
        lr: learning rate of hidden kernels, per unit of spectral norm.
        momentum: decay of the hidden kernels' Nesterov momentum, in [0, 1).
        adam_lr: learning rate of all other parameters.
        betas: decay rates of AdamW's moments.
        eps: AdamW's epsilon.
        weight_decay: decoupled decay of all parameters, times the learning rate of each.
        fused: use torch's fused implementation of AdamW.

    Schedulers see two parameter groups, hidden kernels first; most scale both learning rates, and
    those that set one take a list of two.

    Raises:
        ValueError: a learning rate, a decay or the momentum is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        momentum: float = 0.95,
        adam_lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        fused: bool = True,
    ) -> None:
        if adam_lr < 0:
            raise ValueError(f"Invalid adam_lr: {adam_lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        parameters = list(params)
        hidden = [p for p in parameters if p.dim() > 1][:-1]
        known = {id(p) for p in hidden}
        rest = [p for p in parameters if id(p) not in known]
        groups: list[dict[str, Any]] = [
            {"params": hidden, "lr": lr, "momentum": momentum},
            {"params": rest, "lr": adam_lr, "own_lr": "adam_lr"},
        ]
        groups = [group for group in groups if group["params"]]
        super().__init__(groups, lr, betas, eps, weight_decay, fused=fused)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure`` re-evaluates the loss, as for every torch optimiser."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = [group for group in self.param_groups if "momentum" in group]
        hidden = [(p, group) for group in groups for p in group["params"] if p.grad is not None]
        for parameter, group in hidden:
            self.step_hidden(parameter, group)
        # AdamW passes over parameters that have no gradient.
        gradients = [parameter.grad for parameter, _ in hidden]
        for parameter, _ in hidden:
            parameter.grad = None
        super().step()
        for (parameter, _), gradient in zip(hidden, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def step_hidden(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """Move one hidden kernel."""
        state, gradient = self.state[parameter], cast(Tensor, parameter.grad)
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)  # torch expects one
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(momentum, group["momentum"]).flatten(1)
        update = orthogonalize(matrix)
        rows, columns = update.shape
        scale = max(1.0, rows / columns) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(update.view_as(parameter), alpha=group["lr"] * scale)


def orthogonalize(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Return roughly ``U V^T`` of each singular value decomposition ``U S V^T``, same shape.

    Newton-Schulz iteration with the quintic polynomial of Jordan et al. 2024, which brings every
    singular value that is not tiny to between 0.7 and 1.2.

    Args:
        matrix: float ``[rows, columns]``.
        iterations: of the polynomial.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = wide / (torch.linalg.vector_norm(wide) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide is matrix else x.T
