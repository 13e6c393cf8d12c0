"""What a study says while it runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from lenet_lightning.study.progress import Progress
from tests.study.fakes import write_run

CONFIGS: dict[str, Any] = {f"{name}/seed_0": {"trainer": {"max_epochs": 4}} for name in "ab"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_when_a_run_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(CONFIGS, tmp_path, done=1)
    progress.tick(CONFIGS)
    progress.ended("a/seed_0", "finished", 2.0)
    progress.ended("b/seed_0", "failed: it broke", None)
    progress.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("[2/3] a/seed_0: finished in 2 s, ") and first.endswith(" left")
    assert second == "[3/3] b/seed_0: failed: it broke"


def test_a_terminal_shows_the_epochs_of_the_runs_that_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":  # what an earlier session left counts only once the run has begun again
        write_run(tmp_path / name / "seed_0/version_0", epochs=3)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    progress = Progress(CONFIGS, tmp_path, done=0)
    (tmp_path / "b/seed_0/output.log").touch()
    progress.tick(CONFIGS)
    assert "b/seed_0 3/4" in terminal.getvalue() and "3/8" in terminal.getvalue()
    assert "a/seed_0" not in terminal.getvalue()
    progress.close()
