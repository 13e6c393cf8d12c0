"""Forward and backward pass of a training batch as a CUDA graph.

A step of LeNet-5 is some hundred short kernels, and on a GPU it takes longer to launch them one by
one than to compute them. A graph launches all at once (``torch.cuda.make_graphed_callables``).
What comes before and after (teachers, penalty, clipping, optimiser, scheduler) runs outside of it,
so that any of them works.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lenet_lightning.training.losses import Objective

# The largest difference from eager gradients, as a share of their norm, that is taken for rounding.
TOLERANCE = 1e-2

Capture = Callable[..., Any]


class BatchLoss(nn.Module):
    """Maps a batch to the sum of its losses and to its logits, which carry no gradient.

    Args:
        network: maps images to logits.
        objective: the loss; the penalty is not added.
    """

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, a scalar, and the logits."""
        logits = self.network(images)
        return self.objective(logits, target), logits.detach()


class GraphedLoss:
    """Replays :class:`BatchLoss` as a CUDA graph, for batches like the first one.

    Gradients come in memory that the next call overwrites: each call needs its own backward pass,
    and gradients that are set to None before it.

    The graph is captured at the first call and must there give the gradients that eager execution
    gives, on other images than those it was captured with. Otherwise, and for batches of another
    size, everything is executed eagerly.

    Args:
        network: maps images to logits; its parameters keep their places in memory.
        objective: as for :class:`BatchLoss`.
        refuse: is told why nothing is replayed, if so, at the first call.
        capture: returns a module as a graph, given sample inputs.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        refuse: Callable[[str], None],
        capture: Capture = torch.cuda.make_graphed_callables,
    ) -> None:
        self.eager = BatchLoss(network, objective)
        self.refuse = refuse
        self.capture = capture
        self.graph: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
        self.kind: tuple[Any, ...] | None = None

    def __call__(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :class:`BatchLoss` returns."""
        kind = images.shape, target.shape, target.dtype
        if self.kind is None:
            self.kind = kind
            if refusal := self.prepare(images, target):
                self.refuse(refusal)
        if self.graph is None or kind != self.kind:
            return self.eager(images, target)
        loss, logits = self.graph(images, target)
        # The next replay writes to the same memory.
        return loss.clone(), logits.detach().clone()

    def prepare(self, images: Tensor, target: Tensor) -> str | None:
        """Capture the graph and verify it; return why it is not used, None if it is."""
        # A module of its own: capturing replaces its forward by the graph.
        own = BatchLoss(self.eager.network, self.eager.objective)
        try:
            graph = self.capture(own, (images.clone(), target.clone()))
            off = self.distance(graph, images.flip(-1), target.roll(1, 0))
        except RuntimeError as error:
            return f"capturing failed ({str(error).splitlines()[0]})"
        if not off < TOLERANCE:
            return f"replayed gradients differ from eager ones by {off:.1e} of their norm"
        self.graph = graph
        # Torch captures on a stream of its own, to which parameters then belong: it waits for it.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        return None

    def distance(self, graph: Callable[..., Any], images: Tensor, target: Tensor) -> float:
        """Return how far replayed gradients are from eager ones, as a share of their norm."""
        parameters = list(self.eager.network.parameters())
        expected, found = (
            flat(torch.autograd.grad(each(images, target)[0], parameters))
            for each in (self.eager, graph)
        )
        return float((found - expected).norm() / expected.norm())


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Join tensors to one vector that shares no memory with them."""
    return torch.cat([tensor.flatten() for tensor in tensors])
