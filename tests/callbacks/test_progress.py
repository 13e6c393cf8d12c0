"""The progress bar counts the optimizer steps of the whole training, on a terminal only."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lenet_lightning.callbacks.progress import StepBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Returns what puts a terminal in the place of the streams; in a test, after pytest has."""

    def put() -> Terminal:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        return terminal

    return put


def trainer(**options: Any) -> Any:
    loader = SimpleNamespace(steps=7)
    defaults = {"max_steps": -1, "max_epochs": 3, "global_step": 0, "callbacks": []}
    options = defaults | {"accumulate_grad_batches": 1, "train_dataloader": loader} | options
    return SimpleNamespace(**options)


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, 21),
        ({"accumulate_grad_batches": 2}, 12),
        ({"accumulate_grad_batches": 7}, 3),
        ({"max_steps": 5}, 5),
        ({"max_epochs": -1}, None),
        ({"max_epochs": None}, None),
        ({"max_steps": 0}, None),
    ],
)
def test_total(
    terminal: Callable[[], Terminal], options: dict[str, Any], total: int | None
) -> None:
    terminal()
    bar = StepBar()
    bar.on_train_start(trainer(**options), None)
    assert bar.bar.total == total
    bar.on_train_end()


@pytest.mark.parametrize("close", [StepBar.on_train_end, StepBar.on_exception])
def test_from_where_training_stands_to_its_end(
    terminal: Callable[[], Terminal], close: Any
) -> None:
    screen, bar, training = terminal(), StepBar(), trainer(global_step=14)
    bar.on_train_start(training, None)
    assert (bar.bar.initial, bar.bar.n) == (14, 14)
    for step in (15, 15, 17):  # the second batch of two that are accumulated; two steps at once
        training.global_step = step
        bar.on_train_batch_end(training)
        assert bar.bar.n == step
    bar.print("a", 1)
    assert "\ra 1\n" in screen.getvalue() and "14/21 [" in screen.getvalue()
    assert "steps/s]" in screen.getvalue()
    drawn = bar.bar
    close(bar)
    assert drawn.disable and bar.bar is None  # tqdm disables what it has closed
    assert not screen.getvalue().split("\r")[-2].strip(), "the bar is cleared"
    close(bar)
    bar.on_train_batch_end(training)


def test_hidden_where_there_is_no_terminal_or_it_is_disabled(
    terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal()
    bar = StepBar()
    assert bar.is_enabled
    for switch, shown in ((bar.disable, False), (bar.enable, True)):
        switch()
        bar.on_train_start(trainer(), None)
        assert bool(bar.bar.disable) is not shown  # None where it is drawn
        bar.on_train_end()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar.on_train_start(trainer(), None)
    assert bar.bar.disable and sys.stderr.getvalue() == ""
