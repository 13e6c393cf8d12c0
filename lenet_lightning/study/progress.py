"""The line that says how far a study is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from lenet_lightning import formatting
from lenet_lightning.store import run_folder
from lenet_lightning.study import estimate


class Progress:
    """Runs done, current runs with their epochs, time left; on standard error.

    On a terminal one line is kept up to date; elsewhere a line is printed when a run ends. It
    reads the run folders, so that it is the same wherever the runs train.

    Args:
        configs: The configuration of every run still to do, by key.
        folder: The study's folder.
        done: Runs that were complete before.
        jobs: How many run at a time.
        stream: Where to print.
    """

    def __init__(
        self,
        configs: Mapping[str, Mapping[str, Any]],
        folder: Path,
        done: int,
        jobs: int,
        stream: TextIO | None = None,
    ) -> None:
        self.left = dict(configs)
        self.total = done + len(configs)
        self.folder = folder
        self.jobs = jobs
        self.times = estimate.EpochTimes(folder)
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.before = {key: self._written(key) for key in configs} if self.live else {}

    def tick(self, keys: Iterable[str]) -> None:
        """Show how far the runs are that have begun.

        Args:
            keys: Those that have not ended.
        """
        if not self.live:
            return
        running = [key for key in keys if self._written(key) != self.before[key]]
        now = ", ".join(
            f"{key} {self._epochs(key)}/{estimate.epochs(self.left[key])}" for key in running
        )
        self._show(f"[{self.total - len(self.left)}/{self.total}]{self._time_left()} {now}")

    def ended(self, key: str, status: str, seconds: float | None, epoch: float | None) -> None:
        """Say how a run ended; what it took improves the estimate."""
        self.times.learn(self.left.pop(key), epoch)
        took = f" in {formatting.duration(seconds)}" if seconds else ""
        done = f"[{self.total - len(self.left)}/{self.total}]"
        self._show("")
        print(f"{done} {key}: {status}{took}{self._time_left()}", file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the terminal's line empty."""
        self._show("")

    def _show(self, line: str) -> None:
        if self.live:
            # Cut rather than wrap: a wrapped line cannot be written over.
            print(f"\r\x1b[K{line[:100]}", end="", file=self.stream, flush=True)

    def _written(self, key: str) -> int:
        """When a run last printed something, which the first thing that it does is."""
        log = self.folder / key / "output.log"
        return log.stat().st_mtime_ns if log.exists() else 0

    def _epochs(self, key: str) -> int:
        """Finished epochs of a run's newest folder."""
        files = (self.folder / key).glob(f"version_*/{run_folder.METRICS}")
        newest = max(files, key=lambda file: run_folder.version(file.parent), default=Path())
        return len(run_folder.read_rows(newest)) if newest.name else 0

    def _time_left(self) -> str:
        seconds = self.times.seconds(self.left.values())
        if not self.left or seconds is None:
            return ""
        return f", {formatting.duration(seconds / min(self.jobs, len(self.left)))} left"
