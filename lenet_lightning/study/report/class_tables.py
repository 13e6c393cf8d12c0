"""Which classes make the difference: per-class accuracy and confusions of the best settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet_lightning import formatting, plotting, statistics
from lenet_lightning.study.plan import Setting, Study
from lenet_lightning.study.report import document as doc
from lenet_lightning.study.report import figure_sections
from lenet_lightning.study.report.tables import complete
from lenet_lightning.study.results import Result


@dataclass(frozen=True)
class Best:
    """The best setting of a group, and its predictions on the test set.

    Attributes:
        title: The group's title.
        setting: The setting with the best mean validation accuracy.
        classes: Names of the classes.
        counts: Test images by seed, true and predicted class, int64 [S, C, C].
    """

    title: str
    setting: Setting
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


def best(study: Study, results: Sequence[Result]) -> list[Best]:
    """The best setting by validation accuracy of every group in which runs left predictions."""
    found = []
    for group, title in study.groups.items():
        candidates: list[tuple[float, Setting, list[Result]]] = []
        for setting in study.in_group(group):
            own = [r for r in complete(setting, results) if r.predictions() is not None]
            curves = [curve for r in own if len(curve := r.curve("val/acc"))]
            if curves:
                mean = float(np.mean([np.nanmax(curve) for curve in curves]))
                candidates.append((mean, setting, own))
        if candidates:
            _, setting, own = max(candidates, key=lambda candidate: candidate[0])
            classes = own[0].manifest.data.classes
            arrays = [r.predictions() or {} for r in own]
            counts = np.stack(
                [statistics.confusion(a["labels"], a["original"], len(classes)) for a in arrays]
            )
            found.append(Best(title or study.title, setting, classes, counts))
    return found


def ranking(found: Sequence[Best], folder: Path) -> list[doc.Block]:
    """The best setting of every group, best accuracy first; as kept if there are no predictions."""
    rows = []
    for item in sorted(found, key=lambda item: -item.accuracy.mean()):
        summary = statistics.summarise(item.accuracy)
        size = int(item.counts[0].sum())
        by_class = np.nanmean(item.class_accuracy, axis=0)
        hardest, easiest = int(np.nanargmin(by_class)), int(np.nanargmax(by_class))
        rows.append(
            {
                "Dataset": item.title,
                "Best setting (by validation)": item.setting.title,
                "Test accuracy": formatting.mean_sd(summary, "accuracy"),
                "95 % over seeds": formatting.mean_interval(summary, "accuracy"),
                "95 % of this test set": formatting.interval(
                    *statistics.wilson(summary.mean, size), "accuracy"
                ),
                "Easiest class": _named(item, by_class, easiest),
                "Hardest class": _named(item, by_class, hardest),
            }
        )
    caption = "The best setting of every dataset, mean ± standard deviation over seeds."
    return _or_kept(doc.Table.of(rows, caption, "best", numeric=frozenset({2, 3, 4})), folder)


def section(study: Study, found: Sequence[Best], folder: Path) -> list[doc.Block]:
    """Errors by class of every group's best setting; as kept if there are no predictions."""
    errors = _or_kept(errors_table(found), folder)
    if not errors:
        return []
    text = (
        "Of each dataset's best setting (by validation accuracy), all seeds together, on the test "
        "set at the epoch selected on validation."
    )
    blocks: list[doc.Block] = [
        doc.Heading("Which classes make the difference"),
        doc.Paragraph(text),
        *errors,
    ]
    by_group = {item.setting.group: item for item in found}
    for group, title in study.groups.items():
        item = by_group.get(group)
        name = f"confusion_{group or study.name}"
        caption = f"{title or study.title}: confusion matrix of the best setting."
        if item:
            counts = {item.setting.title: item.counts.sum(axis=0)}
            png = plotting.to_png(plotting.confusion(counts, item.classes))
            drawn = [doc.Picture(name, caption, caption, png)]
        else:
            drawn = figure_sections.kept(name, caption, folder)
        table = _or_kept(class_table(item, title or study.title, group or study.name), folder)
        if table:
            blocks += [doc.Heading(title or study.title, 3), *table, doc.Gallery(drawn)]
    return blocks


def _or_kept(table: doc.Table, folder: Path) -> list[doc.Block]:
    """A table, or where it has no rows the one that an earlier report left, if it did."""
    kept = table if table.rows else doc.read_csv(folder / "tables" / f"{table.name}.csv", table)
    return [kept] if kept else []


def _named(item: Best, by_class: NDArray[np.float64], number: int) -> str:
    return f"{item.classes[number]} ({formatting.number(by_class[number], 'accuracy')})"


def class_table(item: Best | None, title: str, group: str) -> doc.Table:
    """Per-class accuracy, and what each class is most often taken for."""
    rows = []
    if item:
        errors = item.shares.copy()
        np.fill_diagonal(errors, 0)
        for number, name in enumerate(item.classes):
            summary = statistics.summarise(item.class_accuracy[:, number])
            other = int(errors[number].argmax())
            share = errors[number, other]
            mistaken = f"{item.classes[other]} ({100 * share:.1f} %)" if share else formatting.NONE
            accuracy = formatting.mean_sd(summary, "accuracy")
            rows.append({"Class": name, "Accuracy": accuracy, "Most often taken for": mistaken})
    caption = f"{title}: accuracy by class, mean ± standard deviation over seeds."
    return doc.Table.of(rows, caption, f"classes_{group}", numeric=frozenset({1}))


def errors_table(found: Sequence[Best]) -> doc.Table:
    """The classes and the confusions that cost the most, of every group."""
    rows = []
    for item in found:
        counts = item.counts.sum(axis=0).astype(float)
        np.fill_diagonal(counts, 0)
        total = counts.sum()
        cells = ["no test image is mistaken", *3 * [formatting.NONE]]
        if total:
            by_class = counts.sum(axis=1)
            order = np.argsort(-by_class, kind="stable")
            needed = int(np.searchsorted(np.cumsum(by_class[order]), total / 2)) + 1
            pairs = np.triu(counts + counts.T, 1)
            first, second = np.unravel_index(int(pairs.argmax()), pairs.shape)
            cells = [
                ", ".join(item.classes[i] for i in order[:needed]),
                f"{100 * by_class[order[:needed]].sum() / total:.0f} %",
                f"{item.classes[first]} with {item.classes[second]}",
                f"{100 * pairs.max() / total:.0f} %",
            ]
        rows.append([item.title, *cells])
    columns = ["Dataset", "Classes with most errors", "Share", "Commonest confusion", "Its share"]
    caption = "The classes that make half of all errors, and the pair most often confused."
    return doc.Table(columns, rows, frozenset({2, 4}), caption, "errors")
