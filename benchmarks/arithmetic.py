"""Where the fused training step spends its time, and how much of it is arithmetic.

    python benchmarks/arithmetic.py [--rounds 40] [--steps 20]

Parts of a step and a large matrix product, the fastest arithmetic that torch knows, take turns in
one process on one thread; convolutions as layers called one by one. The last column is the time
that a part's multiplications would take at the pace of that product, as a share of the time that
the part takes.
"""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import common
import torch
from kernel import WORKLOADS, caption, measure, training_step
from torch import Tensor

from lenet_lightning.networks import fused
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.process import denormals_are_zero
from lenet_lightning.training.gradient_step import DirectLoss
from lenet_lightning.training.losses import Objective

PRODUCT = 512  # rows and columns of the large matrices
STEP = "the whole step"


def multiplications(channels: int) -> dict[str, int]:
    """Multiplications that a step needs for one image, by part.

    Backward, only the winner of each pooled cell passes a gradient on: a quarter of the sums.
    """
    first, second = 28 * 28 * 25 * channels * 6, 10 * 10 * 25 * 6 * 16
    dense = 400 * 120 + 120 * 84 + 84 * 10
    parts = {
        "convolutions, forward": first + second,
        "convolutions, backward": first // 4 + 2 * second // 4,
    }
    total = sum(parts.values()) + 3 * dense
    return parts | {"all gradients, in one call": total, STEP: total}


def runs_of(network: LeNet5, x: Tensor, target: Tensor) -> dict[str, Callable[[], None]]:
    """Return what runs each part once; the backward pass comes with its forward pass."""
    convolutions = [*network.conv1.parameters(), *network.conv2.parameters()]
    loss = DirectLoss(network, Objective())

    def convolve() -> Tensor:
        return network.stage(network.first_stage(x), network.conv2, network.activations[1])

    with torch.no_grad():
        gradient = torch.rand_like(convolve())

    def forward() -> None:
        with torch.no_grad():
            convolve()

    def both() -> None:
        torch.autograd.grad(convolve(), convolutions, gradient)

    def gradients() -> None:
        loss(x, target, 1 / len(x))

    matrix, result = torch.rand(2, PRODUCT, PRODUCT)

    def product() -> None:
        torch.mm(matrix, matrix, out=result)

    return {
        "convolutions, forward": forward,
        "convolutions, backward": both,
        "all gradients, in one call": gradients,
        STEP: training_step(network, x, target),
        "product": product,
    }


def profile(workload: str, options: Namespace) -> list[dict[str, Any]]:
    """Time the parts of one workload; return a CSV row for each."""
    batch, channels = WORKLOADS[workload]
    x, target = torch.rand(batch, channels, 32, 32), torch.randint(10, (batch,))
    runs = runs_of(LeNet5(channels, kernel="fused"), x, target)
    measured = measure(list(runs.values()), options.rounds, options.steps).T
    times = dict(zip(runs, measured, strict=True))
    times["convolutions, backward"] -= times["convolutions, forward"]
    pace = PRODUCT**3 / times.pop("product")  # multiplications per millisecond, each round
    rows = []
    for name, count in multiplications(channels).items():
        own = times[name]
        rows.append({
            "torch": torch.__version__, "workload": workload, "part": name,
            "rounds": options.rounds, **common.columns("ms", own.tolist()),
            **common.columns("share", (own / times[STEP]).tolist()),
            **common.columns("arithmetic", (count * batch / pace / own).tolist()),
        })  # fmt: skip
    return rows


@denormals_are_zero()
def main() -> None:
    """Print a table, one line per workload and part."""
    parser = common.parser(__doc__, rounds=40)
    parser.add_argument("--steps", type=int, default=20, help="steps in a block")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if reason := fused.unavailable():
        raise SystemExit(reason)
    rows = [row for workload in WORKLOADS for row in profile(workload, options)]
    lines = [
        [row["workload"], row["part"], row["ms_median"],
         *(f"{float(row[f'{what}_median']):.0%}" for what in ("share", "arithmetic"))]
        for row in rows
    ]  # fmt: skip
    header = ["workload", "part", "ms", "of the step", "arithmetic, of the part"]
    print(common.table(header, lines))
    print("\n" + caption(options.rounds, options.steps))
    common.append(options.output, 1, rows)


if __name__ == "__main__":
    main()
