"""Reports as HTML and Markdown: nothing that a name or title holds is taken for markup."""

from __future__ import annotations

import pytest

from lenet_lightning.formatting import NONE
from lenet_lightning.study.report.document import (
    Bullets,
    Code,
    Heading,
    Paragraph,
    Table,
    to_csv,
    to_latex,
    to_markdown,
)
from lenet_lightning.study.report.page import to_html

EVIL = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) a | b\n# heading"


@pytest.mark.parametrize(
    "block",
    [
        Heading(EVIL),
        Paragraph(EVIL),
        Bullets([EVIL]),
        Table([EVIL], [[EVIL]], caption=EVIL),
    ],
)
def test_markup(block: Heading | Paragraph | Bullets | Table) -> None:
    for text in (to_html(EVIL, [block]), to_markdown(EVIL, [block])):
        assert "<img" not in text and "&lt;img" in text
    markdown = to_markdown(EVIL, [block])
    assert "](javascript" not in markdown and "\n# heading" not in markdown


def test_tables_as_csv_and_latex() -> None:
    table = Table(
        ["Setting", "98 %"], [["a_b & \\c", "1 ± 2"], ["=1", NONE]], frozenset({1}), "x\ny"
    )
    assert to_csv(table) == f"Setting,98 %\na_b & \\c,1 ± 2\n'=1,{NONE}\n"
    assert to_latex(table).splitlines() == [
        "% x y",
        r"\begin{tabular}{lr}",
        r"  \toprule",
        r"  Setting & 98 \% \\",
        r"  \midrule",
        r"  a\_b \& \textbackslash{}c & 1 $\pm$ 2 \\",
        r"  =1 & -- \\",
        r"  \bottomrule",
        r"\end{tabular}",
    ]


def test_code_stays_code() -> None:
    assert to_markdown("t", [Paragraph("see `a<b`")]).endswith("see `a<b`\n")
    assert to_markdown("t", [Code("```\n<b>")]).endswith("````\n```\n<b>\n````\n")
