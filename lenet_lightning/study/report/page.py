"""A report as one self-contained HTML file: sortable tables, interactive curves, print on A4.

The files in ``page/`` are put into it: style, script, and uPlot (https://github.com/leeoniya/uPlot,
MIT licence), which draws the curves.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from lenet_lightning.plotting import Array, Curve, Panel, mean_curve, side_by_side
from lenet_lightning.study.report import document as doc

ASSETS = Path(__file__).parent / "page"
VERDICTS = ("reproduced", "not reproduced", "undecided")


def to_html(title: str, blocks: Sequence[doc.Block]) -> str:
    """One self-contained page: no script, font or picture from elsewhere."""
    sections = [
        block.text for block in blocks if isinstance(block, doc.Heading) and block.level == 2
    ]
    links = "".join(f'<a href="#{_anchor(text)}">{_inline(text)}</a>' for text in sections)
    body = "\n".join(_html(block) for block in blocks)
    script, style = _asset("page.js"), _asset("page.css")
    if any(picture.panels for picture in doc.pictures(blocks)):
        licence = _asset("uPlot.LICENSE")
        script = f"{_asset('uPlot.js')}\n/* uPlot\n{licence}*/\n{script}"
        style = _asset("uPlot.css") + style
    return Template(_asset("page.html")).substitute(
        title=html.escape(title), heading=_inline(title), links=links, body=body,
        style=style, script=script,
    )  # fmt: skip


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))
    # A number stays on one line with its unit, an interval with itself.
    text = re.sub(r"(?<=\d) (?=%|points|±)", "&nbsp;", text)
    text = re.sub(r"(?<=±) (?=\d)", "&nbsp;", text)
    return re.sub(r"(\[[-+\d.]+,) (?=[-+\d.]+\])", r"\1&nbsp;", text)


def _html(block: doc.Block) -> str:
    match block:
        case doc.Heading(text, level):
            return f'<h{level} id="{_anchor(text)}">{_inline(text)}</h{level}>'
        case doc.Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case doc.Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case doc.Code(text):
            return f'<pre tabindex="0">{html.escape(text, quote=False)}</pre>'
        case doc.Gallery(items):
            return '<div class="figures">' + "".join(map(_picture, items)) + "</div>"
        case doc.Table():
            return _table(block)


def _picture(picture: doc.Picture) -> str:
    caption = f"<figcaption>{_inline(picture.caption)}</figcaption></figure>"
    alt = html.escape(picture.alt)
    if picture.panels:
        panels = [_panel(panel) for row in picture.panels for panel in row]
        # No text in it ends the script.
        data = json.dumps(panels, separators=(",", ":")).replace("<", "\\u003c")
        return (
            f'<figure class="chart"><div class="plots" role="img" aria-label="{alt}">'
            f"<noscript>The curves need a script; they are also in figures/{picture.name}.png."
            f'</noscript></div><script type="application/json">{data}</script>{caption}'
        )
    data = base64.b64encode(picture.png).decode("ascii")
    wide = ' class="wide" tabindex="0"' if picture.wide else ""
    return f'<figure{wide}><img alt="{alt}" src="data:image/png;base64,{data}">{caption}'


def _panel(panel: Panel) -> dict[str, Any]:
    curves = [_curve(curve, panel.band) for curve in panel.curves if any(map(len, curve.runs))]
    percent = "accuracy" in panel.quantity or "error" in panel.quantity
    log = "error" in panel.quantity
    return {"quantity": panel.quantity, "percent": percent, "log": log, "curves": curves}


def _curve(curve: Curve, band: bool) -> dict[str, Any]:
    """Its label, colour and dashes, and what is drawn: a mean, single runs, a range."""
    runs = side_by_side([run for run in curve.runs if len(run)])
    found: dict[str, Any] = {
        "label": curve.label, "colour": curve.colour, "dashes": curve.dashes, "runs": [],
    }  # fmt: skip
    if not curve.split:
        found["mean"] = _values(mean_curve(curve.runs))
    if curve.split or (not band and len(runs) > 1):
        found["runs"] = [_values(run) for run in runs]
    elif band:
        found["range"] = [_values(np.fmin.reduce(runs)), _values(np.fmax.reduce(runs))]
    return found


def _values(curve: Array) -> list[float | None]:
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in curve]


def _table(table: doc.Table) -> str:
    """A table that scrolls by keyboard, its first column with it."""
    columns = [c for c in range(len(table.columns)) if c or not table.grouped]

    def cell(column: int, text: str) -> str:
        kind = "number" if column in table.numeric else "long" if len(text) > 40 else ""
        if text in VERDICTS:
            kind = text.replace(" ", "-")
        attributes = f' class="{kind}"' if kind else ""
        if column == columns[0]:
            return f'<th scope="row"{attributes}>{_inline(text)}</th>'
        return f"<td{attributes}>{_inline(text)}</td>"

    def row(texts: Sequence[str]) -> str:
        return "<tr>" + "".join(cell(column, texts[column]) for column in columns) + "</tr>"

    heads = "".join(
        f'<th scope="col"{" class=" + chr(34) + "number" + chr(34) if c in table.numeric else ""}>'
        f"{_inline(table.columns[c])}</th>"
        for c in columns
    )
    if table.grouped:
        body = "".join(
            f'<tbody><tr class="group"><th scope="rowgroup" colspan="{len(columns)}">'
            f"<span>{_inline(text)}</span></th></tr>{''.join(map(row, rows))}</tbody>"
            for text, rows in groupby(table.rows, key=lambda texts: texts[0])
        )
    else:
        body = f"<tbody>{''.join(map(row, table.rows))}</tbody>"
    filters = ",".join(str(columns.index(column)) for column in table.filters)
    caption = _inline(table.caption) or "Table"
    many = ' class="many"' if len(columns) > 8 else ""
    name = _anchor(table.name or table.caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="caption-{name}">'
        f'<table{many} data-filters="{filters}"><caption id="caption-{name}"><span>{caption}</span>'
        f"</caption><thead><tr>{heads}</tr></thead>{body}</table></div>"
    )
