"""``robustness.md``: what was measured, in short tables and one figure a group."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import torch
from matplotlib.figure import Figure

from lenet_lightning import formatting, plotting
from lenet_lightning.callbacks.recorder import cpu_name
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.robustness import attacks
from lenet_lightning.robustness.accuracy_table import Measured, seeds_of
from lenet_lightning.robustness.detection import Detection
from lenet_lightning.robustness.evaluate import Row
from lenet_lightning.statistics import Summary, summarise, wilson
from lenet_lightning.study.plan import Setting, Study
from lenet_lightning.study.report.document import (
    Block,
    Bullets,
    Code,
    Gallery,
    Heading,
    Paragraph,
    Picture,
    Table,
)
from lenet_lightning.study.results import Result

AXES = {
    "contrast": "contrast\n(1 original, 0 grey, \N{MINUS SIGN}1 negative)",
    "brightness": "brightness added\n(clipped)",
    "inversion": "share of the columns\nreplaced by their negative",
}
CONTRASTS = (1.0, 0.5, 0.0, -0.5, -1.0)
MEASURED = (
    "Accuracy on altered test images of the networks that validation chose (`best.ckpt`), mean ± "
    "standard deviation over seeds. Every network sees the same altered images."
)
READING = (
    "Contrast c: each pixel x becomes 0.5 + c (x - 0.5). At 1 that is the image, at 0 nothing but "
    "grey, where any network is at chance, at -1 the negative.",
    "Brightness b: x + b, clipped to [0, 1].",
    "Partial inversion s: the left share s of the columns is replaced by its negative.",
    "Corruptions: those of MNIST-C (Mu and Gilmer 2019, arXiv:1906.02337), made anew for 32x32 "
    "pixels; the docstrings of `lenet_lightning/robustness/corruptions.py` say what is "
    "approximated. The mean is over its fifteen; `identity` and `inverse` are not among them.",
    "Attacks change each pixel by at most epsilon so that the very network errs: FGSM in one step "
    "along the sign of the gradient (arXiv:1412.6572), PGD in ten from a random start "
    "(arXiv:1706.06083). Intervals are over seeds (Student's t), of a single network over its "
    "images (Wilson; Hanley and McNeil for the AUROC).",
)


def build(
    study: Study,
    results: Sequence[Result],
    rows: Sequence[Row],
    detections: Sequence[Detection],
    command: str,
) -> list[Block]:
    """The whole page as blocks.

    Args:
        study: The study.
        results: All its runs.
        rows: What was measured on those that are finished.
        detections: What they detect of another dataset.
        command: What was typed.
    """
    blocks: list[Block] = [Paragraph(MEASURED), *_missing(results)]
    for group in study.groups:
        own = [row for row in rows if row.group == group]
        found = [each for each in detections if each.group == group]
        blocks += _group(study, group, results, own, found) if own else []
    return [*blocks, Heading("How to read it"), Bullets(READING), *_origin(rows, command)]


def _missing(results: Sequence[Result]) -> list[Block]:
    rest = [f"`{r.setting.name}` seed {r.seed}" for r in results if r.status != "finished"]
    return [Paragraph(f"Not finished, and left out: {', '.join(rest)}.")] if rest else []


def _group(
    study: Study,
    group: str,
    results: Sequence[Result],
    rows: Sequence[Row],
    detections: Sequence[Detection],
) -> list[Block]:
    measured = Measured(rows)
    settings = [s for s in study.in_group(group) if s.name in measured.accuracies]
    classes = max(len(r.classes) for r in results if r.setting in settings)
    title = study.groups[group] or study.title
    seeds = ", ".join(map(str, seeds_of(rows)))
    caption = (
        f"{title}: mean over seeds {seeds}; bands and bars are one standard deviation to both "
        f"sides, the dotted line is chance; {rows[0].images:,} test images."
    )
    alt = f"{title}: accuracy against contrast, brightness, partial inversion, and by corruption"
    png = plotting.to_png(_overview(settings, measured, 1 / classes))
    return [
        Heading(title),
        contrast_table(settings, measured),
        alterations_table(settings, measured),
        attacks_table(settings, measured, min(rows[0].images, attacks.IMAGES)),
        *([detection_table(settings, detections)] if detections else []),
        Gallery([Picture(f"robustness_{group or study.name}", caption, alt, png, wide=True)]),
    ]


def _overview(settings: Sequence[Setting], measured: Measured, chance: float) -> Figure:
    """Accuracy of settings of one dataset against each perturbation."""

    def points(perturbation: str) -> dict[str, plotting.Points]:
        return {s.title: measured.points(s.name, perturbation) for s in settings}

    curves = {label: points(perturbation) for perturbation, label in AXES.items()}
    return plotting.robustness(curves, points("corruption"), chance, measured.highest)


def contrast_table(settings: Sequence[Setting], measured: Measured) -> Table:
    """Accuracy of every setting at five contrasts."""
    rows = []
    for setting in settings:
        found = [measured.summary(setting.name, "contrast", c) for c in CONTRASTS]
        cells = [formatting.mean_sd(summary, "accuracy") for summary in found]
        rows.append([setting.title, str(found[0].n), *cells])
    columns = ["Setting", "Runs", *(f"c = {c:g}" for c in CONTRASTS)]
    return Table(columns, rows, frozenset(range(1, len(columns))), "Accuracy by contrast.")


def alterations_table(settings: Sequence[Setting], measured: Measured) -> Table:
    """Accuracy of every setting when darker, brighter, half reversed and corrupted."""
    chosen = {
        "b = -0.5": ("brightness", -0.5),
        "b = 0.5": ("brightness", 0.5),
        "s = 0.5": ("inversion", 0.5),
    }
    rows = []
    for setting in settings:
        found = [measured.summary(setting.name, *level) for level in chosen.values()]
        found.append(measured.corrupted(setting.name))
        name, worst = measured.hardest(setting.name)
        hardest = f"{name.replace('_', ' ')}: {formatting.mean_sd(worst, 'accuracy')}"
        cells = [formatting.mean_sd(summary, "accuracy") for summary in found]
        rows.append([setting.title, str(worst.n), *cells, hardest])
    columns = ["Setting", "Runs", *chosen, "Mean of 15 corruptions", "Hardest corruption"]
    caption = "Accuracy by brightness b, with the left half reversed (s = 0.5), and corrupted."
    return Table(columns, rows, frozenset(range(1, len(columns) - 1)), caption)


def attacks_table(settings: Sequence[Setting], measured: Measured, images: int) -> Table:
    """Accuracy of every setting under attacks on each network."""
    chosen = [(name, epsilon) for epsilon in (8, 32) for name in attacks.ATTACKS]
    rows = []
    for setting in settings:
        found = [measured.summary(setting.name, *level) for level in chosen]
        cells = [_with_interval(summary, wilson(summary.mean, images)) for summary in found]
        rows.append([setting.title, str(found[0].n), *cells])
    columns = ["Setting", "Runs", *(f"{name.upper()}, {epsilon}/255" for name, epsilon in chosen)]
    caption = f"Accuracy under attack with 95 % interval, on the first {images:,} test images."
    return Table(columns, rows, frozenset(range(1, len(columns))), caption)


def detection_table(settings: Sequence[Setting], detections: Sequence[Detection]) -> Table:
    """How well every setting tells its test images from those of another dataset."""
    rows = []
    for setting in settings:
        own = [each for each in detections if each.setting == setting.name]
        summary = summarise([each.auroc for each in own])
        single = (own[0].low, own[0].high)
        rows.append([setting.title, str(summary.n), _with_interval(summary, single)])
    first = detections[0]
    other = DATASETS[first.other].title if first.other in DATASETS else first.other
    columns = ["Setting", "Runs", "AUROC"]
    caption = (
        f"Detection of {other} by the largest probability, area under the ROC curve with 95 % "
        f"interval: {first.images:,} test images against {first.other_images:,} of {other}."
    )
    return Table(columns, rows, frozenset({1, 2}), caption)


def _with_interval(summary: Summary, single: tuple[float, float]) -> str:
    """A mean with its 95 % interval: over seeds, or of one network that over its images."""
    low, high = (summary.low, summary.high) if summary.has_interval else single
    number = formatting.number(summary.mean, "accuracy")
    return f"{number} {formatting.interval(low, high, 'accuracy')}"


def _origin(rows: Sequence[Row], command: str) -> list[Block]:
    made = (
        f"Made on {date.today().isoformat()} with torch {torch.__version__} on {cpu_name()}, "
        f"threads: {torch.get_num_threads()}. Every number comes from `robustness.csv`, a row for "
        "every network and level."
    )
    return [Heading("How it was made"), Code(command), Paragraph(made)]
