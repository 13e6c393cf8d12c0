"""The page of a report in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenet_lightning.study.report import build
from tests.browser import Page
from tests.study.fakes import write_run, write_study

pytestmark = pytest.mark.browser

CELLS = "return [...document.querySelectorAll(arguments[0])].map((cell) => cell.textContent)"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(
        tmp_path_factory.mktemp("studies") / "fake", skip=("easy_ones/seed_1",), epochs=20
    )
    write_run(folder / "easy_ones/seed_1/version_0", accuracy=0.8, seed=1)
    return build.write(folder)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(page: Page, report: Path, width: int, dark: bool) -> None:
    page.open(report, width, dark=dark)
    assert page.js("return document.documentElement.scrollWidth") <= width
    assert page.js("return document.querySelectorAll('.chart canvas').length") == 7
    assert page.errors() == []


def test_claims_are_grouped_and_filtered(page: Page, report: Path) -> None:
    page.open(report)
    shown = "table[data-filters='0,1'] tbody tr:not(.group):not([hidden])"
    assert len(page.js(CELLS, shown)) == 6
    groups = page.js(CELLS, "tbody:not([hidden]) .group")
    assert groups[:2] == ["over 85\xa0%", "nearly the same"] and len(groups) == 5
    page.js(
        "const choice = document.querySelectorAll('.filters select')[1];"
        "choice.value = 'not reproduced'; choice.dispatchEvent(new Event('change'))"
    )
    assert len(page.js(CELLS, shown)) == 1
    assert page.js(CELLS, "tbody:not([hidden]) .group") == ["over 85\xa0%"]
    assert page.js(CELLS, ".filters output") == ["1 of 6 shown"]


def test_tables_are_sorted_by_number_and_by_keyboard(page: Page, report: Path) -> None:
    page.open(report)
    table = "#caption-accuracy-easy"
    script = (
        f"const head = document.querySelector('{table}').parentElement.tHead.rows[0].cells[2];"
        "head.querySelector('[role=button]').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));"
        "return [head.ariaSort, "
        f"document.querySelector('{table}').parentElement.tBodies[0].rows[0].cells[0].textContent]"
    )
    assert page.js(script)[0] == "descending"
    assert page.js(script) == ["ascending", "Ones"]


def test_tables_can_be_read_aloud_and_scrolled(page: Page, report: Path) -> None:
    page.open(report, width=360)
    assert page.js("return document.querySelectorAll('th:not([scope])').length") == 0
    faults = (
        "return [...document.querySelectorAll('table')].filter((table) => !table.caption ||"
        "table.parentElement.tabIndex !== 0 || getComputedStyle("
        "table.tHead.rows[0].cells[0]).position !== 'sticky').length"
    )
    assert page.js(faults) == 0


def test_legends_switch_curves(page: Page, report: Path) -> None:
    page.open(report)
    script = (
        "const figure = document.querySelector('.chart'), canvas = figure.querySelector('canvas');"
        "const before = canvas.toDataURL(), button = figure.querySelector('.legend button');"
        "button.click();"
        "return new Promise((done) => setTimeout(() => done("
        "[button.ariaPressed, before !== canvas.toDataURL()]), 200))"
    )
    assert page.js(script) == ["false", True]


def test_values_follow_the_pointer(page: Page, report: Path) -> None:
    page.open(report)
    script = (
        "const over = document.querySelector('.chart .u-over');"
        "const box = over.getBoundingClientRect();"
        "const at = {clientX: box.left + 1, clientY: box.top + 9, bubbles: true};"
        "over.dispatchEvent(new MouseEvent('mouseenter', at));"
        "over.dispatchEvent(new MouseEvent('mousemove', at));"
        "return new Promise((done) => setTimeout(() => done("
        "[...document.querySelectorAll('.chart .legend output')].slice(0, 5)"
        ".map((each) => each.value)), 200))"
    )
    *values, epoch = page.js(script)
    assert epoch == "epoch 1"
    assert all(value.endswith(" %") for value in values) and values[2].count(",") == 2


def test_no_column_is_lost_on_paper(page: Page, report: Path) -> None:
    page.open(report, width=703)  # A4 without its margins
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    widest = "return Math.max(...[...document.querySelectorAll('table')].map((t) => t.offsetWidth))"
    assert page.js(widest) <= 703
    page.pdf(Path("report.pdf"))
    assert Path("report.pdf").stat().st_size > 10_000
