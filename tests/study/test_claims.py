"""Verdicts follow the stated rule."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lenet_lightning import statistics
from lenet_lightning.statistics import Summary
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
    options = {"settings": ("easy_ones",), "against": "easy_adam", "against_measure": "variation"}
    judgement = claims.judge(Claim("oscillates", "higher", "variation", **options), found)
    assert judgement.verdict == claims.UNDECIDED and judgement.summary.n <= 1
    assert "runs at chance left out" in judgement.test


def judged(folder: Path) -> dict[str, claims.Judgement]:
    study = plan.load(folder / "study.yaml", check_base=False)
    found = results.gather(study, folder)
    return {f"{c.says} {c.group}".strip(): claims.judge(c, found) for c in study.claims}


def test_mcnemar_compares_what_the_measures_name(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake")
    study = plan.load(folder / "study.yaml", check_base=False)
    found = results.gather(study, folder)
    setting = next(name for name in study.settings if "adam" in name)
    options = {"settings": (setting,), "against": setting, "against_measure": "honest_accuracy"}
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
