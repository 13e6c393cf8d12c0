"""Learning rate schedulers that torch lacks."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class LinearCycles(LambdaLR):
    """Learning rates that fall to 0 in a straight line, again and again.

    The first descent starts from the optimiser's learning rates, every further one from a share of
    them. A restart that is not too high leaves what was learnt and comes to rest nearby, so that
    the weights at the ends may be averaged (``callbacks.averaging.CycleAveraging``). After
    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", whose descent
    is a cosine.

    Args:
        optimizer: whose learning rates change.
        first: epochs of the first descent (steps, with ``model.scheduler_interval`` step), >= 1.
        every: those of each further one, >= 1.
        peak: share of the learning rates at which further descents start, in (0, 1].

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, optimizer: Optimizer, first: int, every: int, peak: float = 0.33) -> None:
        self.first = first
        self.every = every
        self.peak = peak
        self.check()
        super().__init__(optimizer, lambda epoch: self.share(epoch))

    def check(self) -> None:
        """Refuse arguments that are out of range."""
        for name, value in (("first", self.first), ("every", self.every)):
            if value < 1:
                raise ValueError(f"{name} is {value}: expected a whole number above 0")
        if not 0 < self.peak <= 1:
            raise ValueError(f"peak is {self.peak}: expected a share above 0 and up to 1")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, which holds the arguments too.

        Raises:
            ValueError: one is out of range.
        """
        super().load_state_dict(state_dict)
        self.check()

    def share(self, epoch: int) -> float:
        """Return the share of its learning rates at which an epoch trains; epochs count from 0."""
        if epoch < self.first:
            return 1 - epoch / self.first
        return self.peak * (1 - (epoch - self.first) % self.every / self.every)

    def ended(self, epochs: int) -> int:
        """Return how many descents have ended after so many epochs."""
        return max(0, (epochs - self.first) // self.every + 1)
