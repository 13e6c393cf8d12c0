"""Pages hold no placeholder, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lenet_lightning import __version__
from tests.conftest import REPOSITORY

PAGES = sorted(
    path
    for pattern in ("*.md", "benchmarks/*.md", "docs/**/*.md", "lightning_logs/*.md")
    for path in REPOSITORY.glob(pattern)
    if "version_" not in str(path)
)
LINK = re.compile(r"\]\(([^)#:]+)\)|src=\"([^\":]+)\"")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_page(page: Path) -> None:
    text = page.read_text()
    assert "@@" not in text
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        assert (page.parent / target).exists(), target


def test_every_guarantee_has_its_tests() -> None:
    """Each item names files and, after each, tests in it."""
    page = (REPOSITORY / "docs/reliability.md").read_text()
    section = page.partition("## Guaranteed\n")[2].partition("\n## ")[0]
    items = section.split("\n- ")[1:]
    assert items
    for item in items:
        guarantee, _, tests_named = item.partition("\n  Tests: ")
        named = re.split(r"`(tests/[\w/]+\.py)`", tests_named)[1:]
        assert named, guarantee
        for path, tests in zip(named[::2], named[1::2], strict=True):
            names = re.findall(r"`(test_\w+)`", tests)
            code = (REPOSITORY / path).read_text()
            assert names, f"{guarantee}: {path}"
            for name in names:
                assert re.search(rf"def {name}\b", code), f"{path}: {name}"


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == __version__
