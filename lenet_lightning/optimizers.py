"""Optimisers that torch lacks, with another framework's exact semantics."""

from collections.abc import Callable
from typing import Any

import torch
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
