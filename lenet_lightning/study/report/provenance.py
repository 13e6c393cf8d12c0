"""How a report was made: time, hardware, versions, data and the command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lenet_lightning import formatting
from lenet_lightning.store.manifest import Git
from lenet_lightning.study.report import document as doc
from lenet_lightning.study.results import Result, read_index


def section(folder: Path, results: Sequence[Result]) -> list[doc.Block]:
    """The report's last section, the only one that speaks of time."""
    done = [result for result in results if result.complete]
    blocks: list[doc.Block] = [doc.Heading("How it was made")]
    index = read_index(folder)
    command = index.get("command")
    if command:
        blocks += [doc.Paragraph("The command that makes it again:"), doc.Code(str(command))]
    blocks.append(
        doc.Paragraph(
            "Every number comes from `results.csv` (a row for every run, with its folder) or "
            "`summary.csv` (a row for every setting). Each run folder holds the complete "
            "`config.yaml` that runs it again."
        )
    )
    if done:
        blocks.append(doc.Bullets(list(_facts(done, list(map(str, index.get("made", [])))))))
        digests = _digests(done)
        kept = digests if digests.rows else doc.read_csv(folder / "tables/data.csv", digests)
        blocks += [kept] if kept else []
    return blocks


def _facts(results: Sequence[Result], made: Sequence[str]) -> Iterable[str]:
    """When, how long, on what and by what; ``made`` says the latter two where no run does."""
    manifests = [result.manifest for result in results]
    started = sorted(m.started for m in manifests if m.started)
    if started:
        yield f"Started: {started[0][:16]}; the last run: {started[-1][:16]}."
    seconds = [m.seconds for m in manifests]
    yield (
        f"Time: {formatting.duration(sum(seconds))} of training and evaluation in all, "
        f"{formatting.duration(sum(seconds) / len(seconds))} a run."
    )
    if made:
        yield from made
        return
    yield "Hardware: " + _each(_words(asdict(m.hardware)) for m in manifests)
    yield "Versions: " + _each(_words(m.versions) for m in manifests)
    yield "Code: " + _each(
        f"{m.code or 'unknown'}, git revision {_revision(m.git or Git())}" for m in manifests
    )


def _digests(results: Sequence[Result]) -> doc.Table:
    rows = {
        (data.name, file, digest)
        for data in (result.manifest.data for result in results)
        for file, digest in data.digests.items()
    }
    caption = "Digests of the data."
    return doc.Table(["Dataset", "File", "Digest"], sorted(rows), caption=caption, name="data")


def _each(texts: Iterable[str]) -> str:
    """Each different text once, in order."""
    return "; ".join(sorted(set(texts))) + "."


def _words(mapping: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in mapping.items() if value not in (None, ""))


def _revision(git: Git) -> str:
    revision = git.revision or "unknown"
    return revision[:12] + (" with uncommitted changes" if git.dirty else "")
