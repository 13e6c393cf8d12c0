"""Figures of docs/concepts.md."""

from __future__ import annotations

from statistics import stdev

from quoted import best
from quoted.kept import values
from scipy import stats

PAGE = "docs/concepts.md"
STATED = {
    "x, or 0.01 x below 0 (torch's slope; Keras's layer has 0.3)": "torch and Keras",
    "61,706 on one channel, 62,006 on three": "tests/networks/test_lenet5.py",
    "Its 60,000 parameters": "tests/networks/test_lenet5_1998.py",
    "is, say, 0.9 instead of 1": "example",
    "A test accuracy on 10,000 images": "size of the test sets",
    "near 99 %": "example",
}


def expected() -> list[str]:
    """Return the sentences of the page with recomputed figures."""
    low, high = stats.binomtest(9_900, 10_000).proportion_ci(method="wilson")
    single, distilled = (values(best.FOURTH, f"mnist_{name}") for name in ("alone", "taught"))
    ends = sorted(100 * stdev(shares) for shares in (single, distilled))
    return [
        f"is about {100 * (high - low):.1f} points wide",
        "standard deviations of {:.2f} and {:.2f} points in".format(*ends),
    ]
