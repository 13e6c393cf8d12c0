"""A report as a list of blocks; written as plain text, Markdown, CSV and LaTeX. HTML is `page`."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lenet_lightning.formatting import NONE, csv_cell
from lenet_lightning.plotting import Panel


@dataclass(frozen=True)
class Heading:
    """A section's heading; level 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text; words in backticks are set as code."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of plain sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Text to be typed, line for line."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text under columns.

    Attributes:
        columns: Headings.
        rows: Each as long as `columns`.
        numeric: The columns that are set flush right.
        caption: What the table shows.
        name: The stem of its CSV and LaTeX files; empty for none.
        grouped: Whether rows with the same first cell stand under it in HTML.
        filters: The columns by which the page filters rows.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    caption: str = ""
    name: str = ""
    grouped: bool = False
    filters: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        rows: Sequence[Mapping[str, str]],
        caption: str,
        name: str = "",
        keep_empty: bool = True,
        **options: Any,
    ) -> Table:
        """A table of rows that map the same columns to cells; all but the first are numbers.

        Unless ``keep_empty``, a column in which no row has anything is left out.
        """
        if not keep_empty:
            full = {column for row in rows for column, cell in row.items() if cell != NONE}
            rows = [{column: row[column] for column in row if column in full} for row in rows]
        columns = list(rows[0]) if rows else []
        options = {"numeric": frozenset(range(1, len(columns)))} | options
        cells = [list(row.values()) for row in rows]
        return cls(columns, cells, caption=caption, name=name, **options)


@dataclass(frozen=True)
class Picture:
    """A PNG with the stem of its file, its caption and what it shows for those who cannot see.

    Where its panels of curves are known, the HTML page draws those instead.
    """

    name: str
    caption: str
    alt: str
    png: bytes = field(repr=False)
    wide: bool = False
    panels: Sequence[Sequence[Panel]] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side where there is room."""

    pictures: Sequence[Picture]


Block = Heading | Paragraph | Bullets | Code | Table | Gallery


def to_text(table: Table) -> str:
    """A table of few rows as plain text: its caption, then a line for each of its columns."""
    lines = [list(line) for line in zip(table.columns, *table.rows, strict=True)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    texts = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join([table.caption, *texts])


def to_markdown(title: str, blocks: Sequence[Block], place: str = "figures/") -> str:
    """The same in Markdown; pictures are expected in ``place``, empty for beside the text."""
    return (
        "\n\n".join([f"# {_plain(title)}", *(_markdown(block, place) for block in blocks)]) + "\n"
    )


def pictures(blocks: Sequence[Block]) -> list[Picture]:
    """Every picture of the blocks, in order."""
    return [p for block in blocks if isinstance(block, Gallery) for p in block.pictures]


def tables(blocks: Sequence[Block]) -> list[Table]:
    """Every table of the blocks that has a name, in order."""
    return [block for block in blocks if isinstance(block, Table) and block.name]


def to_csv(table: Table) -> str:
    """A table's cells as they are shown, comma-separated."""
    text = io.StringIO()
    rows = [table.columns, *table.rows]
    csv.writer(text, lineterminator="\n").writerows([csv_cell(c) for c in row] for row in rows)
    return text.getvalue()


def read_csv(path: Path, table: Table) -> Table | None:
    """A table with the rows that :func:`to_csv` wrote of it; None without the file."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    return replace(table, columns=columns, rows=rows)


def to_latex(table: Table) -> str:
    """A ``tabular`` with the rules of LaTeX's package booktabs."""

    def row(cells: Sequence[str]) -> str:
        return "  " + " & ".join(map(_latex, cells)) + r" \\"

    columns = "".join("r" if c in table.numeric else "l" for c in range(len(table.columns)))
    lines = [
        f"% {' '.join(table.caption.split())}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"  \toprule",
        row(table.columns),
        r"  \midrule",
        *map(row, table.rows),
        r"  \bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    """Text of which nothing is a command."""
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "±": r"$\pm$", "\N{EN DASH}": "--", "<": r"$<$", ">": r"$>$",
        **{c: f"\\{c}" for c in "&%$#_{}"},
    }  # fmt: skip
    return "".join(special.get(c, c) for c in " ".join(text.split()))


def _markdown(block: Block, place: str) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Bullets(items):
            return "\n".join(f"- {_plain(item)}" for item in items)
        case Code(text):
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`*", text)))
            return f"{fence}\n{text}\n{fence}"
        case Gallery(items):
            return _markdown_gallery(items, place)
        case Table():
            return _markdown_table(block)


def _plain(text: str) -> str:
    """Text in one line of which nothing but code is HTML, a link or a picture."""

    def escaped(found: re.Match[str]) -> str:
        return found[0] if found[0].startswith("`") else {"<": "&lt;", "](": "]\\("}[found[0]]

    return re.sub(r"`[^`]*`|<|\]\(", escaped, " ".join(text.split("\n")))


def _markdown_gallery(items: Sequence[Picture], place: str) -> str:
    """Two pictures in a row, then their captions."""
    width = ' width="49%"' if len(items) > 1 else ""
    images = "\n".join(
        f'<img src="{place}{p.name}.png" alt="{html.escape(p.alt)}"{width}>' for p in items
    )
    return images + "\n\n" + "; ".join(_plain(p.caption).rstrip(".") for p in items) + "."


def _markdown_table(table: Table) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = ["---:" if column in table.numeric else "---" for column in range(len(table.columns))]
    lines = [row(table.columns), row(rule), *map(row, table.rows)]
    return "\n".join([*([_plain(table.caption), ""] if table.caption else []), *lines])
