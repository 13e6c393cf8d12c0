"""Which classes make the difference: per-class accuracy and confusions of the best settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet_lightning import formatting, statistics
from lenet_lightning.study.plan import Setting, Study
from lenet_lightning.study.report.document import Table
from lenet_lightning.study.report.tables import complete
from lenet_lightning.study.results import Result


@dataclass(frozen=True)
class Best:
    """The best setting of a group, and its predictions on the test set.

    Attributes:
        title: The group's title.
        setting: The setting with the best mean validation accuracy.
        results: Its runs that have predictions.
        classes: Names of the classes.
        counts: Test images by seed, true and predicted class, int64 [S, C, C].
    """

    title: str
    setting: Setting
    results: list[Result]
    classes: list[str]
    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Accuracy by seed, [S]."""
        correct = np.trace(self.counts, axis1=1, axis2=2)
        return correct / self.counts.sum(axis=(1, 2))

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """Accuracy on the images of each class by seed, [S, C]; NaN for a class without any."""
        totals = self.counts.sum(axis=2)
        correct = np.diagonal(self.counts, axis1=1, axis2=2)
        return np.where(totals > 0, correct / np.maximum(totals, 1), np.nan)

    @property
    def shares(self) -> NDArray[np.float64]:
        """All seeds together: the share of each true class by predicted class, [C, C]."""
        counts = self.counts.sum(axis=0)
        return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def best(study: Study, group: str, results: Sequence[Result]) -> Best | None:
    """The best setting of a group by validation accuracy; None if no run left predictions."""
    candidates: list[tuple[float, Setting, list[Result]]] = []
    for setting in study.in_group(group):
        own = [r for r in complete(setting, results) if r.predictions() is not None]
        validation = [float(np.nanmax(r.curve("val/acc"))) for r in own if len(r.curve("val/acc"))]
        if validation:
            candidates.append((float(np.mean(validation)), setting, own))
    if not candidates:
        return None
    _, setting, own = max(candidates, key=lambda candidate: candidate[0])
    classes = own[0].classes
    arrays = [r.predictions() or {} for r in own]
    counts = [statistics.confusion(a["labels"], a["original"], len(classes)) for a in arrays]
    return Best(study.groups[group] or study.title, setting, own, classes, np.stack(counts))


def ranking_table(found: Sequence[Best]) -> Table:
    """The best setting of every group, best accuracy first."""
    rows = []
    for item in sorted(found, key=lambda item: -item.accuracy.mean()):
        summary = statistics.summarise(item.accuracy)
        size = int(item.counts[0].sum())
        by_class = np.nanmean(item.class_accuracy, axis=0)
        hardest, easiest = int(np.nanargmin(by_class)), int(np.nanargmax(by_class))
        rows.append(
            [
                item.title,
                item.setting.title,
                formatting.mean_sd(summary, "accuracy"),
                formatting.mean_interval(summary, "accuracy"),
                formatting.interval(*statistics.wilson(summary.mean, size), "accuracy"),
                _named(item, by_class, easiest),
                _named(item, by_class, hardest),
            ]
        )
    columns = [
        "Dataset",
        "Best setting (by validation)",
        "Test accuracy",
        "95 % over seeds",
        "95 % of this test set",
        "Easiest class",
        "Hardest class",
    ]
    caption = "The best setting of every dataset, mean ± standard deviation over seeds."
    return Table(columns, rows, frozenset({2, 3, 4}), caption, "best")


def _named(item: Best, by_class: NDArray[np.float64], number: int) -> str:
    return f"{item.classes[number]} ({formatting.number(by_class[number], 'accuracy')})"


def class_table(item: Best) -> Table:
    """Per-class accuracy, and what each class is most often taken for."""
    errors = item.shares.copy()
    np.fill_diagonal(errors, 0)
    rows = []
    for number, name in enumerate(item.classes):
        summary = statistics.summarise(item.class_accuracy[:, number])
        other = int(errors[number].argmax())
        share = errors[number, other]
        mistaken = f"{item.classes[other]} ({100 * share:.1f} %)" if share else formatting.NONE
        rows.append([name, formatting.mean_sd(summary, "accuracy"), mistaken])
    caption = f"{item.title}: accuracy by class, mean ± standard deviation over seeds."
    name = f"classes_{item.setting.group or item.setting.name}"
    return Table(["Class", "Accuracy", "Most often taken for"], rows, frozenset({1}), caption, name)


def difference(item: Best) -> str:
    """In a sentence or two, the classes and the confusions that cost the most."""
    counts = item.counts.sum(axis=0).astype(float)
    np.fill_diagonal(counts, 0)
    total = counts.sum()
    if not total:
        return f"On {item.title} no test image is mistaken."
    by_class = counts.sum(axis=1)
    order = np.argsort(-by_class, kind="stable")
    needed = int(np.searchsorted(np.cumsum(by_class[order]), total / 2)) + 1
    worst = ", ".join(item.classes[i] for i in order[:needed])
    pairs = np.triu(counts + counts.T, 1)
    first, second = np.unravel_index(int(pairs.argmax()), pairs.shape)
    images = f"{needed} of {len(item.classes)} classes make" if needed > 1 else "One class makes"
    return (
        f"{item.title}: {images} {100 * by_class[order[:needed]].sum() / total:.0f} % of all "
        f"errors ({worst}). The commonest confusion, {item.classes[first]} with "
        f"{item.classes[second]}, makes {100 * pairs.max() / total:.0f} % of them."
    )
