"""The kept files, and numbers as the pages write them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, median, stdev

from scipy import stats

DOCS = Path(__file__).resolve().parents[1]
RESULTS = DOCS.parent / "benchmarks" / "results"
Row = dict[str, str]


@cache
def rows(path: str, **columns: str) -> tuple[Row, ...]:
    """Return the rows of a CSV under ``docs`` (or ``benchmarks/results``) with these values."""
    folder = DOCS if "/" in path else RESULTS
    with (folder / path).open(newline="") as file:
        table = [row for row in csv.DictReader(file)]
    return tuple(row for row in table if all(row[k] == v for k, v in columns.items()))


def benchmark(name: str, **columns: str) -> Row:
    """Return the newest row of a benchmark with these values."""
    return rows(name, **columns)[-1]


def values(path: str, setting: str, column: str = "honest_accuracy") -> list[float]:
    """Return a column of a setting's finished runs, in the order of seeds."""
    return [float(row[column]) for row in rows(path, setting=setting) if row[column]]


def paired(path: str, first: str, second: str, column: str = "honest_accuracy") -> list[float]:
    """Return the differences ``first - second`` of runs with the same seed."""
    seeds = {row["seed"]: float(row[column]) for row in rows(path, setting=second)}
    return [
        float(row[column]) - seeds[row["seed"]] for row in rows(path, setting=first)
    ]  # fmt: skip


def spread(shares: Sequence[float], digits: int = 2, unit: str = " %") -> str:
    """Write shares as mean ± standard deviation in per cent; one share without a deviation."""
    if len(shares) == 1:
        return f"{100 * shares[0]:.{digits}f}{unit}"
    return f"{100 * fmean(shares):.{digits}f} ± {100 * stdev(shares):.{digits}f}{unit}"


def interval(shares: Sequence[float], digits: int = 2, sign: str = "") -> tuple[str, str]:
    """Write the ends of the 95 % interval of the mean, in per cent."""
    error = stdev(shares) / len(shares) ** 0.5
    low, high = (100 * end for end in stats.t.interval(0.95, len(shares) - 1, fmean(shares), error))
    return f"{low:{sign}.{digits}f}", f"{high:{sign}.{digits}f}"


def span(row: Row, column: str, digits: int) -> str:
    """Write a benchmark's median (minimum to maximum)."""
    middle, low, high = (
        f"{float(row[f'{column}_{end}']):,.{digits}f}" for end in ("median", "min", "max")
    )
    return f"{middle} ({low} to {high})"


def minutes(path: str, setting: str) -> str:
    """Write the median wall time of a setting's runs in minutes."""
    return f"{median(values(path, setting, 'seconds')) / 60:.1f}"


def table(*lines: Sequence[str]) -> str:
    """Write rows of a Markdown table, one a line."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
