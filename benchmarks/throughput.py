"""Runs per hour of a study: two at a time, one at a time, and with torch's own operators.

    python benchmarks/throughput.py --rounds 3

A study of MNIST with the report's setting runs from start to report in alternating processes:

``two``    ``study --jobs 2``
``one``    ``study --jobs 1``
``eager``  ``study --jobs 1`` with ``model.network.kernel: torch``: one run at a time on all cores

Whole is the command from start to end. Training is the part between the start of the first run and
the end of the last: without imports, the check of the configurations and the report, which a study
pays once however many runs it has. With ``--runs`` and ``--epochs`` as large as a real study's the
two agree.
"""

import itertools
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import common


class Variant(NamedTuple):
    """What a table calls it, how many runs at a time, and the kernel."""

    title: str
    jobs: int
    kernel: str


VARIANTS = {
    "two": Variant("`study --jobs 2`", 2, "auto"),
    "one": Variant("`study --jobs 1`", 1, "auto"),
    "eager": Variant("`study --jobs 1`, `model.network.kernel: torch`", 1, "torch"),
}

STUDY = """\
name: throughput
title: Runs per hour
base: {base}
seeds: {seeds}
trainer.max_epochs: {epochs}
trainer.accelerator: cpu
trainer.enable_progress_bar: false
model.network.kernel: {kernel}
data.root: {root}
settings:
  adam: {{title: Adam}}
"""


class Speed(NamedTuple):
    """Runs per hour of the whole command, and of its training alone."""

    whole: float
    training: float


def measure(variant: Variant, options: Namespace) -> Speed:
    """Run the study once."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "throughput.yaml"
        file.write_text(
            STUDY.format(
                base=common.ROOT / "configs" / "report" / "mnist.yaml",
                seeds=list(range(options.runs)),
                epochs=options.epochs,
                kernel=variant.kernel,
                root=Path(options.root).resolve(),
            )
        )
        command = [sys.executable, "-m", "lenet_lightning", "study", "--config", str(file)]
        usage = common.run([*command, "--jobs", str(variant.jobs), "--logs", folder])
        seconds = training_seconds(Path(folder), options.runs)
    return Speed(*(options.runs * 3600 / x for x in (usage.wall, seconds)))


def training_seconds(logs: Path, runs: int) -> float:
    """Return the seconds from the first run's first file to the last run's last one."""
    started = [path.stat().st_mtime for path in logs.glob("*/*/*/version_*/config.yaml")]
    ended = [path.stat().st_mtime for path in logs.glob("*/*/*/version_*/run.json")]
    if len(started) != runs or len(ended) != runs:
        raise SystemExit(f"The study left {len(ended)} runs instead of {runs}.")
    return max(ended) - min(started)


def report(options: Namespace, measured: dict[str, list[Speed]]) -> None:
    """Print the table and append it to the CSV file."""
    used = {common.OURS: common.versions(sys.executable, common.OURS_PACKAGES)}
    rows, lines = [], []
    for name in measured:
        row = {"versions": used[common.OURS], "variant": name, "rounds": options.rounds}
        row |= {"runs": options.runs, "epochs": options.epochs}
        cells = [VARIANTS[name].title]
        for part in Speed._fields:
            values, eager = (
                [getattr(speed, part) for speed in measured[which]] for which in (name, "eager")
            )
            ratio = common.ratios(values, eager)
            row |= common.columns(f"{part}_runs_per_hour", values, 1)
            row |= common.columns(f"{part}_ratio", ratio)
            cells += [common.spread(values, 0), "1" if name == "eager" else common.spread(ratio)]
        rows.append(row)
        lines.append(cells)
    first = f"{options.runs} MNIST runs of {options.epochs} epochs"
    header = [first, "whole, runs an hour", "against eager"]
    print(common.table([*header, "training, runs an hour", "against eager"], lines))
    print("\n" + common.caption(options.rounds, options.cores, used))
    common.append(options.output, options.cores, rows)


def main() -> None:
    """Print a table, one line a variant: median (smallest to largest) over the rounds."""
    parser = common.parser(__doc__, rounds=3)
    parser.add_argument("--runs", type=int, default=4, help="runs of the study, one a seed")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each run")
    options = parser.parse_args()
    options.cores = common.pin(options.cores)
    common.need_data("MNIST", options.root)
    measured: dict[str, list[Speed]] = {name: [] for name in VARIANTS}
    for number, (name, speeds) in itertools.product(range(options.rounds), measured.items()):
        speeds.append(measure(VARIANTS[name], options))
        common.say(
            f"round {number + 1}: {name} {speeds[-1].whole:.0f} runs an hour, "
            f"{speeds[-1].training:.0f} while training"
        )
    report(options, measured)


if __name__ == "__main__":
    main()
