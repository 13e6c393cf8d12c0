"""Time from starting a process to a given accuracy on MNIST's test set, ours against peers.

    python -m venv .peers && .peers/bin/python -m pip install -r benchmarks/peers/requirements.txt
    python benchmarks/time_to_accuracy.py --rounds 3

A race: every variant starts in a fresh process, imports and data loading included, trains LeNet-5
from he_normal with Adam 0.001, batch 64 and no penalty on all training images, and evaluates the
test set after every epoch; it stops as soon as that reaches the last target. Choosing when to stop
on the test set is fine here, as only time is compared; never quote these accuracies. Ours is the
product's command line with everything on. Each round has another seed; who needs an epoch more or
less is luck, so the table tells the epochs too.
"""

import itertools
import json
import math
import re
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import common

BATCH = common.BATCH["MNIST"]


class Arrival(NamedTuple):
    """When a target was reached: seconds since the start, and epochs; nan if never."""

    seconds: float
    epochs: float


@contextmanager
def command(variant: str, seed: int, options: Namespace) -> Iterator[list[str]]:
    """Yield the command line of a variant, with a folder for its logs."""
    where = "MNIST", options.root
    if variant != common.OURS:
        recipe = ["--lr", 0.001, "--l2", 0, "--seed", seed, "--epochs", options.epochs]
        yield common.peer_command(variant, options.python, *where, *recipe)
        return
    recipe = ["--model.optimizer.lr", 0.001, "--model.l2", 0, "--seed_everything", seed]
    recipe += ["--trainer.max_epochs", options.epochs, "--threads", options.cores]
    with tempfile.TemporaryDirectory() as logs:
        yield common.ours_command(*where, logs, *recipe)


def accuracy(line: str) -> float | None:
    """Return the test accuracy that a line of output tells after an epoch, if it does."""
    if line.startswith('{"seconds"'):
        return float(json.loads(line)["accuracy"])
    # Training's loss and accuracy, then validation's, which is the test set here.
    told = re.match(r" *\d+(?:/\d+)? +\S+ +[\d.]+% +\S+ +([\d.]+)% ", line)
    return round(float(told[1]) / 100, 6) if told else None


def race(command: list[str], variant: str, last: float) -> list[tuple[float, float]]:
    """Run until the accuracy ``last``; return seconds and accuracy after every epoch."""
    added = common.PEERS[variant].environment if variant in common.PEERS else {}
    epochs = []
    with tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env=common.environment(added),
        )
        with process:
            for line in process.stdout or ():
                reached = accuracy(line)
                if reached is not None:
                    epochs.append((time.perf_counter() - start, reached))
                    if reached >= last - 1e-6:
                        process.kill()
                        return epochs
        if process.returncode:
            common.failed(command, process.returncode, err)
    return epochs


def arrivals(epochs: list[tuple[float, float]], targets: list[float]) -> list[Arrival]:
    """Return when each target was first reached."""
    found = []
    for target in targets:
        there = (
            Arrival(seconds, number)
            for number, (seconds, reached) in enumerate(epochs, 1)
            if reached >= target - 1e-6
        )
        found.append(next(there, Arrival(math.nan, math.nan)))
    return found


def report(
    options: Namespace, used: dict[str, str], measured: dict[str, list[list[Arrival]]]
) -> None:
    """Print the table and append it to the CSV file."""
    header = ["MNIST, batch 64"]
    lines = {name: [common.title(name)] for name in measured}
    rows = []
    for target, rounds in zip(options.targets, by_target(measured), strict=True):
        header += [f"seconds to {target * 100:g} %", "epochs", "ours / it"]
        own = [arrival.seconds for arrival in rounds[common.OURS]]
        for name, found in rounds.items():
            every = [arrival.seconds for arrival in found]
            seconds, ratio = common.known(every), common.ratios(own, every)
            epochs = common.known([arrival.epochs for arrival in found])
            rows.append({
                "versions": used[name], "target": target, "rounds": options.rounds,
                "reached": len(seconds), "variant": name, **common.columns("seconds", seconds),
                **common.columns("ratio", ratio), **common.columns("epochs", epochs, 1),
            })  # fmt: skip
            lines[name] += [common.spread(seconds, 1), common.spread(epochs, 0)]
            lines[name] += ["1" if name == common.OURS else common.spread(ratio, 3)]
    print(common.table(header, list(lines.values())))
    print("\n" + common.caption(options.rounds, options.cores, used))
    common.append(options.output, options.cores, rows)


def by_target(measured: dict[str, list[list[Arrival]]]) -> list[dict[str, list[Arrival]]]:
    """Return every variant's rounds for each target."""
    turned = {name: list(zip(*rounds, strict=True)) for name, rounds in measured.items()}
    count = len(turned[common.OURS])
    return [{name: list(found[i]) for name, found in turned.items()} for i in range(count)]


def main() -> None:
    """Print a table, one line a variant: median (smallest to largest) over the rounds."""
    parser = common.parser(__doc__, rounds=3)
    common.add_peers(parser)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.98, 0.99])
    parser.add_argument("--epochs", type=int, default=20, help="after so many a process gives up")
    options = parser.parse_args()
    options.cores = common.pin(options.cores)
    options.targets.sort()
    common.need_data("MNIST", options.root)
    used = common.all_versions(options.python, options.peers)
    measured: dict[str, list[list[Arrival]]] = {name: [] for name in used}
    for seed, (name, rounds) in itertools.product(range(options.rounds), measured.items()):
        with command(name, seed, options) as line:
            rounds.append(arrivals(race(line, name, options.targets[-1]), options.targets))
        common.say(f"seed {seed}: {name} {', '.join(f'{a.seconds:.1f} s' for a in rounds[-1])}")
    report(options, used, measured)


if __name__ == "__main__":
    main()
