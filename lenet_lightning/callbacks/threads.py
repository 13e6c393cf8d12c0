"""Choice of the number of processor threads by measurement, while a command runs."""

import time
from collections import defaultdict
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from lenet_lightning.process import usable_cores

SHARE = 0.02
"""Largest share of the time that measurements take."""

LONGEST_WAIT = 10.0
"""Seconds between two measurements, at most."""

WINDOW = 0.004
"""Seconds of one timing: longer than the processor is taken away from a thread at once."""

ROUNDS = 3
GAIN = 0.95
"""Another number is taken if it needs less than this share of the current one's time."""


def timing(network: nn.Module, images: Tensor) -> float:
    """Return the mean seconds of a forward pass."""
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < WINDOW:
        network(images)
        calls += 1
    return elapsed / calls


class ThreadChooser(Callback):
    """Sets torch's number of threads to the fastest at the moment.

    Results of the fused kernel do not depend on the number of threads, so it may change at any
    time. The current number, its double and its half are timed on forward passes of the network,
    interleaved, before the first batch and again between batches: rarely while the choice stays the
    same, and never for more than 2 % of the time. Without the fused kernel nothing is changed.

    Args:
        most: largest number; by default :func:`process.usable_cores`.

    Attributes:
        seconds: how long each number was in use.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most or usable_cores()
        self.seconds: dict[int, float] = defaultdict(float)
        self.before: int | None = None
        self.chosen = 1
        self.since = self.due = self.wait = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose before the first batch, if results do not depend on the choice."""
        network = pl_module.network
        fused = getattr(network, "fused", False) and pl_module.device.type == "cpu"
        if self.before is None and fused and self.most > 1:
            self.before = torch.get_num_threads()
            torch.set_num_threads(self.chosen)
            self.since = time.perf_counter()
            self.choose(network)  # type: ignore[arg-type]

    on_test_start = on_validation_start = on_predict_start = on_train_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Choose again if it is time."""
        if self.before is not None and time.perf_counter() >= self.due:
            self.choose(pl_module.network)  # type: ignore[arg-type]

    on_test_batch_end = on_validation_batch_end = on_predict_batch_end = on_train_batch_end

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the number of threads as it was."""
        if self.before is not None:
            self.count()
            torch.set_num_threads(self.before)
            self.before, self.wait = None, 0.0

    def choose(self, network: nn.Module) -> None:
        """Time the current number of threads against its double and its half."""
        self.count()
        start, current = time.perf_counter(), self.chosen
        numbers = sorted({current, max(1, current // 2), min(self.most, 2 * current)})
        seconds: dict[int, float] = defaultdict(float)
        parameter = next(network.parameters())
        images = parameter.new_full((32, parameter.shape[1], 32, 32), 0.5)
        training = network.training
        network.eval()  # dropout would draw random numbers
        with torch.inference_mode():
            for _ in range(ROUNDS):
                for number in numbers:
                    torch.set_num_threads(number)
                    network(images)  # wakes the threads
                    seconds[number] += timing(network, images)
        network.train(training)
        best = min(numbers, key=seconds.__getitem__)
        if seconds[best] > GAIN * seconds[current]:
            best = current
        torch.set_num_threads(best)
        self.chosen = best
        end = time.perf_counter()
        least = (end - start) / SHARE
        self.wait = max(least, min(2 * self.wait, LONGEST_WAIT)) if best == current else least
        self.due = end + self.wait

    def count(self) -> None:
        """Add the time since the last count to that of the current number."""
        if self.before is not None:
            now = time.perf_counter()
            self.seconds[self.chosen] += now - self.since
            self.since = now

    def summary(self) -> str:
        """Return one line such as ``2 (93 %), 1 (7 %)``; empty if nothing was chosen."""
        self.count()
        total = sum(self.seconds.values())
        order = sorted(self.seconds.items(), key=lambda item: -item[1])
        return ", ".join(f"{number} ({share / total:.0%})" for number, share in order if total)
