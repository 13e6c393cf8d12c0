"""Figures of docs/python.md."""

from __future__ import annotations

from quoted.kept import benchmark

PAGE = "docs/python.md"
STATED = {
    "about 250 kB each": "lenet_lightning/weights",
    "200 pictures each": "benchmarks/own_pictures.py",
    "(n = 200)": "benchmarks/own_pictures.py",
}
SETS = {
    "drawn": "digits of fonts and of pens, on all kinds of paper: `mnist`",
    "pasted": "MNIST's test digits, on paper as a telephone photographs it: `mnist`",
}


def expected() -> list[str]:
    """Return the rows of the table of own pictures."""
    lines = []
    for kind, title in SETS.items():
        names = {"best_mnist_distilled": title, "polarity_mnist": "the same: `mnist_polarity`"}
        for network, name in names.items():
            row = benchmark("own_pictures.csv", set=kind, network=network)
            before, after, low, high = (
                f"{100 * float(row[key]):.1f}" for key in ("as_they_are", "found", "low", "high")
            )
            lines.append(f"| {name} | {before} % | {after} % | {low} to {high} % |")
    return ["\n".join(lines)]
