"""Intervals and tests, as pure functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray

WARM_UP = 5
"""Epochs left out of the epoch-to-epoch variation, while every curve still rises."""


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval of the mean of independent values.

    Args:
        values: two or more.
        confidence: in (0, 1).
    """
    from scipy import stats  # here, because importing it takes longer than one table

    # Not interval(..., scale=): it has no answer where all values are the same.
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return fmean(values) - half, fmean(values) + half


@dataclass(frozen=True)
class Summary:
    """Values of several seeds, summed up.

    Attributes:
        n: How many finite values there are.
        mean: Their mean; NaN for none.
        sd: Their sample standard deviation; NaN below two values.
        low: Lower end of the 95 % t interval of the mean; NaN below two values.
        high: Upper end of it.
        values: The finite values.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    values: tuple[float, ...] = ()

    @property
    def has_interval(self) -> bool:
        """Whether there were values enough for an interval."""
        return self.n >= 2


def summarise(values: ArrayLike, confidence: float = 0.95) -> Summary:
    """Mean, standard deviation and Student's t interval of the mean; NaN values are left out."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    n = len(finite)
    mean = float(finite.mean()) if n else math.nan
    if n < 2:
        return Summary(n, mean, math.nan, math.nan, math.nan, tuple(finite.tolist()))
    low, high = mean_interval(finite.tolist(), confidence)
    return Summary(n, mean, float(finite.std(ddof=1)), low, high, tuple(finite.tolist()))


def wilson(share: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson, 1927, JASA 22, 209-212).

    Not scipy's, which takes whole counts only: the mean accuracy of several seeds is none.

    Args:
        share: The proportion found, in [0, 1]; NaN gives NaN.
        count: Of how many test images; 0 gives NaN.
        confidence: The coverage, in (0, 1).
    """
    if count <= 0 or math.isnan(share):
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    return max(0.0, center - half), min(1.0, center + half)


def paired_t(differences: ArrayLike) -> float:
    """Two-sided p of Student's paired t test; NaN below two pairs, 0 or 1 without spread."""
    values = np.asarray(differences, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return math.nan
    from scipy import stats

    # Not ttest_1samp, which warns of values that differ only by rounding.
    error = float(stats.sem(values)) if np.ptp(values) else 0.0
    if not error:
        return 0.0 if values[0] else 1.0
    return float(2 * stats.t.sf(abs(values.mean()) / error, len(values) - 1))


def bound_p(values: ArrayLike, bound: float) -> float:
    """Two-sided p of Student's t test that the mean is ``bound``; see :func:`paired_t`."""
    return paired_t(np.asarray(values, dtype=float) - bound)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number (Holm, 1979, Scand. J. Statist. 6, 65-70).

    Args:
        p_values: of a family of tests; NaN is not counted and stays NaN.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = highest
    return adjusted


def peaks(values: ArrayLike) -> list[NDArray[np.float64]]:
    """Part values in [0, 1] into two groups where their mean lies near none of them.

    Two groups, if there are three values or more and the widest gap between them, sorted, is wider
    than 0.1 and than twice the range of either group; else one. NaN values are left out.
    """
    finite = np.asarray(values, dtype=float)
    finite = np.sort(finite[np.isfinite(finite)])
    gaps = np.diff(finite)
    if len(gaps) > 1:
        place = int(gaps.argmax()) + 1
        groups = [finite[:place], finite[place:]]
        if gaps[place - 1] > max(0.1, *(2 * float(np.ptp(group)) for group in groups)):
            return groups
    return [finite]


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Exact two-sided p of McNemar's test of two networks on the same test images.

    McNemar, 1947, Psychometrika 12, 153-157, in its exact binomial form.

    Args:
        first: Whether the first network is right, bool [N].
        second: Whether the second one is, bool [N].
    """
    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(~first & second))
    discordant = only_first + only_second
    if not discordant:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(only_first, discordant, 0.5).pvalue)


def variation(accuracy: ArrayLike, skip: int = WARM_UP) -> float:
    """Sample standard deviation of a curve's epoch-to-epoch differences.

    Args:
        accuracy: One value for each epoch, [E].
        skip: Epochs left out at the start.

    Returns:
        The same unit as the curve; NaN where fewer than two differences remain.
    """
    differences = np.diff(np.asarray(accuracy, dtype=float)[skip:])
    return float(differences.std(ddof=1)) if len(differences) >= 2 else math.nan


def confusion(labels: NDArray[np.int_], predicted: NDArray[np.int_], classes: int) -> NDArray:
    """Counts of test images, int64 [true class, predicted class]."""
    cells = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
