"""Verdicts follow the stated rule."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from lenet_lightning import formatting, statistics
from lenet_lightning.statistics import Summary
from lenet_lightning.store.manifest import Data, Manifest
from lenet_lightning.study import claims, plan, results
from lenet_lightning.study.claim_schema import Claim
from tests.study.fakes import write_study


def claim(kind: str, **options: float) -> Claim:
    return Claim("says", kind, "best_accuracy", ("a",), against="b", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "low", "high", "verdict"),
    [
        (claim("at_least", value=0.9), 0.9, 0.95, claims.REPRODUCED),
        (claim("at_least", value=0.9), 0.8, 0.89, claims.NOT_REPRODUCED),
        (claim("at_least", value=0.9), 0.8, 0.95, claims.UNDECIDED),
        (claim("at_most", value=0.2), 0.1, 0.1, claims.REPRODUCED),
        (claim("at_most", value=0.2), 0.21, 0.3, claims.NOT_REPRODUCED),
        (claim("between", low=0.4, high=0.5), 0.41, 0.49, claims.REPRODUCED),
        (claim("between", low=0.4, high=0.5), 0.6, 0.7, claims.NOT_REPRODUCED),
        (claim("between", low=0.4, high=0.5), 0.39, 0.7, claims.UNDECIDED),
        (claim("higher"), 0.01, 0.02, claims.REPRODUCED),
        (claim("higher"), 0.0, 0.0, claims.NOT_REPRODUCED),
        (claim("higher"), -0.01, 0.02, claims.UNDECIDED),
        (claim("higher", margin=0.2), 0.01, 0.02, claims.NOT_REPRODUCED),
        (claim("lower"), -0.02, -0.01, claims.REPRODUCED),
        (claim("lower", margin=0.2), -0.5, -0.3, claims.REPRODUCED),
        (claim("lower", margin=0.2), -0.1, 0.1, claims.NOT_REPRODUCED),
        (claim("at_least", value=0.9), 0.8, 0.9, claims.UNDECIDED),
        (claim("at_most", value=0.2), 0.2, 0.3, claims.UNDECIDED),
        (claim("between", low=0.4, high=0.5), 0.4, 0.5, claims.REPRODUCED),
        (claim("between", low=0.4, high=0.5), 0.1, 0.3, claims.NOT_REPRODUCED),
        (claim("higher"), 0.0, 0.02, claims.UNDECIDED),
        (claim("higher"), -0.02, 0.0, claims.NOT_REPRODUCED),
        (claim("higher", margin=0.2), 0.2, 0.3, claims.REPRODUCED),
        (claim("lower"), -0.02, 0.0, claims.UNDECIDED),
        (claim("lower"), 0.0, 0.02, claims.NOT_REPRODUCED),
        (claim("lower", margin=0.2), -0.3, -0.2, claims.REPRODUCED),
        (claim("near_equal", margin=0.01), -0.01, 0.005, claims.REPRODUCED),
        (claim("near_equal", margin=0.01), -0.03, -0.02, claims.NOT_REPRODUCED),
        (claim("near_equal", margin=0.0), 0.0, 0.0, claims.REPRODUCED),
        (claim("near_equal", margin=0.01), -0.005, 0.01, claims.REPRODUCED),
        (claim("near_equal", margin=0.01), 0.02, 0.03, claims.NOT_REPRODUCED),
        (claim("near_equal", margin=0.01), -0.02, 0.005, claims.UNDECIDED),
    ],
)
def test_rule(asked: Claim, low: float, high: float, verdict: str) -> None:
    summary = Summary(3, (low + high) / 2, 0.01, low, high)
    assert claims.verdict(asked, summary) == verdict


def test_one_seed_decides_nothing() -> None:
    nan = float("nan")
    summary = Summary(1, 0.99, nan, nan, nan)
    assert claims.verdict(claim("at_least", value=0.9), summary) == claims.UNDECIDED


@pytest.mark.parametrize(
    ("asked", "samples"),
    [
        (claim("at_least", value=0.9), [0.91, 0.92, 0.93]),
        (claim("at_least", value=0.9), [0.89, 0.92, 0.93]),
        (claim("at_most", value=0.9), [0.91, 0.92, 0.93]),
        (claim("between", low=0.4, high=0.5), [0.44, 0.45, 0.46]),
        (claim("between", low=0.4, high=0.5), [0.48, 0.49, 0.5]),
        (claim("higher"), [0.01, 0.02, 0.015]),
        (claim("lower", margin=0.2), [-0.25, -0.3, -0.19]),
        (claim("near_equal", margin=0.01), [0.001, -0.002, 0.001]),
        (claim("at_most", value=0.0), [0.0, 0.0, 0.0]),
        (claim("higher"), [0.0, 0.0, 0.0]),
    ],
)
def test_p_is_the_smallest_level_that_decides(asked: Claim, samples: list[float]) -> None:
    p = claims._p(asked, samples, statistics.summarise(samples))
    if p not in (0.0, 1.0):  # of samples without spread
        for level, decided in ((min(0.999, 1.01 * p), True), (0.99 * p, False)):
            summary = statistics.summarise(samples, 1 - level)
            assert (claims.verdict(asked, summary) != claims.UNDECIDED) == decided
    assert (p < 0.05) == (claims.verdict(asked, statistics.summarise(samples)) != claims.UNDECIDED)


def test_a_family_of_claims_may_err_once_in_twenty() -> None:
    summary = Summary(3, 0.9, 0.01, 0.89, 0.91)
    judged = [
        claims.Judgement("a", summary, claims.REPRODUCED, p=p) for p in (0.04, 0.001, math.nan)
    ]
    assert claims.family_verdicts(judged) == [
        claims.REPRODUCED, claims.REPRODUCED, claims.UNDECIDED,
    ]  # fmt: skip
    assert claims.family_verdicts([*judged, judged[0]])[0] == claims.UNDECIDED
    edge = claims.Judgement("a", summary, claims.REPRODUCED, p=0.05)
    assert claims.family_verdicts([edge]) == [claims.UNDECIDED]


def test_the_best_of_several_settings_pays_for_the_choice(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake")
    found = results.gather(plan.load(folder / "study.yaml", check_base=False), folder)
    alone = Claim("says", "at_least", "best_accuracy", ("easy_adam",), value=0.85)
    best = Claim("says", "at_least", "best_accuracy", ("easy_ones", "easy_adam"), value=0.85)
    one, two = claims.judge(alone, found), claims.judge(best, found)
    assert two.setting == one.setting and two.summary.mean == one.summary.mean
    values = [r.measure("best_accuracy") for r in found if r.setting.name == "easy_adam"]
    assert (two.summary.low, two.summary.high) == statistics.mean_interval(values, 0.975)
    assert two.p == pytest.approx(2 * one.p) and "best of 2 settings" in two.test


def test_runs_at_chance_do_not_oscillate(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake")
    for file in folder.glob("easy_ones/seed_[01]/*/metrics.csv"):
        head, *rows = file.read_text().splitlines()
        place = head.split(",").index("test/acc")
        kept = [r.split(",") for r in rows]
        for number, row in enumerate(kept):
            row[place] = ("0.25", "0.3")[number % 2]
        file.write_text("\n".join([head, *map(",".join, kept)]) + "\n")
    found = results.gather(plan.load(folder / "study.yaml", check_base=False), folder)
    options = {"setting": ("easy_ones",), "against": "easy_adam", "against_measure": "variation"}
    judgement = claims.judge(Claim("oscillates", "higher", "variation", **options), found)
    assert judgement.verdict == claims.UNDECIDED and judgement.summary.n <= 1
    assert "runs at chance left out" in judgement.test


@dataclass(frozen=True)
class Run(results.Result):
    """A run in memory: its measures, and its answers on the test images."""

    answers: dict[str, np.ndarray] | None = None

    def predictions(self) -> dict[str, np.ndarray] | None:
        return self.answers


def runs(name: str, measure: str, values: dict[int, float], **options: Any) -> list[Run]:
    """One run for each seed, of a data set of four classes."""
    setting = plan.Setting(name, name, "", Path())
    manifest = Manifest("finished", data=Data(classes=list("abcd")))
    options = {"status": "finished", "manifest": manifest} | options
    return [Run(setting, n, measures={measure: value}, **options) for n, value in values.items()]


def answers(right: int, right_negative: int) -> dict[str, np.ndarray]:
    """The first ``right`` of 40 images, and of their negatives, are classified correctly."""
    place, labels = np.arange(40), np.zeros(40, dtype=int)
    return {
        "labels": labels,
        "original": np.where(place < right, 0, 1),
        "negative": np.where(place < right_negative, 0, 1),
    }


class TestJudgement:
    ACCURACY: ClassVar = {0: 0.91, 1: 0.92, 2: 0.94}

    def test_of_the_complete_runs_of_one_setting(self) -> None:
        found = [
            *runs("a", "best_accuracy", self.ACCURACY | {3: math.nan}),
            *runs("a", "best_accuracy", {4: 0.1}, status="failed"),
            *runs("b", "best_accuracy", {5: 0.2}),
        ]
        samples = [*self.ACCURACY.values()]
        for value, verdict in ((0.85, claims.REPRODUCED), (0.93, claims.UNDECIDED)):
            judgement = claims.judge(claim("at_least", value=value), found)
            p = statistics.bound_p(samples, value)
            assert judgement == claims.Judgement(
                "a", statistics.summarise(samples), verdict, "", pytest.approx(p)
            )

    def test_of_the_best_of_several(self) -> None:
        """The one without runs is not counted; the first one of two that do as well is taken."""
        found = [
            *runs("b", "best_accuracy", self.ACCURACY),
            *runs("a", "best_accuracy", self.ACCURACY),
        ]
        asked = Claim("says", "at_least", "best_accuracy", ("none", "a", "b"), value=0.93)
        for value, factor in ((0.85, 2), (0.93, None)):
            samples = [*self.ACCURACY.values()]
            judgement = claims.judge(replace(asked, value=value), found)
            p = statistics.bound_p(samples, value)
            assert judgement.p == pytest.approx(factor * p if factor else 1.0)
            assert (
                judgement.setting == "a" and judgement.test == "interval for the best of 2 settings"
            )
            assert judgement.summary == statistics.summarise(samples, 0.975)

    @pytest.mark.parametrize(("measure", "best"), [("honest_accuracy", "b"), ("last_loss", "a")])
    def test_of_the_highest_accuracy_or_the_lowest_loss(self, measure: str, best: str) -> None:
        found = [*runs("a", measure, {0: 0.5, 1: 0.6}), *runs("b", measure, {0: 0.5, 1: 0.7})]
        asked = Claim("says", "at_least", measure, ("a", "b", "none"), value=0.1)
        assert claims.judge(asked, found).setting == best

    def test_of_settings_without_runs(self) -> None:
        judgement = claims.judge(
            Claim("says", "at_least", "best_accuracy", ("a", "b"), value=0.1), []
        )
        assert (judgement.setting, judgement.verdict) == ("a", claims.UNDECIDED)
        assert math.isnan(judgement.p) and judgement.test == "" and judgement.summary.n == 0

    def test_of_differences_of_the_same_seeds(self) -> None:
        other = {3: 0.5, 1: 0.82, 0: 0.8, 2: 0.85}
        found = [*runs("a", "best_accuracy", self.ACCURACY), *runs("b", "last_accuracy", other)]
        asked = Claim("says", "higher", "best_accuracy", ("a",), "b", "last_accuracy")
        judgement = claims.judge(asked, found)
        differences = [0.91 - 0.8, 0.92 - 0.82, 0.94 - 0.85]
        p = statistics.paired_t(differences)
        assert judgement.summary == statistics.summarise(differences)
        assert judgement.test == f"paired t: {formatting.p_value(p)}"
        assert (judgement.verdict, judgement.p) == (claims.REPRODUCED, pytest.approx(p))

    def test_by_another_measure_of_both_sides(self) -> None:
        found = [
            replace(run, measures={"best_accuracy": 0.5, "last_accuracy": value})
            for name, values in (("a", (0.7, 0.8)), ("b", (0.4, 0.6)))
            for run, value in zip(runs(name, "", {0: 0, 1: 0}), values, strict=True)
        ]
        asked = Claim("says", "higher", "best_accuracy", ("a",), "b", "best_accuracy")
        assert claims.judge(asked, found).summary.values == (0.0, 0.0)
        values = claims.judge(asked, found, "last_accuracy").summary.values
        assert values == pytest.approx((0.3, 0.2))

    @pytest.mark.parametrize(
        ("measure", "other", "said"),
        [
            ("last_accuracy", "last_accuracy", "; McNemar: p < 0.05 for 1 of 2 seeds"),
            ("last_accuracy", "last_accuracy_negative", "; McNemar: p < 0.05 for 2 of 2 seeds"),
            (*["last_accuracy_negative"] * 2, "; McNemar: p < 0.05 for 0 of 2 seeds"),
            ("last_accuracy", "honest_accuracy_views", ""),
            ("last_loss", "last_loss", ""),
        ],
    )  # fmt: skip
    def test_by_mcnemar_of_the_same_images(self, measure: str, other: str, said: str) -> None:
        values = {2: 0.5, 1: 0.6, 0: 0.5}
        for kind, paired in (("higher", "paired t: p = "), ("near_equal", "")):
            asked = Claim("says", kind, measure, ("a",), "b", other, margin=0.1)
            found = [
                *(replace(run, answers=answers(n, 20)) for run, n in
                  zip(runs("a", measure, values), (30, 40, 30), strict=True)),
                *(replace(run, answers=answers(29, 21)) for run in
                  runs("b", other, {0: 0.2, 1: 0.2, 3: 0.2})),
            ]  # fmt: skip
            found[0] = replace(found[0], answers=None)
            judgement = claims.judge(asked, found)
            assert judgement.test.startswith(paired)
            assert f"; {judgement.test}".endswith(said) and ("McNemar" in judgement.test) == bool(
                said
            )

    def test_of_the_variation_of_what_has_left_chance(self) -> None:
        """By half of it: 0.375 of four classes is not enough."""
        best = {0: 0.375, 1: 0.38, 2: 0.9, 3: 0.8, 4: math.nan}
        found = runs("b", "variation", dict.fromkeys(best, 0.01))
        for run, value in zip(
            runs("a", "variation", dict.fromkeys(best, 0.0)), best.values(), strict=True
        ):
            measures = {"variation": 0.03 + run.seed / 1000, "best_accuracy": value}
            found.append(replace(run, measures=measures))
        asked = Claim("says", "higher", "variation", ("a",), "b", "variation")
        judgement = claims.judge(asked, found)
        assert judgement.summary.values == pytest.approx((0.021, 0.022, 0.023))
        assert judgement.test.endswith("; 2 of 5 runs at chance left out")
        for kind in ("lower", "near_equal"):
            judgement = claims.judge(replace(asked, kind=kind), found)
            assert judgement.summary.n == 5 and "chance" not in judgement.test
        learned = [run for run in found if run.seed in (1, 2, 3)]
        assert "chance" not in claims.judge(asked, learned).test
        losses = [replace(run, measures={"last_loss": run.seed / 10}) for run in found]
        asked = Claim("says", "higher", "last_loss", ("a",), "b", "last_loss")
        assert claims.judge(asked, losses).summary.n == 5


@pytest.mark.parametrize(
    ("asked", "samples", "p"),
    [
        (claim("at_least", value=0.5), [0.6], math.nan),
        (claim("at_most", value=0.5), [0.5, 0.5], 0.0),
        (claim("higher"), [0.0, 0.0], 0.0),
        (claim("near_equal", margin=0.1), [0.1, 0.1], 0.0),
        (claim("between", low=0.0, high=1.0), [0.0, 0.2, 0.4], 0.2254),
        (claim("between", low=0.0, high=0.25), [0.0, 0.2, 0.4], 0.7072),
        (claim("between", low=0.3, high=0.4), [0.0, 0.2, 0.4], 0.4778),
        (claim("between", low=0.0, high=0.1), [0.0, 0.2, 0.4], 0.4778),
        (claim("at_least", value=0.2), [0.0, 0.2, 0.4], 1.0),
    ],
)
def test_p_of_each_kind_of_range(asked: Claim, samples: list[float], p: float) -> None:
    found = claims._p(asked, samples, statistics.summarise(samples))
    assert found == pytest.approx(p, abs=1e-4, nan_ok=True)


def judged(folder: Path) -> dict[str, claims.Judgement]:
    study = plan.load(folder / "study.yaml", check_base=False)
    found = results.gather(study, folder)
    return {" ".join([c.says, *c.groups]): claims.judge(c, found) for c in study.claims}


def test_mcnemar_compares_what_the_measures_name(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake")
    study = plan.load(folder / "study.yaml", check_base=False)
    found = results.gather(study, folder)
    setting = next(name for name in study.settings if "adam" in name)
    options = {"setting": (setting,), "against": setting, "against_measure": "honest_accuracy"}
    asked = Claim("says", "lower", "honest_accuracy_negative", **options)
    (run, *_) = [r for r in found if r.setting.name == setting]
    arrays = run.predictions()
    right = [arrays[images] == arrays["labels"] for images in ("negative", "original")]
    expected = statistics.mcnemar(*right) < 0.05
    assert expected and "McNemar: p < 0.05 for 3 of 3 seeds" in claims.judge(asked, found).test
    views = Claim("says", "lower", "honest_accuracy_views", **options)
    assert "McNemar" not in claims.judge(views, found).test


def test_judgements_of_a_study(tmp_path: Path) -> None:
    found = judged(write_study(tmp_path / "fake"))
    assert found["over 85 % easy"].verdict == claims.REPRODUCED
    assert found["over 85 % easy"].setting == "easy_adam"
    assert found["over 85 % hard"].verdict == claims.NOT_REPRODUCED
    assert found["far lower easy"].verdict == claims.REPRODUCED
    assert "McNemar: p < 0.05 for 3 of 3 seeds" in found["far lower easy"].test
    assert "paired t: p <" in found["far lower easy"].test
    assert found["loss much higher"].verdict == claims.REPRODUCED


def test_another_measure_is_of_the_same_setting(tmp_path: Path) -> None:
    """One that does better by the other measure is not taken for the one that was judged."""
    folder = write_study(tmp_path / "fake")
    for file in folder.glob("easy_ones/*/*/run.json"):
        manifest = json.loads(file.read_text())
        file.write_text(json.dumps(manifest | {"test": manifest["test"] | {"acc": 1.0}}))
    found = results.gather(plan.load(folder / "study.yaml", check_base=False), folder)
    asked = Claim("says", "at_least", "best_accuracy", ("easy_ones", "easy_adam"), value=0.5)
    for measure in ("", "honest_accuracy"):
        assert claims.judge(asked, found, measure).setting == "easy_adam"


def test_the_best_of_several_has_the_lowest_loss(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake")
    found = results.gather(plan.load(folder / "study.yaml", check_base=False), folder)
    for measure in ("last_loss", "last_accuracy"):
        asked = Claim("says", "at_most", measure, ("easy_ones", "easy_adam"), value=9.0)
        assert claims.judge(asked, found).setting == "easy_adam"


def test_with_one_seed_all_is_undecided(tmp_path: Path) -> None:
    found = judged(write_study(tmp_path / "fake", seeds=1))
    assert {judgement.verdict for judgement in found.values()} == {claims.UNDECIDED}
    assert found["over 85 % easy"].summary.n == 1


def test_claims_without_runs_are_undecided(tmp_path: Path) -> None:
    skip = tuple(f"easy_ones/seed_{seed}" for seed in range(3))
    found = judged(write_study(tmp_path / "fake", skip=skip))
    assert found["far lower easy"].verdict == claims.UNDECIDED
    assert found["far lower easy"].summary.n == 0


def test_rules_in_words() -> None:
    assert claims.rule(claim("at_least", value=0.99)) == "at least 99.00 %"
    assert claims.rule(claim("at_most", value=0.125)) == "at most 12.50 %"
    assert claims.rule(claim("between", low=0.4, high=0.5)) == "from 40.00 % to 50.00 %"
    assert claims.rule(claim("near_equal", margin=0.01)) == "within 1 point of each other"
    assert claims.rule(claim("lower", margin=0.2)) == "lower by 20 points or more"
    assert claims.rule(claim("higher")) == "higher"
    assert claims.rule(claim("higher", margin=0.01)) == "higher by 1 point or more"
    losses = Claim("says", "near_equal", "last_loss", ("a",), against="b", margin=0.5)
    assert claims.rule(losses) == "within 0.5 of each other"
    assert claims.rule(replace(losses, kind="lower")) == "lower by 0.5 or more"
    assert claims.rule(replace(losses, kind="at_most", value=0.25)) == "at most 0.250"


@pytest.mark.parametrize(
    ("kind", "measure", "against", "selected"),
    [
        ("at_least", "best_accuracy", "best_accuracy", "honest_accuracy"),
        ("at_least", "last_accuracy_negative", "other", "honest_accuracy_negative"),
        ("higher", "best_accuracy_views", "best_accuracy_views", "honest_accuracy_views"),
        ("higher", "best_accuracy", "best_accuracy_negative", ""),
        ("at_most", "last_loss", "last_loss", ""),
        ("at_least", "honest_accuracy", "honest_accuracy", ""),
    ],
)
def test_measure_that_no_test_image_selected(
    kind: str, measure: str, against: str, selected: str
) -> None:
    asked = Claim("says", kind, measure, ("a",), against="b", against_measure=against)
    assert claims.honest_measure(asked) == selected
