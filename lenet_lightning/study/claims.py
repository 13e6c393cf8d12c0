"""Judge each claim of a study by a rule that is stated beside the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lenet_lightning import formatting
from lenet_lightning.statistics import Summary, mcnemar, paired_t, summarise
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
        summary: Of the measure, or of the differences seed by seed for a comparison.
        verdict: ``reproduced``, ``not reproduced`` or ``undecided``.
        test: The tests made, in words; empty if none fits.
    """

    setting: str
    summary: Summary
    verdict: str
    test: str = ""


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
    if claim.kind not in COMPARISONS:
        summary = summarise(list(values.values()))
        return Judgement(setting, summary, verdict(claim, summary))
    other = _values(claim.against, second, results)
    pairs = [values[seed] - other[seed] for seed in sorted(values.keys() & other.keys())]
    summary = summarise(pairs)
    named = _named_rightly(setting, first, results), _named_rightly(claim.against, second, results)
    test = _tests(claim, pairs, *named)
    return Judgement(setting, summary, verdict(claim, summary), test)


def verdict(claim: Claim, summary: Summary) -> str:
    """The rule: the whole 95 % interval over seeds must lie on one side of the threshold."""
    if not summary.has_interval:
        return UNDECIDED
    low, high = summary.low, summary.high
    if claim.kind == "lower":
        low, high = -high, -low
    allowed_low, allowed_high = {
        "at_least": (claim.value, np.inf),
        "at_most": (-np.inf, claim.value),
        "between": (claim.low, claim.high),
        "higher": (claim.margin, np.inf),
        "lower": (claim.margin, np.inf),
        "near_equal": (-claim.margin, claim.margin),
    }[claim.kind]
    # A difference of exactly nothing is not higher.
    strict = claim.kind in ("higher", "lower") and claim.margin == 0
    if (low > allowed_low if strict else low >= allowed_low) and high <= allowed_high:
        return REPRODUCED
    if high < allowed_low or low > allowed_high or (strict and high <= 0):
        return NOT_REPRODUCED
    return UNDECIDED


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


def _quality(setting: str, measure: str, results: Sequence[Result]) -> float:
    """The mean of an accuracy, or of what should be small its negative; the more, the better."""
    values = list(_values(setting, measure, results).values())
    mean = float(np.mean(values)) if values else -np.inf
    return mean if "accuracy" in measure or not values else -mean


def _tests(
    claim: Claim, pairs: list[float], first: dict[int, np.ndarray], second: dict[int, np.ndarray]
) -> str:
    """Paired t over seeds; McNemar on the test images, for accuracies."""
    parts = []
    if (p := formatting.p_value(paired_t(pairs))) and claim.kind != "near_equal":
        parts.append(f"paired t: {p}")
    if p_values := _mcnemar(first, second):
        found = sum(p < 0.05 for p in p_values)
        parts.append(f"McNemar: p < 0.05 for {found} of {len(p_values)} seeds")
    return "; ".join(parts)


def _named_rightly(setting: str, measure: str, results: Sequence[Result]) -> dict[int, np.ndarray]:
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
