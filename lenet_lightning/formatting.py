"""Format numbers and times for people: accuracies in per cent, differences in points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenet_lightning.statistics import Summary, peaks

NONE = "\u2013"


def csv_cell(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula: those begin with ``= + - @``.

    Numbers stay as they are.
    """
    if text[:1] in ("=", "+", "-", "@", "\t", "\r"):
        try:
            float(text)
        except ValueError:
            return f"'{text}"
    return text


def number(value: float, measure: str, signed: bool = False) -> str:
    """A value of a measure: ``98.76 %``, or ``0.4321`` for a loss; a dash for NaN."""
    if math.isnan(value):
        return NONE
    sign = "+" if signed else ""
    if "loss" in measure:
        return f"{value:{sign}.3f}" if abs(value) < 1000 else f"{value:{sign}.3g}"
    return f"{100 * value:{sign}.2f}" + (" points" if signed or measure == "variation" else " %")


def loss(value: float) -> str:
    """A loss of four decimals, from 100 on of three digits: ``0.1234``, ``1.23e+07``."""
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.3g}"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text: the first column flush left, the others flush right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        lines.append("   ".join([f"{first:{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)


def interval(low: float, high: float, measure: str, signed: bool = False) -> str:
    """``[98.50, 99.02]`` in per cent (or points), ``[0.10, 0.30]`` for a loss."""
    if math.isnan(low) or math.isnan(high):
        return NONE
    sign = "+" if signed else ""
    if "accuracy" in measure and not signed:
        low, high = max(low, 0.0), min(high, 1.0)
    if "loss" in measure:
        return f"[{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"[{100 * low:{sign}.2f}, {100 * high:{sign}.2f}]"


def mean_sd(summary: Summary, measure: str, signed: bool = False) -> str:
    """Mean and standard deviation over seeds: ``98.76 ± 0.12 %``.

    One value stands alone; values that round to the same are ``98.76 %, no spread seen``. Shares
    in two groups far apart are counted instead, for none lies near their mean:
    ``2 runs at 10.00 %, 1 at 78.87 %``.
    """
    if summary.n == 0:
        return NONE
    text = number(summary.mean, measure, signed)
    if not summary.has_interval:
        return text
    if groups := split(summary, measure):
        first, *rest = [(len(g), number(float(g.mean()), measure, signed)) for g in groups]
        runs = "1 run" if first[0] == 1 else f"{first[0]} runs"
        return ", ".join([f"{runs} at {first[1]}", *(f"{n} at {value}" for n, value in rest)])
    value, _, unit = text.partition(" ")
    sd = f"{summary.sd:.3f}" if "loss" in measure else f"{100 * summary.sd:.2f}"
    if not float(sd):
        return f"{text}, no spread seen"
    return f"{value} ± {sd} {unit}".strip()


def mean_interval(summary: Summary, measure: str, signed: bool = False) -> str:
    """The interval of the mean, a dash where the values are in two groups: it assumes one."""
    if split(summary, measure):
        return NONE
    return interval(summary.low, summary.high, measure, signed)


def split(summary: Summary, measure: str) -> list[NDArray[np.float64]]:
    """The two groups that shares are in; empty for one group and for losses."""
    groups = [] if "loss" in measure else peaks(summary.values)
    return groups if len(groups) > 1 else []


def margin(value: float, measure: str) -> str:
    """``1 point``, ``20 points``, or the plain number for a loss."""
    if "loss" in measure:
        return f"{value:g}"
    return f"{100 * value:g} point" + ("" if value == 0.01 else "s")


def p_value(p: float) -> str:
    """``p = 0.012`` or ``p < 0.0001``."""
    if math.isnan(p):
        return ""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def duration(seconds: float) -> str:
    """Format a time for people: ``48 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
