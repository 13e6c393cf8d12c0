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


def test_every_test_that_reliability_names_exists() -> None:
    page = (REPOSITORY / "docs/reliability.md").read_text()
    paths = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    names = set(re.findall(r"`(test_\w+)`", page))
    assert paths and names
    assert all((REPOSITORY / path).exists() for path in paths)
    code = "\n".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert all(re.search(rf"def {name}\b", code) for name in names)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == __version__
