"""The browser of the page tests sees what a person's would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import Page

pytestmark = pytest.mark.browser


def test_a_page_is_shown_in_its_size_and_its_faults_are_kept(page: Page) -> None:
    Path("page.html").write_text("<!DOCTYPE html><p>text</p><script>absent()</script>")
    page.open(Path("page.html"), width=360)
    assert page.js("return innerWidth") == 360
    assert page.js("return Promise.resolve(arguments[0] + 1)", 1) == 2
    assert "absent is not defined" in page.errors()[0]
    page.screenshot(Path("page.png"), whole=True)
    page.pdf(Path("page.pdf"))
    assert Path("page.png").read_bytes().startswith(b"\x89PNG")
    assert Path("page.pdf").read_bytes().startswith(b"%PDF")
