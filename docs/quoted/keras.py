"""Figures of docs/keras.md."""

from __future__ import annotations

from quoted.kept import rows, spread, table

PAGE = "docs/keras.md"
STATED = {
    "Keras 3 on TensorFlow": "the name of the release",
    "batches of 16": "configs/report/cifar10.yaml",
    "the order of 12 samples": "benchmarks/peers/keras_shuffle.py",
    "Keras 3.15.1, TensorFlow 2.21.0, JAX 0.10.2": "the environment of the peers on that day",
    "Adam 0.0005, he_normal, L2 0.001, batch 16, 40 epochs": "configs/report/cifar10.yaml",
    "all 50,000 training images": "configs/report/cifar10.yaml with data.protocol report",
}
VARIANTS = {
    "ours": "this package, a new order in every epoch",
    "ours_same": "this package, one order in every epoch",
    "tensorflow_new": "Keras on TensorFlow, only the weights seeded: new orders",
    "tensorflow": "Keras on TensorFlow, `set_random_seed`: one order",
}


def expected() -> list[str]:
    """Return the table of the page with recomputed figures."""
    lines = []
    for variant, title in VARIANTS.items():
        runs: dict[str, list[dict[str, str]]] = {}
        for row in rows("keras_order.csv", variant=variant):
            runs.setdefault(row["seed"], []).append(row)
        best = [max(float(row["test_accuracy"]) for row in run) for run in runs.values()]
        last = [float(run[-1]["train_accuracy"]) for run in runs.values()]
        lines.append((title, str(len(runs)), spread(best), spread(last)))
    return [table(*lines)]
