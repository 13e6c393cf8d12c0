"""Time a training step of the networks that ignore polarity against the plain one.

    python benchmarks/polarity.py [--rounds 40] [--steps 20]

The networks train side by side in one process on the same random batch, in alternating blocks of
steps, on one thread. Prints the median step, the fastest and slowest block, and the median ratio.
"""

from argparse import Namespace
from typing import Any, get_args

import common
import torch
from kernel import WORKLOADS, caption, measure, training_step

from lenet_lightning.networks.build import with_scaling
from lenet_lightning.networks.lenet5 import Invariance, LeNet5


def compare(workload: str, options: Namespace) -> list[dict[str, Any]]:
    """Time one workload; return a CSV row for every network."""
    batch, channels = WORKLOADS[workload]
    x, target = torch.rand(batch, channels, 32, 32), torch.randint(10, (batch,))
    centre = (0.5,) * channels, (1.0,) * channels
    networks = [
        with_scaling(LeNet5(channels, invariance=name), *centre) for name in get_args(Invariance)
    ]
    steps = [training_step(network, x, target) for network in networks]
    times = measure(steps, options.rounds, options.steps).T.tolist()
    return [
        {
            "torch": torch.__version__, "workload": workload,
            "polarity": "plain" if name == "none" else name,
            "rounds": options.rounds, **common.columns("ms", own),
            **common.columns("ratio", common.ratios(own, times[0])),
        }
        for name, own in zip(get_args(Invariance), times, strict=True)
    ]  # fmt: skip


def main() -> None:
    """Print a table, one line per workload and network."""
    parser = common.parser(__doc__, rounds=40)
    parser.add_argument("--steps", type=int, default=20, help="steps in a block")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for workload in WORKLOADS for row in compare(workload, options)]
    keys = ("workload", "polarity", "ms_median", "ms_min", "ms_max", "ratio_median")
    print(common.table(list(keys), [[str(row[key]) for key in keys] for row in rows]))
    print("\n" + caption(options.rounds, options.steps))
    common.append(options.output, 1, rows)


if __name__ == "__main__":
    main()
