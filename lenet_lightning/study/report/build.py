"""Write a study's report from its run folders alone: no data, no network, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lenet_lightning import files
from lenet_lightning.study.claims import NOT_REPRODUCED, REPRODUCED, UNDECIDED
from lenet_lightning.study.plan import Study
from lenet_lightning.study.report import (
    charts,
    class_tables,
    figure_sections,
    kept,
    provenance,
    tables,
)
from lenet_lightning.study.report.document import (
    Block,
    Bullets,
    Gallery,
    Heading,
    Paragraph,
    pictures,
    to_csv,
    to_latex,
    to_markdown,
    to_text,
)
from lenet_lightning.study.report.document import tables as all_tables
from lenet_lightning.study.report.page import to_html
from lenet_lightning.study.results import Result, gather, read_study

CLAIMS_NOTE = (
    "The rule: a claim is reproduced when the whole 95 % interval over seeds (Student's t) lies "
    "where the claim says, not reproduced when the whole interval lies outside, and undecided "
    "otherwise; a single seed has no interval and decides nothing. Comparisons are of the "
    "differences between runs with the same seed. McNemar's exact test compares the two networks "
    "of each seed at the epochs selected on validation, whichever accuracy the claim is about, on "
    "the same test images. Of several settings the one with the best mean of the claim's own "
    "measure is judged, by other measures too; its interval is then one of k simultaneous ones, of "
    "confidence 1 - 0.05 / k (Bonferroni). Epoch-to-epoch variation is the standard deviation of "
    "the differences between the test accuracies of successive epochs, after the first five: the "
    "smaller, the smoother and the more stable. Runs that never exceed 1.5 times the accuracy of "
    "guessing do not count as varying more. The verdict judges each claim on its own; the column "
    "of all claims together adjusts for their number (Holm), so that all of its verdicts hold at "
    "once with 95 % confidence."
)
PROTOCOL_NOTES = {
    "watch": (
        "Protocol `watch`: part of the training images is kept for validation, and the test set "
        "is evaluated after every epoch for the record. 'Best epoch on test' is the best of all "
        "epochs, selected on the very images it is quoted for, and so too high. 'Epoch selected on "
        "validation' is the accuracy to expect on other images."
    ),
    "report": (
        "Protocol `report`: all training images train and the test set is the validation set, so "
        "the best epoch is selected on the images it is quoted for, and its accuracy is too high. "
        "`data.protocol: watch` shows by how much."
    ),
    "holdout": (
        "Protocol `holdout`: the best epoch is selected on validation images kept from the "
        "training set, and the test set is used once, at the end."
    ),
}
ROWS_NOTE = (
    "Of these runs only their figures in `results.csv` are kept. Curves, classes and McNemar's "
    "tests are as the first report of the study showed them."
)
NONFINITE_NOTE = (
    "Runs whose loss stopped being a finite number are results, not failures: their accuracy "
    "counts at chance from that epoch on."
)


def write(folder: Path, output: Path | None = None) -> Path:
    """Write the report of a study.

    ``report.html``, ``report.md`` with ``figures/``, ``results.csv`` (a row for every run),
    ``summary.csv`` (a row for every setting), and each table in ``tables/`` as CSV and LaTeX; in
    another folder than the study's also ``runs.tar.xz``, from which the report can be rebuilt.

    The result depends on the runs alone, not on their order or on when they were made, apart
    from the section on how it was made and the timing columns of ``results.csv``.

    Args:
        folder: A study's folder, such as ``lightning_logs/report``, or one with ``runs.tar.xz``.
        output: Where to write; the study's folder unless given.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: The folder is not a study's, holds no runs, or is damaged.
    """
    output = output or folder
    with kept.opened(folder) as place:
        study = read_study(place)
        results = gather(study, place)
        blocks = build(study, results, place)
        contents: dict[str, str | bytes] = {
            f"figures/{picture.name}.png": picture.png for picture in pictures(blocks)
        }
        for table in all_tables(blocks):
            contents[f"tables/{table.name}.csv"] = to_csv(table)
            contents[f"tables/{table.name}.tex"] = to_latex(table)
        if output.resolve() != folder.resolve():
            contents[kept.RUNS] = kept.pack(place, results)
        contents |= {
            "results.csv": tables.to_csv(tables.run_rows(results)),
            "summary.csv": tables.to_csv(tables.summary_rows(study, results)),
            "report.md": to_markdown(study.title, blocks),
            "report.html": to_html(study.title, blocks),
        }
    for name, content in contents.items():
        files.make_folder((output / name).parent)
        files.replace(output / name, content)
    return output / "report.html"


def terminal(folder: Path) -> str:
    """The accuracies of a study in its folder as text, a column for each setting."""
    study = read_study(folder)
    settings, results = list(study.settings.values()), gather(study, folder)
    found = (make(settings, results) for make in (tables.accuracy_table, tables.negatives_table))
    return "\n\n".join(map(to_text, found))


def build(study: Study, results: Sequence[Result], folder: Path) -> list[Block]:
    """The whole report as blocks."""
    best = class_tables.best(study, results)
    return [
        *_summary(study, results, best, folder),
        *_claims(study, results, folder),
        *_by_group(study, results, folder),
        *_figures(study, results, folder),
        *_negatives(study, results),
        *class_tables.section(study, best, folder),
        *_unfinished(results),
        *provenance.section(folder, results),
    ]


def _summary(
    study: Study, results: Sequence[Result], best: Sequence[class_tables.Best], folder: Path
) -> list[Block]:
    done = [result for result in results if result.complete]
    seeds = ", ".join(map(str, study.seeds))
    text = (
        f"{len(study.settings)} settings with seeds {seeds}: {len(done)} of {len(results)} runs "
        f"are complete."
    )
    if len(done) < len(results):
        text += " What is missing is listed under 'Runs without a result'."
    notes = [PROTOCOL_NOTES[p] for p in sorted({r.protocol for r in done}) if p in PROTOCOL_NOTES]
    if any(result.status == "nonfinite" for result in done):
        notes.append(NONFINITE_NOTE)
    blocks: list[Block] = [Paragraph(text), *map(Paragraph, notes)]
    if any(result.measures for result in done):
        blocks.append(Paragraph(ROWS_NOTE))
    return [*blocks, *class_tables.ranking(best, folder)]


def _claims(study: Study, results: Sequence[Result], folder: Path) -> list[Block]:
    if not study.claims:
        return []
    kept_tests = tables.kept_tests(folder) if any(r.measures for r in results) else {}
    table, judged = tables.claims_table(study, results, kept_tests)
    counts = Counter(judgement.verdict for _, judgement in judged)
    verdicts = (REPRODUCED, NOT_REPRODUCED, UNDECIDED)
    text = ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts)
    return [
        Heading("Claims"),
        Paragraph(f"Of {len(judged)} claims: {text}."),
        table,
        Paragraph(CLAIMS_NOTE),
        *_shared_teachers(results),
    ]


def _shared_teachers(results: Sequence[Result]) -> list[Block]:
    """Which runs are not independent, because they were distilled from the same networks."""
    students: dict[str, set[tuple[str, int]]] = {}
    for result in results:
        for digest in result.manifest.teachers.values():
            students.setdefault(digest, set()).add((result.setting.name, result.seed))
    shared = {setting for own in students.values() if len(own) > 1 for setting, _ in own}
    if not shared:
        return []
    names = ", ".join(f"`{name}`" for name in sorted(shared))
    return [
        Paragraph(
            f"Runs of {names} share teachers with each other. Their spread leaves out that of the "
            "teachers, and their differences from each other and from the teachers' own setting "
            "are paired through them: the intervals hold for these teachers."
        )
    ]


def _by_group(study: Study, results: Sequence[Result], folder: Path) -> list[Block]:
    blocks: list[Block] = [Heading("Results")]
    for group, title in study.groups.items():
        settings = study.in_group(group)
        if title:
            blocks.append(Heading(title, 3))
        blocks.append(tables.accuracy_table(settings, results))
        curves = {setting.title: tables.complete(setting, results) for setting in settings}
        if any(curves.values()):
            name = f"comparison_{group or study.name}"
            caption = f"{title or study.title}: every setting, mean and range over seeds."
            columns = 2 if max(map(len, curves)) <= 22 else 1
            rows = charts.comparison(curves)
            drawn = figure_sections.curves(name, caption, caption, rows, folder, columns)
            blocks += [Gallery(drawn)] if drawn else []
    return blocks


def _figures(study: Study, results: Sequence[Result], folder: Path) -> list[Block]:
    blocks = figure_sections.section(study, results, folder)
    return [Heading("Figures"), *blocks] if blocks else []


def _negatives(study: Study, results: Sequence[Result]) -> list[Block]:
    """Every setting on the negatives of the test images."""
    blocks: list[Block] = []
    for group, title in study.groups.items():
        table = tables.negatives_table(study.in_group(group), results)
        if len(table.columns) > 2:
            blocks += [*([Heading(title, 3)] if title else []), table]
    return [Heading("On negatives"), *blocks] if blocks else []


def _unfinished(results: Sequence[Result]) -> list[Block]:
    rest = [result for result in results if not result.complete]
    if not rest:
        return []
    lines = []
    for result in rest:
        detail = f": {result.error}" if result.error else ""
        lines.append(f"`{result.setting.name}` seed {result.seed}, {result.status}{detail}")
    return [Heading("Runs without a result"), Bullets(lines)]
