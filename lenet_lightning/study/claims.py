"""Judge each claim of a study by a rule that is stated beside the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lenet_lightning import formatting
from lenet_lightning.statistics import Summary, bound_p, holm, mcnemar, paired_t, summarise
from lenet_lightning.study.claim_schema import Claim
from lenet_lightning.study.results import Result

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
COMPARISONS = ("higher", "lower", "near_equal")


@dataclass(frozen=True)
class Judgement:
    """What the runs say about a claim by one measure.

    Attributes:
        setting: The setting that was judged (the best one, if the claim names several).
        summary: Of the measure, or of the differences seed by seed for a comparison. The interval
            is a simultaneous one of all settings where the best of several was chosen (Bonferroni).
        verdict: ``reproduced``, ``not reproduced`` or ``undecided``.
        test: The tests made, in words; empty if none fits.
        p: The smallest level at which the interval decides, that is, p < 0.05 where the verdict is
            not ``undecided``; NaN without an interval.
    """

    setting: str
    summary: Summary
    verdict: str
    test: str = ""
    p: float = math.nan


def judge(claim: Claim, results: Sequence[Result], measure: str = "") -> Judgement:
    """Judge a claim on the complete runs of its settings.

    Args:
        claim: The claim.
        results: Every run of the study.
        measure: Another measure than the claim's, of the same setting, and for both sides of a
            comparison.
    """
    first, second = measure or claim.measure, measure or claim.against_measure
    # The order of the file breaks ties, so that the choice never depends on the runs' order.
    setting = max(claim.settings, key=lambda name: _quality(name, claim.measure, results))
    values = _values(setting, first, results)
    notes = []
    if first == "variation" and claim.kind == "higher":
        learned = _left_chance(setting, results)
        if len(learned) < len(values):
            notes.append(f"{len(values) - len(learned)} of {len(values)} runs at chance left out")
        values = {seed: value for seed, value in values.items() if seed in learned}
    samples = list(values.values())
    if claim.kind in COMPARISONS:
        other = _values(claim.against, second, results)
        samples = [values[seed] - other[seed] for seed in sorted(values.keys() & other.keys())]
        sides = (_correct(setting, first, results), _correct(claim.against, second, results))
        notes = [*_tests(claim, samples, *sides), *notes]
    candidates = sum(bool(_values(name, claim.measure, results)) for name in claim.settings) or 1
    if candidates > 1:
        notes.append(f"interval for the best of {candidates} settings")
    summary = summarise(samples, 1 - 0.05 / candidates)
    p = min(candidates * _p(claim, samples, summary), 1.0)  # in this order NaN stays NaN
    return Judgement(setting, summary, verdict(claim, summary), "; ".join(notes), p)


def family_verdicts(judged: Sequence[Judgement]) -> list[str]:
    """The verdicts that stand when all claims together may err in 5 % of studies (Holm)."""
    adjusted = holm([judgement.p for judgement in judged])
    return [
        judgement.verdict if p < 0.05 else UNDECIDED
        for judgement, p in zip(judged, adjusted, strict=True)
    ]


def verdict(claim: Claim, summary: Summary) -> str:
    """The rule: the whole interval over seeds must lie on one side of the threshold."""
    if not summary.has_interval:
        return UNDECIDED
    allowed_low, allowed_high = _allowed(claim)
    low, high = summary.low, summary.high
    # A difference of exactly nothing is neither higher nor lower.
    strict = claim.kind in ("higher", "lower") and claim.margin == 0
    if low >= allowed_low and high <= allowed_high and not (strict and low <= 0 <= high):
        return REPRODUCED
    if high < allowed_low or low > allowed_high:
        return NOT_REPRODUCED
    if strict and (high <= 0 if claim.kind == "higher" else low >= 0):
        return NOT_REPRODUCED
    return UNDECIDED


def _allowed(claim: Claim) -> tuple[float, float]:
    """The range of the measure, or of the difference, that the claim states."""
    return {
        "at_least": (claim.value, np.inf),
        "at_most": (-np.inf, claim.value),
        "between": (claim.low, claim.high),
        "higher": (claim.margin, np.inf),
        "lower": (-np.inf, -claim.margin),
        "near_equal": (-claim.margin, claim.margin),
    }[claim.kind]


def _p(claim: Claim, samples: list[float], summary: Summary) -> float:
    """The smallest level at which the t interval of the samples decides; NaN for fewer than two."""
    low, high = _allowed(claim)
    if not summary.has_interval:
        return math.nan
    if summary.sd == 0:  # a bound may itself be allowed
        return 1.0 if verdict(claim, summary) == UNDECIDED else 0.0
    if low <= summary.mean <= high:
        bounds = [bound for bound in (low, high) if np.isfinite(bound)]
        return max(bound_p(samples, bound) for bound in bounds)
    return bound_p(samples, low if summary.mean < low else high)


def rule(claim: Claim) -> str:
    """How the claim is read, in words and numbers."""

    def text(value: float) -> str:
        return formatting.number(value, claim.measure)

    match claim.kind:
        case "at_least":
            return f"at least {text(claim.value)}"
        case "at_most":
            return f"at most {text(claim.value)}"
        case "between":
            return f"from {text(claim.low)} to {text(claim.high)}"
        case "near_equal":
            return f"within {formatting.margin(claim.margin, claim.measure)} of each other"
        case _:
            by = f" by {formatting.margin(claim.margin, claim.measure)} or more"
            return claim.kind + (by if claim.margin else "")


def honest_measure(claim: Claim) -> str:
    """The measure that no test image chose, where the claim's has one; empty otherwise."""
    which, _, rest = claim.measure.partition("_")
    if claim.against_measure != claim.measure and claim.kind in COMPARISONS:
        return ""
    return f"honest_{rest}" if which in ("best", "last") and "accuracy" in rest else ""


def _values(setting: str, measure: str, results: Sequence[Result]) -> dict[int, float]:
    """The measure by seed, of the complete runs that have it."""
    found = {
        r.seed: r.measure(measure) for r in results if r.setting.name == setting and r.complete
    }
    return {seed: value for seed, value in found.items() if np.isfinite(value)}


def _left_chance(setting: str, results: Sequence[Result]) -> set[int]:
    """The seeds of the runs that were ever clearly above chance: by half of it."""
    best = _values(setting, "best_accuracy", results)
    return {
        r.seed
        for r in results
        if r.setting.name == setting and best.get(r.seed, 0) > 1.5 * r.chance
    }


def _quality(setting: str, measure: str, results: Sequence[Result]) -> float:
    """The mean of an accuracy, or of what should be small its negative; the more, the better."""
    values = list(_values(setting, measure, results).values())
    mean = float(np.mean(values)) if values else -np.inf
    return mean if "accuracy" in measure or not values else -mean


def _tests(
    claim: Claim, pairs: list[float], first: dict[int, np.ndarray], second: dict[int, np.ndarray]
) -> list[str]:
    """Paired t over seeds; McNemar on the test images, for accuracies; in words."""
    parts = []
    if (p := formatting.p_value(paired_t(pairs))) and claim.kind != "near_equal":
        parts.append(f"paired t: {p}")
    if p_values := _mcnemar(first, second):
        found = sum(p < 0.05 for p in p_values)
        parts.append(f"McNemar: p < 0.05 for {found} of {len(p_values)} seeds")
    return parts


def _correct(setting: str, measure: str, results: Sequence[Result]) -> dict[int, np.ndarray]:
    """By seed, which test images, or negatives, an accuracy counts as right; empty for others."""
    if "accuracy" not in measure or measure.endswith("views"):
        return {}
    images = "negative" if measure.endswith("negative") else "original"
    return {
        result.seed: arrays[images] == arrays["labels"]
        for result in results
        if result.setting.name == setting and (arrays := result.predictions()) is not None
    }


def _mcnemar(first: dict[int, np.ndarray], second: dict[int, np.ndarray]) -> list[float]:
    """One exact p for every seed that both settings ran."""
    seeds = sorted(first.keys() & second.keys())
    return [mcnemar(first[seed], second[seed]) for seed in seeds]
