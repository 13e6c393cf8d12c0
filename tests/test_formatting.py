"""Numbers and texts for people and for spreadsheets."""

from __future__ import annotations

import pytest

from lenet_lightning import formatting


@pytest.mark.parametrize("text", ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert formatting.csv_cell(text) == f"'{text}"


def test_columns_never_touch() -> None:
    rows = [["", "a", "loss"], ["long name", "100.00%", "1.2e+30"], ["b", "", "0.1"]]
    assert formatting.columns(rows).splitlines() == [
        "                  a      loss",
        "long name   100.00%   1.2e+30",
        "b                         0.1",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.1235"), (99.9, "99.9000"), (123.456, "123"), (1.5e30, "1.5e+30")],
)
def test_huge_losses_have_three_digits(value: float, text: str) -> None:
    assert formatting.loss(value) == text
    assert "e+30" in formatting.number(1.5e30, "loss")


@pytest.mark.parametrize("text", ["", "-0.5", "+1e-3", "-inf", "a=b", "7", "cat"])
def test_numbers_and_other_cells_stay(text: str) -> None:
    assert formatting.csv_cell(text) == text
