"""Learning rate schedulers that torch lacks."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class LinearCycles(LambdaLR):
    """Cyclic learning rate: each cycle decays linearly to 0.

    The first cycle starts from the optimiser's learning rates, each further one from a fraction of
    them. After a moderate restart the training ends near the previous minimum, so the weights at
    the ends of cycles can be averaged (``weight_averaging.CycleAveraging``). After Loshchilov &
    Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", where the decay is a
    cosine.

    Args:
        optimizer: whose learning rates change.
        first: epochs of the first cycle (steps, with ``model.scheduler_interval`` step), >= 1.
        every: epochs or steps of each further cycle, >= 1.
        peak: fraction of the learning rates at which further cycles start, in (0, 1].

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
        """Return the factor of the learning rates in an epoch; epochs count from 0."""
        if epoch < self.first:
            return 1 - epoch / self.first
        return self.peak * (1 - (epoch - self.first) % self.every / self.every)

    def ended(self, epochs: int) -> int:
        """Return the number of cycles that have ended after ``epochs`` epochs."""
        return max(0, (epochs - self.first) // self.every + 1)
