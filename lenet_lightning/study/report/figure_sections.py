"""The numbered figures of a study, or the generic ones where it lists none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lenet_lightning import plotting
from lenet_lightning.study.claim_schema import Figure
from lenet_lightning.study.plan import Study
from lenet_lightning.study.report import charts, tables
from lenet_lightning.study.report.document import Block, Code, Gallery, Heading, Paragraph, Picture
from lenet_lightning.study.results import Result

FIGURES = "figures"
ASSETS = "assets"
"""The folder of a study that keeps what needed the data to make."""


def section(study: Study, results: Sequence[Result], folder: Path) -> list[Block]:
    """A heading and its pictures for every figure of the study."""
    blocks: list[Block] = []
    for figure in study.figures or _generic(study):
        drawn = _draw(figure, study, results, folder)
        if drawn:
            blocks += [Heading(figure.title, 3), *drawn]
    return blocks


def _generic(study: Study) -> list[Figure]:
    """Training and test accuracy of every setting, one figure a group."""
    return [
        Figure(
            name=f"accuracy_{group or study.name}",
            kind="accuracy",
            title=f"{title}: accuracy against the epoch" if title else "Accuracy against the epoch",
            panels={s.name.removeprefix(f"{group}_"): s.name for s in study.in_group(group)},
        )
        for group, title in study.groups.items()
    ]


def _draw(figure: Figure, study: Study, results: Sequence[Result], folder: Path) -> list[Block]:
    if figure.kind == "activation_functions":
        caption = "ReLU, LeakyReLU and ELU; LeakyReLU's usual slope of 0.01 is too flat to be seen."
        png = plotting.to_png(plotting.activation_functions())
        return [Gallery([Picture(stem(figure), caption, caption, png)])]
    if figure.kind == "negative_example":
        return _negative_example(figure, folder)
    pictures = []
    for letter, name in figure.panels.items():
        setting = study.settings[name]
        own = tables.complete(setting, results)
        if not own:
            continue
        title = ": ".join(filter(None, (study.groups[setting.group], setting.title)))
        seeds = f"{len(own)} seeds" if len(own) > 1 else f"seed {own[0].seed}"
        if figure.kind == "accuracy":
            rows, images = charts.accuracy(own), ""
        else:
            rows = charts.accuracy_and_loss(own, figure.images)
            images = f", {figure.images} test images"
        what = " and ".join(panel.quantity for row in rows for panel in row) + images
        caption = f"{f'{letter}: ' if letter else ''}{title} ({seeds})"
        alt = f"{title}: {what} against the epoch"
        pictures += curves(stem(figure, letter), caption, alt, rows, folder)
    return [Gallery(pictures)] if pictures else []


def curves(
    name: str,
    caption: str,
    alt: str,
    rows: charts.Rows,
    folder: Path,
    legend_columns: int | None = None,
) -> list[Picture]:
    """A picture of some panels; the one in ``figures/`` where the runs' curves are not kept."""
    every = (run for row in rows for panel in row for curve in panel.curves for run in curve.runs)
    if any(map(len, every)):
        png = plotting.to_png(plotting.panels(rows, legend_columns=legend_columns))
        return [Picture(name, caption, alt, png, panels=rows)]
    return kept(name, caption, folder)


def kept(name: str, caption: str, folder: Path) -> list[Picture]:
    """The picture of that name in ``figures/``, if it is there."""
    path = folder / FIGURES / f"{name}.png"
    return [Picture(name, caption, caption, path.read_bytes())] if path.is_file() else []


def stem(figure: Figure, letter: str = "") -> str:
    """The name of a picture's file, without its ending."""
    return f"fig_{figure.name}{f'_{letter}' if letter else ''}"


def _negative_example(figure: Figure, folder: Path) -> list[Block]:
    """A test image beside its negative, made when the study ran and kept with it."""
    file = folder / ASSETS / f"{stem(figure)}.png"
    try:
        png, text = file.read_bytes(), file.with_suffix(".txt").read_text(encoding="utf-8")
    except OSError:
        return [Paragraph("Made when the study runs; this folder does not have it.")]
    caption = "Test images, their negatives, and the values of all pixels of the test set in both."
    return [Gallery([Picture(stem(figure), caption, caption, png, wide=True)]), Code(text.rstrip())]
