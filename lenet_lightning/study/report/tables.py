"""The tables of a report and its two CSV files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lenet_lightning import formatting
from lenet_lightning.statistics import Summary, summarise, wilson
from lenet_lightning.study.claim_schema import MEASURES, Claim
from lenet_lightning.study.claims import Judgement, family_verdicts, honest_measure, judge, rule
from lenet_lightning.study.plan import Setting, Study
from lenet_lightning.study.report import document as doc
from lenet_lightning.study.results import Result

TIMING = ("seconds", "epoch_seconds", "started")
"""The columns of ``results.csv`` that differ when the same study is run again."""

NEGATIVES = {
    "Best epoch on test": "best_accuracy_negative",
    "Last epoch on test": "last_accuracy_negative",
    "Epoch selected on validation": "honest_accuracy_negative",
    "Predictions that differ from the original's": "differing_predictions",
    "Loss, epoch selected on validation": "honest_loss_negative",
    "Loss on originals, epoch selected on validation": "honest_loss",
    "Loss, last epoch": "last_loss_negative",
    "Loss on originals, last epoch": "last_loss",
}
"""The columns of the table of negatives, and their measures."""


def run_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row for every run: what it was, how it ended, each measure as a plain number."""
    rows = []
    for result in results:
        manifest = result.manifest
        row: dict[str, Any] = {
            "group": result.setting.group,
            "setting": result.setting.name,
            "title": result.setting.title,
            "seed": result.seed,
            "status": result.status,
            "protocol": manifest.protocol,
            "dataset": manifest.data.name,
            "test_images": manifest.data.test_size or "",
            "folder": result.folder,
            "epochs": manifest.epochs if result.folder else "",
            "best_epoch": manifest.best_epoch,
        }
        row |= {name: result.measure(name) if result.complete else math.nan for name in MEASURES}
        row["code"] = manifest.code
        row["device"] = manifest.hardware.device
        row |= {name: getattr(manifest, name) if result.folder else "" for name in TIMING}
        row["error"] = result.error
        rows.append(row)
    return rows


def summary_rows(study: Study, results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row for every setting: each measure's mean, deviation and interval over seeds."""
    rows = []
    for setting in study.settings.values():
        own = complete(setting, results)
        row: dict[str, Any] = {
            "group": setting.group,
            "setting": setting.name,
            "title": setting.title,
            "runs": len(own),
            "nonfinite": sum(result.status == "nonfinite" for result in own),
        }
        for name in MEASURES:
            summary = _summary(own, name)
            for key in ("n", "mean", "sd", "low", "high"):
                row[f"{name}_{key}"] = getattr(summary, key)
        low, high = _wilson(own, "honest_accuracy")
        row |= {"honest_accuracy_wilson_low": low, "honest_accuracy_wilson_high": high}
        rows.append(row)
    return rows


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Comma-separated text; numbers to six decimals, NaN and None as an empty cell."""

    def plain(value: Any) -> str:
        if isinstance(value, float):
            return "" if math.isnan(value) else f"{value:.6f}".rstrip("0").rstrip(".")
        return "" if value is None else str(value)

    cells = [{key: plain(value) for key, value in row.items()} for row in rows]
    return doc.to_csv(doc.Table.of(cells, ""))


def complete(setting: Setting, results: Sequence[Result]) -> list[Result]:
    """The runs of a setting that count, by seed."""
    return [r for r in results if r.setting.name == setting.name and r.complete]


def accuracy_table(settings: Sequence[Setting], results: Sequence[Result]) -> doc.Table:
    """Test accuracy of the best and the last epoch, and of the one selected on validation."""
    rows = []
    for setting in settings:
        own = complete(setting, results)
        names = ("best_accuracy", "last_accuracy", "honest_accuracy", "honest_accuracy_views")
        best, last, honest, views = (_summary(own, name) for name in names)
        gain = summarise([r.measure("best_accuracy") - r.measure("honest_accuracy") for r in own])
        shown, name = (honest, "honest_accuracy") if honest.n else (best, "best_accuracy")
        split = formatting.split(shown, name)
        of_images = formatting.interval(*_wilson(own, name), name)
        rows.append(
            {
                "Setting": setting.title,
                "Runs": _count(own),
                "Best epoch on test": formatting.mean_sd(best, name),
                "Last epoch on test": formatting.mean_sd(last, name),
                "Epoch selected on validation": formatting.mean_sd(honest, name),
                "With test-time augmentation": formatting.mean_sd(views, name),
                "95 % over seeds": formatting.mean_interval(shown, name),
                "95 % of this test set": formatting.NONE if split else of_images,
                "Gain from selecting on test": formatting.number(gain.mean, name, signed=True),
            }
        )
    caption = "Test accuracy, mean ± standard deviation over seeds."
    return doc.Table.of(rows, caption, f"accuracy_{name_of(settings)}", keep_empty=False)


def negatives_table(settings: Sequence[Setting], results: Sequence[Result]) -> doc.Table:
    """The same networks on the negatives of the test images."""
    rows = []
    for setting in settings:
        own = complete(setting, results)
        cells = {
            column: formatting.mean_sd(_summary(own, name), name)
            for column, name in NEGATIVES.items()
        }
        rows.append({"Setting": setting.title, "Runs": _count(own), **cells})
    caption = "Accuracy and loss on negatives, mean ± standard deviation over seeds."
    return doc.Table.of(rows, caption, f"negatives_{name_of(settings)}", keep_empty=False)


def claims_table(
    study: Study, results: Sequence[Result], kept: Mapping[tuple[str, str], str]
) -> tuple[doc.Table, list[tuple[Claim, Judgement]]]:
    """Each claim with what was measured and the verdict, and the judgements themselves.

    Args:
        study: The study.
        results: Its runs.
        kept: By claim and dataset, the outcome of McNemar's test on predictions that are no longer
            there.
    """
    judged = [(claim, judge(claim, results)) for claim in study.claims]
    titles = {s.name: s.title for s in study.settings.values()}
    family = family_verdicts([judgement for _, judgement in judged])
    rows = []
    for (claim, judgement), in_family in zip(judged, family, strict=True):
        chosen = honest_measure(claim)
        honest = judge(claim, results, chosen) if chosen else None
        dataset = study.groups.get(study.settings[judgement.setting].group, "") or formatting.NONE
        notes = "; ".join(filter(None, (judgement.test, kept.get((claim.says, dataset), ""))))
        selected = f"{_measured(claim, honest.summary)}: {honest.verdict}" if honest else ""
        rows.append(
            {
                "Claim": claim.says,
                "Dataset": dataset,
                "Verdict": judgement.verdict,
                "Of all claims together (Holm)": in_family,
                "Measured: mean [95 % interval] (n)": _measured(claim, judgement.summary),
                "Read as": rule(claim),
                "Of": _compared(claim, judgement, titles),
                "Tests and notes": notes or formatting.NONE,
                "At the epoch selected on validation": selected
                if honest and honest.summary.n
                else formatting.NONE,
            }
        )
    caption = "Each claim with what was measured and its verdict."
    options = {"numeric": frozenset(), "grouped": True, "filters": (1, 2)}
    return doc.Table.of(rows, caption, "claims", keep_empty=False, **options), judged


def name_of(settings: Sequence[Setting]) -> str:
    """The name of the group of settings in the names of files."""
    return next((s.group for s in settings if s.group), "settings")


def kept_tests(folder: Path) -> dict[tuple[str, str], str]:
    """The outcomes of McNemar's test in an earlier report's table of claims."""
    table = doc.read_csv(folder / "tables/claims.csv", doc.Table([], []))
    found = {}
    for says, dataset, *cells in table.rows if table else []:
        parts = [part for cell in cells for part in cell.split("; ")]
        found[says, dataset] = next((part for part in parts if part.startswith("McNemar")), "")
    return found


def _compared(claim: Claim, judgement: Judgement, titles: dict[str, str]) -> str:
    text = f"{titles[judgement.setting]}: {MEASURES[claim.measure]}"
    if not claim.against:
        return text
    if claim.against == judgement.setting:
        return f"{text}, against {MEASURES[claim.against_measure]}"
    if claim.against_measure != claim.measure:
        return f"{text}, against {titles[claim.against]}: {MEASURES[claim.against_measure]}"
    return f"{titles[judgement.setting]} against {titles[claim.against]}: {MEASURES[claim.measure]}"


def _measured(claim: Claim, summary: Summary) -> str:
    """Mean, interval and n; differences carry their sign."""
    if not summary.n:
        return formatting.NONE
    signed = bool(claim.against)
    if formatting.split(summary, claim.measure):
        return f"{formatting.mean_sd(summary, claim.measure, signed)} ({summary.n})"
    text = formatting.number(summary.mean, claim.measure, signed)
    if summary.has_interval:
        text += " " + formatting.interval(summary.low, summary.high, claim.measure, signed)
    return f"{text} ({summary.n})"


def _count(results: Sequence[Result]) -> str:
    broken = sum(result.status == "nonfinite" for result in results)
    return f"{len(results)}" + (f" ({broken} non-finite)" if broken else "")


def _wilson(results: Sequence[Result], measure: str) -> tuple[float, float]:
    size = results[0].manifest.data.test_size if results else 0
    return wilson(_summary(results, measure).mean, size)


def _summary(results: Sequence[Result], measure: str) -> Summary:
    return summarise([result.measure(measure) for result in results])
