"""Time a training step of the networks that ignore polarity against the plain one.

    python benchmarks/polarity.py [--rounds 40] [--steps 20]

The networks train side by side in one process on the same random batch, in alternating blocks of
steps, on one thread. Prints the median step, its quartiles over the blocks, and the median ratio.
"""

import argparse
from typing import get_args

import torch
from kernel import WORKLOADS, measure, training_step

from lenet_lightning.networks.lenet5 import LeNet5, Polarity


def main() -> None:
    """Print a table, one line per workload and network."""
    parser = argparse.ArgumentParser(description="Time LeNet-5's step by polarity.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="steps in a block")
    args = parser.parse_args()
    torch.set_num_threads(1)
    polarities = get_args(Polarity)
    print("| workload | network | a step, ms | ratio to plain |\n|---|---|---|---|")
    for workload, (batch, channels) in WORKLOADS.items():
        x, target = torch.rand(batch, channels, 32, 32), torch.randint(10, (batch,))
        centre = {"mean": (0.5,) * channels, "std": (1.0,) * channels, "kernel": "auto"}
        networks = [LeNet5(channels, polarity=p, **centre) for p in polarities]
        times = measure([training_step(n, x, target) for n in networks], args.rounds, args.steps)
        low, middle, high = times.quantile(torch.tensor([0.25, 0.5, 0.75]).double(), dim=0)
        for i, polarity in enumerate(polarities):
            cell = f"{middle[i]:.2f} ({low[i]:.2f} to {high[i]:.2f})"
            ratio = (times[:, i] / times[:, 0]).median()
            print(f"| {workload} | {polarity} | {cell} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
