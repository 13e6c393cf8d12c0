"""The statistics against scipy's own, and against values known from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lenet_lightning import statistics


def test_interval_is_students() -> None:
    values = [0.91, 0.93, 0.95, 0.92]
    summary = statistics.summarise([*values, math.nan])
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert summary.n == 4
    assert (summary.low, summary.high) == pytest.approx((low, high))
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summary.mean == pytest.approx(np.mean(values))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_confidence_is_a_choice(confidence: float) -> None:
    summary = statistics.summarise([0.5, 0.7], confidence)
    expected = stats.t.interval(confidence, 1, 0.6, stats.sem([0.5, 0.7]))
    assert summary.has_interval and (summary.low, summary.high) == pytest.approx(expected)
    for correct, n in ((7, 10), (1, 1)):
        expected = stats.binomtest(correct, n).proportion_ci(confidence, method="wilson")
        found = statistics.wilson(correct / n, n, confidence)
        assert found == pytest.approx((expected.low, expected.high))


def test_interval_of_equal_values_has_no_width() -> None:
    assert statistics.mean_interval([0.25, 0.25]) == (0.25, 0.25)


def test_one_value_has_no_interval() -> None:
    summary = statistics.summarise([0.5])
    assert (summary.n, summary.mean, summary.has_interval) == (1, 0.5, False)
    assert all(map(math.isnan, (summary.sd, summary.low, summary.high)))
    assert statistics.summarise([]).n == 0


@pytest.mark.parametrize(("correct", "n"), [(9_900, 10_000), (0, 10), (10, 10), (30, 100)])
def test_wilson_is_scipys(correct: int, n: int) -> None:
    expected = stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert statistics.wilson(correct / n, n) == pytest.approx((expected.low, expected.high))


def test_wilson_of_nothing() -> None:
    assert all(map(math.isnan, statistics.wilson(math.nan, 10)))
    assert all(map(math.isnan, statistics.wilson(0.5, 0)))


def test_paired_t_is_scipys() -> None:
    first, second = np.array([0.9, 0.92, 0.95]), np.array([0.88, 0.91, 0.9])
    expected = stats.ttest_rel(first, second).pvalue
    assert statistics.paired_t(first - second) == pytest.approx(expected)


def test_holm_is_statsmodels() -> None:
    # statsmodels.stats.multitest.multipletests([.01, .04, .03, .005], method="holm")
    found = statistics.holm([0.01, 0.04, math.nan, 0.03, 0.005])
    assert found[:2] + found[3:] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert math.isnan(found[2])
    assert statistics.holm([0.4, 0.9, 0.8]) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        ([0.1, 0.79, math.nan, 0.1], [2, 1]),
        ([0.98, 0.99, 0.97], [3]),
        ([0.1, 0.3, 0.5], [3]),
        ([0.1, 0.3], [2]),
        ([0.5], [1]),
        ([], [0]),
    ],
)
def test_peaks(values: list[float], sizes: list[int]) -> None:
    assert [len(group) for group in statistics.peaks(values)] == sizes


def test_paired_t_without_spread() -> None:
    assert statistics.paired_t([0.0, 0.0]) == 1.0
    assert statistics.paired_t([0.5, 0.5]) == 0.0
    assert math.isnan(statistics.paired_t([0.5]))


def test_paired_t_of_values_that_differ_by_rounding_alone() -> None:
    assert statistics.paired_t([0.1, 0.1, 0.3 - 0.2]) < 1e-9
    assert statistics.paired_t([5e-324, 0.0]) in (0.0, 1.0)


def test_mcnemar_counts_discordant_images_only() -> None:
    first = np.array([True] * 50 + [True] * 8 + [False] * 1)
    second = np.array([True] * 50 + [False] * 8 + [True] * 1)
    # Two-sided exact binomial of 8 out of 9: 2 (9 + 1) / 2^9.
    assert statistics.mcnemar(first, second) == pytest.approx(20 / 512)
    assert statistics.mcnemar(first, first) == 1.0


def test_variation_leaves_out_the_first_epochs() -> None:
    curve = [0.1, 0.9, 0.2, 0.8, 0.3, 0.5, 0.6, 0.5, 0.7]
    assert statistics.variation(curve) == pytest.approx(np.std([0.1, -0.1, 0.2], ddof=1))
    assert math.isnan(statistics.variation(curve[:7]))
    assert statistics.variation(curve[:8]) == pytest.approx(np.std([0.1, -0.1], ddof=1))


def test_a_steady_rise_does_not_vary() -> None:
    assert statistics.variation(np.linspace(0, 1, 20)) == pytest.approx(0)


def test_confusion_rows_are_true_classes() -> None:
    counts = statistics.confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
