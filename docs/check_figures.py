"""Recompute the figures that README and the docs quote: ``python docs/check_figures.py [--write]``.

Each module in ``docs/quoted`` belongs to one page. It rebuilds sentences and tables of the page
from kept files such as ``docs/best/results.csv``; the page must hold them, number for number.
A number that nothing recomputes must be listed with its source under ``STATED``. ``--write``
puts the recomputed numbers into the pages.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
NUMBER = re.compile(r"(?<![\w.-])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|[.,]\d)")
UNIT = re.compile(r"\s*(?:%|points\b|[mk]?s\b|seconds\b|minutes\b|hours\b|[kMG]B\b|times\b)")
SKIPPED = re.compile(  # code, comments, tags, targets of links, the level of an interval
    r"^```.*?^```|`[^`\n]*`|<!--.*?-->|<[^<>]*>|\]\([^)]*\)|95 %\s+(?:prediction\s+)?interval",
    re.MULTILINE | re.DOTALL,
)
GENERATED = {"report.md", "robustness.md"}


@dataclass
class Page:
    """What a page holds beside what it should hold.

    Attributes:
        text: the page, with the recomputed numbers.
        differences: one sentence for each number or text that is not as it should be.
    """

    text: str
    differences: list[str] = field(default_factory=list)


def pattern(expected: str) -> re.Pattern[str]:
    """Return a pattern of the text with any numbers and any white space."""
    parts = NUMBER.split(expected)
    words = [r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in parts]
    return re.compile(f"({NUMBER.pattern})".join(words))


def check(text: str, expected: list[str], stated: dict[str, str]) -> Page:
    """Compare a page with its recomputed texts.

    Args:
        text: the page, as Markdown.
        expected: recomputed sentences and tables; words as on the page.
        stated: text -> source of its numbers; a heading (``## ...``) stands for the text below it.
    """
    page = Page(text)
    known: list[tuple[int, int]] = []
    corrections: list[tuple[int, int, str]] = []
    for sentence in expected:
        matches = list(pattern(sentence).finditer(text))
        exact = [match for match in matches if match[0].split() == sentence.split()]
        if not matches or (len(matches) > 1 and not exact):
            page.differences.append(f"found {len(matches)} times, expected once: {sentence}")
            continue
        match = (exact or matches)[0]
        known.append(match.span())
        for index, number in enumerate(NUMBER.finditer(sentence), start=1):
            if match[index] != number[0]:
                corrections.append((*match.span(index), number[0]))
                line = text.count("\n", 0, match.start(index)) + 1
                page.differences.append(f"line {line}: {match[index]} should be {number[0]}")
    for words in stated:
        if words.startswith("#"):
            section = re.compile(rf"^{re.escape(words)}$.*?(?=^#+ |\Z)", re.MULTILINE | re.DOTALL)
        else:
            section = re.compile(r"\s+".join(map(re.escape, words.split())))
        spans = [match.span() for match in section.finditer(text)]
        known += spans
        if not spans:
            page.differences.append(f"stated, but not on the page: {words}")
    for match in NUMBER.finditer(SKIPPED.sub(lambda code: " " * len(code[0]), text)):
        is_figure = "." in match[0] or "," in match[0] or UNIT.match(text, match.end())
        if is_figure and not any(first <= match.start() < last for first, last in known):
            line = text.count("\n", 0, match.start()) + 1
            page.differences.append(f"line {line}: {match[0]} has no source")
    for first, last, number in sorted(corrections, reverse=True):
        page.text = page.text[:first] + number + page.text[last:]
    return page


def pages() -> dict[str, ModuleType | None]:
    """Return README and the pages of docs, each with its module of ``docs/quoted`` if it has one.

    Pages that a command writes are left out: they and their CSVs are written together.
    """
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    written = [page for page in found if page.name not in GENERATED]
    modules: dict[str, ModuleType | None] = {str(page.relative_to(ROOT)): None for page in written}
    for path in sorted((ROOT / "docs" / "quoted").glob("*.py")):
        if path.stem != "kept":
            module = importlib.import_module(f"quoted.{path.stem}")
            modules[module.PAGE] = module
    return modules


def main(arguments: list[str] | None = None) -> int:
    """Check or correct every page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="correct the numbers in the pages")
    options = parser.parse_args(arguments)
    failed = False
    for name, module in pages().items():
        path = ROOT / name
        ledger = (module.expected(), module.STATED) if module else ([], {})
        page = check(path.read_text(), *ledger)
        for difference in page.differences:
            print(f"{name}: {difference}")
        failed = failed or bool(page.differences)
        if options.write:
            path.write_text(page.text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
