"""Time a training step of LeNet-5 with torch's operators and with the fused kernel.

    python benchmarks/kernel.py [--rounds 40] [--steps 20] [--threads 1 2]

The networks train side by side in one process on the same random batch, in alternating blocks of
steps, so that whatever else the machine does falls on all. A step is forward, cross-entropy,
backward and Adam(fused=True): by torch's operators in channels_last, their faster layout; by the
fused layers, called one by one; and with all gradients in one call, as training has them. Prints
the median step, its quartiles over the blocks, and the median ratio of the first to the last.
"""

import argparse
import copy
import time
from collections.abc import Callable

import common
import torch
from torch import Tensor

from lenet_lightning.networks import fused
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.process import denormals_are_zero
from lenet_lightning.training import gradient_step
from lenet_lightning.training.losses import Objective, class_loss

WORKLOADS = {"MNIST, batch 64": (64, 1), "CIFAR-10, batch 16": (16, 3)}


def training_step(
    network: LeNet5, x: Tensor, target: Tensor, one_call: bool = True
) -> Callable[[], None]:
    """Return a step as training takes it, or by autograd unless ``one_call``."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0005, weight_decay=0.002, fused=True)
    gradients = gradient_step.DirectLoss(network, Objective())
    one_call = one_call and gradient_step.takes(network, "cross_entropy")

    def step() -> None:
        if not one_call or gradients(x, target, 1 / len(x)) is None:
            optimizer.zero_grad()
            loss = class_loss(network(x), target, "cross_entropy")
            loss.div(len(x)).backward()
        optimizer.step()

    return step


def measure(steps: list[Callable[[], None]], rounds: int, count: int) -> Tensor:
    """Milliseconds per step, [rounds, len(steps)]; the first two rounds warm up."""
    times = torch.empty(rounds + 2, len(steps), dtype=torch.float64)
    for row in times:
        for column, step in enumerate(steps):
            start = time.perf_counter()
            for _ in range(count):
                step()
            row[column] = (time.perf_counter() - start) * 1e3 / count
    return times[2:]


def caption(rounds: int, steps: int) -> str:
    """Return the sentence below a table of steps on one thread."""
    where = f"one thread of {common.machine()}, torch {torch.__version__}"
    return f"{rounds} rounds of {steps} steps, {where}, {common.today()}."


@denormals_are_zero()
def main() -> None:
    """Print a table, one line per workload and number of threads."""
    parser = argparse.ArgumentParser(description="Time LeNet-5's step, fused against torch.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="steps in a block")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    if reason := fused.unavailable():
        raise SystemExit(reason)
    print("| workload | threads | torch, ms | fused layers, ms | one call, ms | ratio |")
    print("|---|---|---|---|---|---|")
    for name, (batch, channels) in WORKLOADS.items():
        x = torch.rand(batch, channels, 32, 32)
        target = torch.randint(10, (batch,))
        ours = LeNet5(channels, kernel="fused")
        theirs = copy.deepcopy(ours).to(memory_format=torch.channels_last)
        theirs.fused = False
        for threads in args.threads:
            torch.set_num_threads(threads)
            steps = [
                training_step(theirs, x.to(memory_format=torch.channels_last), target),
                training_step(copy.deepcopy(ours), x, target, one_call=False),
                training_step(ours, x, target),
            ]
            times = measure(steps, args.rounds, args.steps)
            low, middle, high = times.quantile(torch.tensor([0.25, 0.5, 0.75]).double(), dim=0)
            cells = [f"{middle[i]:.2f} ({low[i]:.2f} to {high[i]:.2f})" for i in range(len(steps))]
            ratio = (times[:, 0] / times[:, -1]).median()
            print(f"| {name} | {threads} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
