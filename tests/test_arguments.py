"""Values of the commands that are no training."""

from __future__ import annotations

import argparse

import pytest

from lenet_lightning import arguments


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [3]), ("0-2", [0, 1, 2]), ("4,0", [4, 0]), ("0-1,7", [0, 1, 7]), ("5-5", [5])],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert arguments.seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "a", "-1", "3-", "0-", "2-1", "0,", "0-1000", "1.5", "4294967296"]
)
def test_no_seeds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        arguments.seeds(text)


def test_seeds_that_repeat() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="0-2,1 given, which repeats"):
        arguments.seeds("0-2,1")
