"""``robustness.md``: what was measured, in short tables and one figure a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import torch

from lenet_lightning import formatting, plotting, strict_yaml
from lenet_lightning.callbacks.recorder import cpu_name
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.robustness import attacks
from lenet_lightning.robustness.accuracy_table import Measured
from lenet_lightning.robustness.detection import Detection
from lenet_lightning.robustness.evaluate import Row
from lenet_lightning.statistics import Summary, summarise, wilson
from lenet_lightning.study.plan import Setting, Study
from lenet_lightning.study.report import document as doc
from lenet_lightning.study.results import Result

AXES = {
    "contrast": "contrast\n(1 original, 0 grey, \N{MINUS SIGN}1 negative)",
    "brightness": "brightness added\n(clipped)",
    "inversion": "share of the columns\nreplaced by their negative",
}
CONTRASTS = (1.0, 0.5, 0.0, -0.5, -1.0)
NOTES = strict_yaml.read(Path(__file__).with_name("notes.yaml"))


def build(
    study: Study,
    results: Sequence[Result],
    rows: Sequence[Row],
    detections: Sequence[Detection],
    command: str,
) -> list[doc.Block]:
    """The whole page as blocks.

    Args:
        study: The study.
        results: All its runs.
        rows: What was measured on those that are finished.
        detections: What they detect of another dataset.
        command: What was typed.
    """
    blocks: list[doc.Block] = [doc.Paragraph(NOTES["measured"]), *_missing(results)]
    for group in study.groups:
        own = [row for row in rows if row.group == group]
        found = [each for each in detections if each.group == group]
        blocks += _group(study, group, results, own, found) if own else []
    return [
        *blocks,
        doc.Heading("How to read it"),
        doc.Bullets(NOTES["how_to_read"]),
        *_origin(rows, command),
    ]


def _missing(results: Sequence[Result]) -> list[doc.Block]:
    rest = [f"`{r.setting.name}` seed {r.seed}" for r in results if r.status != "finished"]
    return [doc.Paragraph(f"Not finished, and left out: {', '.join(rest)}.")] if rest else []


def _group(
    study: Study,
    group: str,
    results: Sequence[Result],
    rows: Sequence[Row],
    detections: Sequence[Detection],
) -> list[doc.Block]:
    measured = Measured(rows)
    settings = [s for s in study.in_group(group) if s.name in measured.accuracies]
    classes = max(len(r.manifest.data.classes) for r in results if r.setting in settings)
    title = study.groups[group] or study.title
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    caption = (
        f"{title}: mean over seeds {seeds}; bands and bars are one standard deviation to both "
        f"sides, the dotted line is chance; {rows[0].images:,} test images."
    )
    alt = f"{title}: accuracy against contrast, brightness, partial inversion, and by corruption"

    def points(perturbation: str) -> dict[str, plotting.Points]:
        return {s.title: measured.points(s.name, perturbation) for s in settings}

    curves = {label: points(perturbation) for perturbation, label in AXES.items()}
    drawn = plotting.robustness(curves, points("corruption"), 1 / classes, measured.highest)
    name, png = f"robustness_{group or study.name}", plotting.to_png(drawn)
    return [
        doc.Heading(title),
        contrast_table(settings, measured),
        alterations_table(settings, measured),
        attacks_table(settings, measured, min(rows[0].images, attacks.IMAGES)),
        *([detection_table(settings, detections)] if detections else []),
        doc.Gallery([doc.Picture(name, caption, alt, png, wide=True)]),
    ]


def contrast_table(settings: Sequence[Setting], measured: Measured) -> doc.Table:
    """Accuracy of every setting at five contrasts."""
    levels = {f"c = {c:g}": ("contrast", c) for c in CONTRASTS}
    return doc.Table.of(_rows(settings, measured, levels), "Accuracy by contrast.")


def _mean_sd(summary: Summary) -> str:
    return formatting.mean_sd(summary, "accuracy")


def _rows(
    settings: Sequence[Setting],
    measured: Measured,
    levels: Mapping[str, tuple[str, float]],
    cell: Callable[[Summary], str] = _mean_sd,
) -> list[dict[str, str]]:
    """A row for each setting: its accuracy at levels that are named by their column."""
    rows = []
    for setting in settings:
        found = {key: measured.summary(setting.name, *level) for key, level in levels.items()}
        runs = str(next(iter(found.values())).n)
        cells = {key: cell(summary) for key, summary in found.items()}
        rows.append({"Setting": setting.title, "Runs": runs, **cells})
    return rows


def alterations_table(settings: Sequence[Setting], measured: Measured) -> doc.Table:
    """Accuracy of every setting when darker, brighter, half reversed and corrupted."""
    levels = {
        "b = -0.5": ("brightness", -0.5),
        "b = 0.5": ("brightness", 0.5),
        "s = 0.5": ("inversion", 0.5),
    }
    rows = _rows(settings, measured, levels)
    for setting, row in zip(settings, rows, strict=True):
        name, worst = measured.hardest(setting.name)
        row["Mean of 15 corruptions"] = _mean_sd(measured.corrupted(setting.name))
        row["Hardest corruption"] = f"{name.replace('_', ' ')}: {_mean_sd(worst)}"
    caption = "Accuracy by brightness b, with the left half reversed (s = 0.5), and corrupted."
    return doc.Table.of(rows, caption, numeric=frozenset(range(1, 6)))


def attacks_table(settings: Sequence[Setting], measured: Measured, images: int) -> doc.Table:
    """Accuracy of every setting under attacks on each network."""
    levels = {
        f"{name.upper()}, {epsilon}/255": (name, epsilon)
        for epsilon in (8, 32)
        for name in attacks.ATTACKS
    }
    rows = _rows(settings, measured, levels, lambda s: _with_interval(s, wilson(s.mean, images)))
    caption = f"Accuracy under attack with 95 % interval, on the first {images:,} test images."
    return doc.Table.of(rows, caption)


def detection_table(settings: Sequence[Setting], detections: Sequence[Detection]) -> doc.Table:
    """How well every setting tells its test images from those of another dataset."""
    rows = []
    for setting in settings:
        own = [each for each in detections if each.setting == setting.name]
        summary = summarise([each.auroc for each in own])
        auroc = _with_interval(summary, (own[0].low, own[0].high))
        rows.append({"Setting": setting.title, "Runs": str(summary.n), "AUROC": auroc})
    first = detections[0]
    other = DATASETS[first.other].title if first.other in DATASETS else first.other
    caption = (
        f"Detection of {other} by the largest probability, area under the ROC curve with 95 % "
        f"interval: {first.images:,} test images against {first.other_images:,} of {other}."
    )
    return doc.Table.of(rows, caption)


def _with_interval(summary: Summary, single: tuple[float, float]) -> str:
    """A mean with its 95 % interval: over seeds, or of one network that over its images."""
    low, high = (summary.low, summary.high) if summary.has_interval else single
    number = formatting.number(summary.mean, "accuracy")
    return f"{number} {formatting.interval(low, high, 'accuracy')}"


def _origin(rows: Sequence[Row], command: str) -> list[doc.Block]:
    made = (
        f"Made on {date.today().isoformat()} with torch {torch.__version__} on {cpu_name()}, "
        f"threads: {torch.get_num_threads()}. Every number comes from `robustness.csv`, a row for "
        "every network and level."
    )
    return [doc.Heading("How it was made"), doc.Code(command), doc.Paragraph(made)]
