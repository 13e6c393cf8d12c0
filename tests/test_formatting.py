"""Numbers and texts for people and for spreadsheets."""

from __future__ import annotations

import pytest

from lenet_lightning import formatting


@pytest.mark.parametrize("text", ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert formatting.csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "-0.5", "+1e-3", "-inf", "a=b", "7", "cat"])
def test_numbers_and_other_cells_stay(text: str) -> None:
    assert formatting.csv_cell(text) == text
