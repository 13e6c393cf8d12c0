"""Write a study's report from its run folders: no data, no network, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lenet_lightning import files, strict_yaml
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
from lenet_lightning.study.report import document as doc
from lenet_lightning.study.report.page import to_html
from lenet_lightning.study.results import Result, gather, read_study

NOTES = strict_yaml.read(Path(__file__).with_name("notes.yaml"))


def write(folder: Path, output: Path | None = None) -> Path:
    """Write the report of a study.

    ``report.html``, ``report.md`` with ``figures/``, ``results.csv`` (a row for every run),
    ``summary.csv`` (a row for every setting), and each table in ``tables/`` as CSV and LaTeX; in
    another folder than the study's also ``runs.tar.xz``, from which the report can be rebuilt.

    The result depends only on the runs, not on their order or on when they were made, apart
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
            f"figures/{picture.name}.png": picture.png for picture in doc.pictures(blocks)
        }
        for table in doc.tables(blocks):
            contents[f"tables/{table.name}.csv"] = doc.to_csv(table)
            contents[f"tables/{table.name}.tex"] = doc.to_latex(table)
        if output.resolve() != folder.resolve():
            contents[kept.RUNS] = kept.pack(place, results)
        contents |= {
            "results.csv": tables.to_csv(tables.run_rows(results)),
            "summary.csv": tables.to_csv(tables.summary_rows(study, results)),
            "report.md": doc.to_markdown(study.title, blocks),
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
    return "\n\n".join(map(doc.to_text, found))


def build(study: Study, results: Sequence[Result], folder: Path) -> list[doc.Block]:
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
) -> list[doc.Block]:
    done = [result for result in results if result.complete]
    seeds = ", ".join(map(str, study.seeds))
    text = (
        f"{len(study.settings)} settings with seeds {seeds}: {len(done)} of {len(results)} runs "
        f"are complete."
    )
    if len(done) < len(results):
        text += " What is missing is listed under 'Runs without a result'."
    protocols = sorted({result.manifest.protocol for result in done})
    notes = [NOTES[protocol] for protocol in protocols if protocol in NOTES]
    if any(result.status == "nonfinite" for result in done):
        notes.append(NOTES["nonfinite"])
    blocks: list[doc.Block] = [doc.Paragraph(text), *map(doc.Paragraph, notes)]
    if any(result.measures for result in done):
        blocks.append(doc.Paragraph(NOTES["rows"]))
    return [*blocks, *class_tables.ranking(best, folder)]


def _claims(study: Study, results: Sequence[Result], folder: Path) -> list[doc.Block]:
    if not study.claims:
        return []
    kept_tests = tables.kept_tests(folder) if any(r.measures for r in results) else {}
    table, judged = tables.claims_table(study, results, kept_tests)
    counts = Counter(judgement.verdict for _, judgement in judged)
    verdicts = (REPRODUCED, NOT_REPRODUCED, UNDECIDED)
    text = ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts)
    return [
        doc.Heading("Claims"),
        doc.Paragraph(f"Of {len(judged)} claims: {text}."),
        table,
        doc.Paragraph(NOTES["claims"]),
        *_shared_teachers(results),
    ]


def _shared_teachers(results: Sequence[Result]) -> list[doc.Block]:
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
        doc.Paragraph(
            f"Runs of {names} share teachers with each other. Their spread leaves out that of the "
            "teachers, and their differences from each other and from the teachers' own setting "
            "are paired through them: the intervals hold for these teachers."
        )
    ]


def _by_group(study: Study, results: Sequence[Result], folder: Path) -> list[doc.Block]:
    blocks: list[doc.Block] = [doc.Heading("Results")]
    for group, title in study.groups.items():
        settings = study.in_group(group)
        if title:
            blocks.append(doc.Heading(title, 3))
        blocks.append(tables.accuracy_table(settings, results))
        curves = {setting.title: tables.complete(setting, results) for setting in settings}
        if any(curves.values()):
            name = f"comparison_{group or study.name}"
            caption = f"{title or study.title}: every setting, mean and range over seeds."
            columns = 2 if max(map(len, curves)) <= 22 else 1
            rows = charts.comparison(curves)
            drawn = figure_sections.curves(name, caption, caption, rows, folder, columns)
            blocks += [doc.Gallery(drawn)] if drawn else []
    return blocks


def _figures(study: Study, results: Sequence[Result], folder: Path) -> list[doc.Block]:
    blocks = figure_sections.section(study, results, folder)
    return [doc.Heading("Figures"), *blocks] if blocks else []


def _negatives(study: Study, results: Sequence[Result]) -> list[doc.Block]:
    """Every setting on the negatives of the test images."""
    blocks: list[doc.Block] = []
    for group, title in study.groups.items():
        table = tables.negatives_table(study.in_group(group), results)
        if len(table.columns) > 2:
            blocks += [*([doc.Heading(title, 3)] if title else []), table]
    return [doc.Heading("On negatives"), *blocks] if blocks else []


def _unfinished(results: Sequence[Result]) -> list[doc.Block]:
    rest = [result for result in results if not result.complete]
    if not rest:
        return []
    lines = []
    for result in rest:
        detail = f": {result.error}" if result.error else ""
        lines.append(f"`{result.setting.name}` seed {result.seed}, {result.status}{detail}")
    return [doc.Heading("Runs without a result"), doc.Bullets(lines)]
