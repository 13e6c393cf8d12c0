"""One epoch of training and evaluation: this package against peers, in alternating processes.

    python -m venv .peers && .peers/bin/python -m pip install -r benchmarks/peers/requirements.txt
    python benchmarks/epoch.py --dataset MNIST --rounds 5
    python benchmarks/epoch.py --dataset CIFAR10 --peers bare_torch

Every variant trains LeNet-5 from he_normal with Adam and L2 on all training images and evaluates
the test set after every epoch, on the same cores. Ours runs the whole product: progress bar,
TensorBoard, CSV, checkpoints, and the negatives too; the peers evaluate originals only, except the
bare loop. A round runs each variant once; each process trains one epoch to warm up and reports the
median of the following ones. Ratios are taken round by round. Peak memory is the largest resident
set of the whole process, imports and data included. Accuracy is that of the last epoch.
"""

import statistics
from argparse import Namespace
from typing import Any

import common


def measure(variant: str, options: Namespace) -> tuple[float, float, float]:
    """Run a variant once; return seconds of an epoch, MB and accuracy."""
    where = options.dataset, options.root
    if variant == common.OURS:
        changes = ["--trainer.max_epochs", options.epochs, "--threads", options.cores]
        epochs, usage = common.ours(*where, *changes)
    else:
        epochs, usage = common.peer(variant, options.python, *where, "--epochs", options.epochs)
    seconds = statistics.median(epoch["seconds"] for epoch in epochs[1:])
    return seconds, usage.peak_mb, epochs[-1]["accuracy"]


def report(options: Namespace, used: dict[str, str], measured: dict[str, list[Any]]) -> None:
    """Print the table and append it to the CSV file."""
    columns = {name: list(zip(*runs, strict=True)) for name, runs in measured.items()}
    rows, lines = [], []
    for name, (seconds, memory, accuracy) in columns.items():
        ratio = common.ratios(columns[common.OURS][0], seconds)
        peak, right = statistics.median(memory), statistics.median(accuracy)
        rows.append({
            "versions": used[name], "dataset": options.dataset, "rounds": options.rounds,
            "variant": name, **common.columns("seconds", seconds),
            **common.columns("ratio", ratio), "peak_mb": f"{peak:.0f}", "accuracy": f"{right:.4f}",
        })  # fmt: skip
        against = "1" if name == common.OURS else common.spread(ratio, 3)
        cells = [common.title(name), common.spread(seconds), against, f"{peak:,.0f}"]
        lines.append([*cells, f"{right:.2%}"])
    first = f"{options.dataset}, batch {common.BATCH[options.dataset]}"
    header = [first, "seconds", "ours / it", "peak MB", f"accuracy, epoch {options.epochs}"]
    print(common.table(header, lines))
    print("\n" + common.caption(options.rounds, options.cores, used))
    common.append(options.output, options.cores, rows)


def main() -> None:
    """Print a table, one line a variant: median (smallest to largest) over the rounds."""
    parser = common.parser(__doc__, rounds=5)
    common.add_peers(parser)
    parser.add_argument("--dataset", choices=sorted(common.BATCH), default="MNIST")
    parser.add_argument("--epochs", type=int, default=3, help="of a process, the first unused")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs: expected at least 2, the first is not measured")
    options.cores = common.pin(options.cores)
    common.need_data(options.dataset, options.root)
    used = common.all_versions(options.python, options.peers)
    measured: dict[str, list[Any]] = {name: [] for name in used}
    for number in range(options.rounds):
        for name, runs in measured.items():
            runs.append(measure(name, options))
            common.say(f"round {number + 1}: {name} {runs[-1][0]:.2f} s, {runs[-1][1]:.0f} MB")
    report(options, used, measured)


if __name__ == "__main__":
    main()
