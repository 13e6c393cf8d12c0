"""Processor time of starting, against importing torch and lightning alone.

    python benchmarks/startup.py --rounds 7

``imports``      ``import torch, lightning``: what any program on them pays
``help``         ``fit --help``
``wrong``        a configuration error, exit code 2
``reached``      ``import torch, lightning``, left at once
``first_step``   ``fit`` on MNIST, data proven and loaded, left at once after its first step

Python takes a second to dismantle what these imports built. The first three include that; the last
two do not, since it comes after the first step. Each is compared with the imports that end alike.

Alternating processes: a round runs each once, on one core. Processor time is user and system time
of the process and of its descendants, which other work on the machine disturbs least; ratios are
taken round by round.
"""

import itertools
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import common

# A callback that leaves at the end of the first step, without the work of a finished run.
CALLBACK = """\
import os
import sys

from lightning.pytorch import Callback


class FirstStep(Callback):
    def on_train_batch_end(self, *_):
        sys.stdout.flush()
        os._exit(0)
"""


class Start(NamedTuple):
    """What a table calls it, the arguments of Python, what to compare with, the exit code."""

    title: str
    arguments: list[str]
    against: str
    code: int = 0


def starts(options: Namespace, folder: str) -> dict[str, Start]:
    """Return what is started."""
    config = str(common.ROOT / "configs" / "report" / "mnist.yaml")
    fit = ["-m", "lenet_lightning", "fit"]
    first = [*fit, "--config", config, "--data.root", options.root, "--logs", folder]
    first += ["--trainer.accelerator", "cpu", "--allow_imports", "first_step"]
    first += ["--trainer.callbacks+", "first_step.FirstStep"]
    wrong = [*fit, "--config", config, "--model.network.activation", "rellu"]
    imports, left = "import torch, lightning", "; import os; os._exit(0)"
    return {
        "imports": Start(f"`{imports}`", ["-c", imports], "imports"),
        "help": Start("`fit --help`", [*fit, "--help"], "imports"),
        "wrong": Start("`fit` with a configuration error", wrong, "imports", 2),
        "reached": Start(f"`{imports}`, left at once", ["-c", imports + left], "reached"),
        "first_step": Start("`fit` on MNIST, left after its first step", first, "reached"),
    }


@contextmanager
def callback() -> Iterator[str]:
    """Yield a folder that holds the callback as a module, importable by the processes started."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "first_step.py"), "w") as file:
            file.write(CALLBACK)
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, before]))
        yield folder


def report(
    options: Namespace, every: dict[str, Start], measured: dict[str, list[common.Usage]]
) -> None:
    """Print the table and append it to the CSV file."""
    used = {common.OURS: common.versions(sys.executable, common.OURS_PACKAGES)}
    cpu = {name: [usage.cpu for usage in usages] for name, usages in measured.items()}
    rows, lines = [], []
    for name, start in every.items():
        wall = [usage.wall for usage in measured[name]]
        ratio = common.ratios(cpu[name], cpu[start.against])
        rows.append({
            "versions": used[common.OURS], "variant": name, "rounds": options.rounds,
            **common.columns("cpu_seconds", cpu[name]), **common.columns("wall_seconds", wall),
            "against": start.against, **common.columns("ratio", ratio),
        })  # fmt: skip
        against = "1" if name == start.against else common.spread(ratio)
        lines.append([start.title, common.spread(cpu[name]), against, common.spread(wall)])
    header = ["start", "processor seconds", "against the imports", "seconds"]
    print(common.table(header, lines))
    print("\n" + common.caption(options.rounds, options.cores, used))
    common.append(options.output, options.cores, rows)


def main() -> None:
    """Print a table, one line a start: median (smallest to largest) over the rounds."""
    parser = common.parser(__doc__, rounds=7)
    options = parser.parse_args()
    options.cores = common.pin(options.cores or 1)
    common.need_data("MNIST", options.root)
    with callback() as folder:
        every = starts(options, folder)
        measured: dict[str, list[common.Usage]] = {name: [] for name in every}
        for number, (name, start) in itertools.product(range(options.rounds + 1), every.items()):
            usage = common.run([sys.executable, *start.arguments], code=start.code)
            common.say(f"round {number}: {name} {usage.cpu:.2f} s of processor time")
            if number:  # round 0 fills the caches of files and of compiled modules
                measured[name].append(usage)
    report(options, every, measured)


if __name__ == "__main__":
    main()
