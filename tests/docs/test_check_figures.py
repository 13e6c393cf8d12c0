"""Figures in README and the docs agree with the kept files."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    return importlib.import_module("check_figures")


def test_every_figure_on_the_pages_is_recomputed_or_has_a_source(
    figures: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    code = figures.main([])
    assert (code, capsys.readouterr().out) == (0, "")


PAGE = """# Page

MNIST reaches 99.61 ± 0.05 %
after `--epochs 2.5`, and 1,024 images.

| CIFAR-10 | -0.81 | 95 % interval |

## By hand

About 2 minutes.
"""
EXPECTED = ["reaches 99.61 ± 0.05 % after", "| CIFAR-10 | -0.81 |"]
STATED = {"1,024 images": "a source", "## By hand": "the section says so"}


def test_a_page_whose_figures_agree(figures: ModuleType) -> None:
    page = figures.check(PAGE, EXPECTED, STATED)
    assert (page.text, page.differences) == (PAGE, [])


@pytest.mark.parametrize("number, wrong", [("99.61", "99.62"), ("0.05", "0.5"), ("-0.81", "+0.81")])
def test_another_number_is_found_and_corrected(
    figures: ModuleType, number: str, wrong: str
) -> None:
    page = figures.check(PAGE.replace(number, wrong), EXPECTED, STATED)
    (difference,) = page.differences
    assert f"{wrong} should be {number}" in difference
    assert page.text == PAGE


@pytest.mark.parametrize("text", ["3.5", "1,000", "7 %", "7 points", "7 ms", "7 times"])
def test_a_figure_without_a_source_is_found(figures: ModuleType, text: str) -> None:
    page = figures.check(f"{PAGE}\n## More\n\nIt takes {text} here.\n", EXPECTED, STATED)
    (difference,) = page.differences
    assert difference.startswith("line 14: ")


@pytest.mark.parametrize("text", ["`3.5 s`", "version 2.15.0", "CIFAR-10", "2026-11-24", "3 seeds"])
def test_what_is_no_figure_needs_no_source(figures: ModuleType, text: str) -> None:
    assert not figures.check(f"It is {text} here.", [], {}).differences


def test_a_sentence_that_is_not_on_the_page_is_named(figures: ModuleType) -> None:
    page = figures.check(PAGE, [*EXPECTED, "fails on 99.61 %"], {**STATED, "never said": "x"})
    assert len(page.differences) == 2
    assert "fails on 99.61 %" in page.differences[0] and "never said" in page.differences[1]


def test_a_sentence_that_is_there_twice_must_agree_once(figures: ModuleType) -> None:
    text = "It is 1.5 s. It is 2.5 s."
    stated = {"2.5 s": "a source"}
    assert not figures.check(text, ["It is 1.5 s."], stated).differences
    assert figures.check(text, ["It is 3.5 s."], stated).differences
