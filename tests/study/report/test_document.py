"""Reports as HTML and Markdown: nothing that a name or title holds is taken for markup."""

from __future__ import annotations

import pytest

from lenet_lightning.study.report.document import (
    Bullets,
    Code,
    Heading,
    Paragraph,
    Table,
    to_html,
    to_markdown,
)

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


def test_code_stays_code() -> None:
    assert to_markdown("t", [Paragraph("see `a<b`")]).endswith("see `a<b`\n")
    assert to_markdown("t", [Code("```\n<b>")]).endswith("````\n```\n<b>\n````\n")
