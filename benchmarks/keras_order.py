"""Accuracy of the report's CIFAR-10 setting, with a new and with one order of images an epoch.

    python -m venv .peers && .peers/bin/python -m pip install -r benchmarks/peers/requirements.txt
    python benchmarks/keras_order.py --seeds 0 1 2 3 4 --output benchmarks/results/keras_order.csv

Trains setting a (Adam 0.0005, he_normal, L2 0.001, batch 16, 40 epochs, 50,000 training images)
with this package and with Keras. Like the report it takes the best epoch on the test set: the
accuracies compare programs with each other and are not results. Writes every epoch of every run;
runs that the output has already are not repeated.
"""

import csv
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import common

DATASET = "CIFAR10"
SAME = ["--data", "same_order.SameOrder", "--allow_imports", "same_order", "--data.batch_size", 16]
VARIANTS: dict[str, tuple[str, str | None, list[object]]] = {
    "ours": ("this package, a new order every epoch", None, []),
    "ours_same": ("this package, the same order every epoch", None, SAME),
    "tensorflow": ("Keras on TensorFlow, set_random_seed", "keras_tensorflow_steps", []),
    "tensorflow_new": (
        "Keras on TensorFlow, only weights seeded",
        "keras_tensorflow_steps",
        ["--reshuffled", 1],
    ),
    "jax": ("Keras on JAX, set_random_seed", "keras_jax", []),
}


def train(variant: str, seed: int, options: Any) -> list[dict[str, Any]]:
    """Run a variant with a seed; return the rows of its epochs."""
    title, peer, changes = VARIANTS[variant]
    common.say(f"{title}, seed {seed}")
    if peer is None:
        length = ["--seed_everything", seed, "--trainer.max_epochs", options.epochs]
        epochs, _ = common.ours(DATASET, options.root, *length, *changes)
    else:
        length = ["--seed", seed, "--epochs", options.epochs]
        epochs, _ = common.peer(peer, options.python, DATASET, options.root, *length, *changes)
    packages = common.PEERS[peer].packages if peer else common.OURS_PACKAGES
    versions = common.versions(options.python if peer else sys.executable, packages)
    return [
        {
            "variant": variant,
            "seed": seed,
            "epoch": number,
            "train_accuracy": round(epoch["train_accuracy"], 6),
            "test_accuracy": round(epoch["accuracy"], 6),
            "versions": versions,
        }
        for number, epoch in enumerate(epochs, start=1)
    ]


def read(path: Path | None) -> list[dict[str, Any]]:
    """Return the rows that an output has already."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the means over seeds: best test accuracy, training accuracy in the last epoch."""
    lines = []
    for variant, (title, _, _) in VARIANTS.items():
        runs: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["variant"] == variant:
                runs.setdefault(str(row["seed"]), []).append(row)
        if runs:
            best = [100 * max(float(row["test_accuracy"]) for row in run) for run in runs.values()]
            last = [100 * float(run[-1]["train_accuracy"]) for run in runs.values()]
            lines.append([title, str(len(runs)), mean(best), mean(last)])
    return common.table(["", "n", "best epoch on test", "training images, last epoch"], lines)


def mean(values: list[float]) -> str:
    """Format mean and standard deviation in per cent."""
    if len(values) == 1:
        return f"{values[0]:.2f} %"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %"


def main() -> None:
    parser = common.parser(__doc__, rounds=1)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--python", default=str(common.PEERS_PYTHON), help="the peers' interpreter")
    options = parser.parse_args()
    common.need_data(DATASET, options.root)
    cores = common.pin(options.cores)
    os.environ["PYTHONPATH"] = str(common.HERE)  # of same_order
    rows = read(options.output)
    done = {(row["variant"], int(row["seed"])) for row in rows}
    for seed in options.seeds:
        for variant in options.variants:
            if (variant, seed) not in done:
                made = train(variant, seed, options)
                common.append(options.output, cores, made)
                rows += made
    print(table(rows))


if __name__ == "__main__":
    main()
