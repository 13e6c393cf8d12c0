"""Several seeds as one program against the same seeds one after another, per seed.

    python benchmarks/replicas.py step [--replicas 2 4 8 16] [--device cuda]
    python benchmarks/replicas.py fit --replicas 8 [--images 20000] [--epochs 2]

``step``  a training step (forward, cross-entropy, backward, Adam) of one network, of several in a
          loop, and of as many stacked into one
``fit``   whole trainings on CIFAR-10 by the command line, evaluation, checkpoints and the test at
          the end included: a run for each seed, and one of all

All run in one process on one thread, in alternating blocks. The processor's time is counted, to
which other programs add little, on a GPU the time that passes. The first round warms up.
"""

import contextlib
import itertools
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import common
import torch
from kernel import training_step

from lenet_lightning.__main__ import main as lenet_lightning
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.networks.stacked import StackedLeNet5
from lenet_lightning.process import denormals_are_zero

WORKLOADS = {"MNIST": (64, 1), "CIFAR10": (16, 3)}
Step = Callable[[], None]


def in_turn(steps: list[Step]) -> Step:
    def step() -> None:
        for each in steps:
            each()

    return step


def clock(device: torch.device) -> float:
    """Return seconds: of the processor, or on a GPU those that passed until all was done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(
    variants: dict[str, tuple[Step, int]], rounds: int, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Return milliseconds per step and network, a value a round.

    Args:
        variants: a step and how many networks it trains, by name.
        rounds: blocks of each variant.
        steps: of one network in a block.
        device: where they run.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, (step, networks) in variants.items():
            count = max(1, steps // networks)
            start = clock(device)
            for _ in range(count):
                step()
            times[name].append((clock(device) - start) * 1e3 / count / networks)
    return {name: values[1:] for name, values in times.items()}


def steps_of(workload: str, counts: list[int], device: torch.device) -> dict[str, tuple[Step, int]]:
    """Return every variant of the step."""
    batch, channels = WORKLOADS[workload]
    kernel: Any = "auto" if device.type == "cpu" else "torch"

    def networks(count: int) -> list[LeNet5]:
        return [LeNet5(channels, kernel=kernel).to(device) for _ in range(count)]

    most = max(counts)
    images = torch.rand(batch, most, channels, 32, 32, device=device)
    labels = torch.randint(10, (batch, most), device=device)
    alone = [
        training_step(network, images[:, r].contiguous(), labels[:, r].contiguous())
        for r, network in enumerate(networks(most))
    ]
    variants: dict[str, tuple[Step, int]] = {"alone": (alone[0], 1), "loop": (in_turn(alone), most)}
    for count in counts:
        together = StackedLeNet5(networks(count)).to(device)
        own = images[:, :count].contiguous(), labels[:, :count].contiguous()
        variants[f"{count} stacked"] = training_step(together, *own), count
    return variants


def fits_of(options: Namespace, folder: str) -> dict[str, tuple[Step, int]]:
    """Return the trainings of the most seeds that were asked for, one by one and as one."""
    most, number = max(options.replicas), itertools.count()
    config = common.ROOT / "configs" / "report" / "cifar10.yaml"
    command = f"fit --config {config} --data.root {os.path.abspath(options.root)} --logs {folder} "
    command += f"--data.protocol holdout --data.val_size {options.images // 10} "
    command += f"--data.subset {options.images} --trainer.max_epochs {options.epochs} "
    command += (
        "--trainer.accelerator cpu --trainer.logger false --trainer.enable_progress_bar false"
    )

    def fit(seed: int, replicas: int) -> None:
        name = f"--name run_{next(number)} --seed_everything {seed} --model.replicas {replicas}"
        with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
            code = lenet_lightning([*command.split(), *name.split()])
        if code:
            raise SystemExit(f"fit ended with exit code {code}.")

    alone = in_turn([lambda seed=seed: fit(seed, 1) for seed in range(most)])
    return {"alone": (alone, most), f"{most} stacked": (lambda: fit(0, most), most)}


def rows_of(about: dict[str, Any], times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a CSV row for each variant; ratios are to one network alone, round by round."""
    return [
        {
            **about, "variant": name, **common.columns("ms", own),
            **common.columns("ratio", common.ratios(own, times["alone"])),
        }
        for name, own in times.items()
    ]  # fmt: skip


@denormals_are_zero()
def main() -> None:
    """Print a table, one line a variant: milliseconds per network, and the ratio to one alone."""
    parser = common.parser(__doc__, rounds=20)
    add = parser.add_argument
    add("table", choices=["step", "fit"])
    add("--replicas", type=int, nargs="+", default=[2, 4, 8, 16])
    add("--device", default="cpu", help="of the steps: cpu or cuda")
    add("--steps", type=int, default=64, help="steps of each network in a block")
    add("--images", type=int, default=20000, help="training images of a fit")
    add("--epochs", type=int, default=2, help="epochs of a fit")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else common.machine()
    about = {"torch": torch.__version__, "device": where, "table": options.table}
    rows: list[dict[str, Any]] = []
    if options.table == "step":
        for workload in WORKLOADS:
            variants = steps_of(workload, options.replicas, device)
            times = measure(variants, options.rounds, options.steps, device)
            rows += rows_of(about | {"work": workload, "rounds": options.rounds}, times)
    else:
        common.need_data("CIFAR10", options.root)
        with tempfile.TemporaryDirectory() as folder:
            times = measure(fits_of(options, folder), options.rounds, 1, device)
        work = f"CIFAR10 {options.images} images {options.epochs} epochs"
        rows += rows_of(about | {"work": work, "rounds": options.rounds}, times)
    keys = ("work", "variant", "ms_median", "ms_min", "ms_max", "ratio_median")
    print(common.table(list(keys), [[str(row[key]) for key in keys] for row in rows]))
    print(f"\n{options.rounds} rounds, one thread of {where}, torch {torch.__version__}, "
          f"{common.today()}.")  # fmt: skip
    common.append(options.output, 1, rows)


if __name__ == "__main__":
    main()
