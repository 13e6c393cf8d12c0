"""A report as a list of blocks, written as one HTML file or as Markdown with figures beside it."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #ffffff; --soft: #5c6370;
  --line: #d8dce2; --band: #f4f6f8; --good: #12703c; --bad: #b3261e; --open: #7a5b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6ea; --paper: #16181c; --soft: #a2a9b4;
  --line: #363b43; --band: #1f2329; --good: #6fd39a; --bad: #ff9a90; --open: #e8c766; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 80rem; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p, li { max-width: 46rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 1rem 0; }
a { color: inherit; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem; line-height: 1.4; }
.caption { color: var(--soft); font-size: .88rem; margin: .8rem 0 -.5rem; }
th, td { padding: .4rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { background: var(--band); vertical-align: bottom; }
td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th.number { white-space: normal; min-width: 6.5rem; }
td.text { min-width: 7rem; }
td.long { min-width: 12rem; }
.reproduced { color: var(--good); font-weight: 600; }
.not-reproduced { color: var(--bad); font-weight: 600; }
.undecided { color: var(--open); font-weight: 600; }
.figures { display: grid; gap: 1rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; max-width: 34rem; }
figure.wide { grid-column: 1 / -1; max-width: 60rem; overflow-x: auto; }
figure.wide img { min-width: 44rem; }
figure img { width: 100%; height: auto; background: #fff; border-radius: 4px;
  border: 1px solid var(--line); display: block; }
figcaption { font-size: .88rem; color: var(--soft); padding-top: .3rem; }
pre { background: var(--band); padding: .7rem; border-radius: 4px; overflow-x: auto;
  font-size: .82rem; }
code { overflow-wrap: anywhere; font-size: .92em; }
@media (max-width: 40rem) { table { font-size: .8rem; } th, td { padding: .35rem .4rem; }
  td.text { min-width: 5.5rem; } td.long { min-width: 8rem; } th.number { min-width: 4rem; } }
@media print { body { max-width: none; } .scroll { overflow: visible; } }
"""


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
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG with the stem of its file, its caption and what it shows for those who cannot see."""

    name: str
    caption: str
    alt: str
    png: bytes = field(repr=False)
    wide: bool = False


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side where there is room."""

    pictures: Sequence[Picture]


Block = Heading | Paragraph | Bullets | Code | Table | Gallery


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One self-contained page: no script, no font and no picture from elsewhere."""
    sections = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<a href="#{_anchor(text)}">{_inline(text)}</a>' for text in sections)
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{_inline(title)}</h1>\n"
        f"<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )


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


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))
    # A number stays on one line with its unit, an interval with itself.
    text = re.sub(r"(?<=\d) (?=%|points)", "&nbsp;", text)
    return re.sub(r"(\[[-+\d.]+,) (?=[-+\d.]+\])", r"\1&nbsp;", text)


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f'<h{level} id="{_anchor(text)}">{_inline(text)}</h{level}>'
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Code(text):
            return f"<pre>{html.escape(text, quote=False)}</pre>"
        case Gallery(items):
            return '<div class="figures">' + "".join(map(_picture, items)) + "</div>"
        case Table():
            return _html_table(block)


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    wide = ' class="wide"' if picture.wide else ""
    return (
        f'<figure{wide}><img alt="{html.escape(picture.alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_inline(picture.caption)}</figcaption></figure>"
    )


def _html_table(table: Table) -> str:
    verdicts = {"reproduced", "not reproduced", "undecided"}

    def cell(tag: str, column: int, text: str) -> str:
        length = "long" if len(text) > 40 else "text" if len(text) > 12 else ""
        kind = "number" if column in table.numeric else length if tag == "td" else ""
        if tag == "td" and text in verdicts:
            kind = text.replace(" ", "-")
        return f"<{tag}{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{_inline(text)}</{tag}>"

    def row(tag: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(cell(tag, i, text) for i, text in enumerate(texts)) + "</tr>"

    caption = f'<p class="caption">{_inline(table.caption)}</p>' if table.caption else ""
    body = "".join(row("td", texts) for texts in table.rows)
    head = row("th", table.columns)
    return (
        f'{caption}<div class="scroll"><table><thead>{head}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


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
