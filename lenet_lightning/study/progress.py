"""The line that says how far a study is."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from lenet_lightning import formatting
from lenet_lightning.store import run_folder
from lenet_lightning.study import estimate


class Progress:
    """Runs done, current runs with their epochs, time left; on standard error.

    On a terminal one line is kept up to date; elsewhere a line is printed when a run ends.

    Args:
        configs: The configuration of every run still to do, by key.
        folder: The study's folder.
        done: Runs that were complete before.
        jobs: How many run at a time.
        times: What is known of epoch times.
        stream: Where to print.
    """

    def __init__(
        self,
        configs: Mapping[str, Mapping[str, Any]],
        folder: Path,
        done: int,
        jobs: int,
        times: estimate.EpochTimes,
        stream: TextIO | None = None,
    ) -> None:
        self.left = dict(configs)
        self.total = done + len(configs)
        self.folder = folder
        self.jobs = jobs
        self.times = times
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.started: dict[str, float] = {}

    def tick(self, running: list[str]) -> None:
        """Show the state of the runs that are running."""
        for key in running:
            self.started.setdefault(key, time.time())
        if self.live:
            self._show(self._line(running))

    def ended(self, key: str, status: str, seconds: float | None, epoch: float | None) -> None:
        """Say how a run ended; what it took improves the estimate."""
        config = self.left.pop(key)
        self.times.learn(config, epoch)
        took = f" in {formatting.duration(seconds)}" if seconds else ""
        done = self.total - len(self.left)
        left = f", {formatting.duration(self._seconds_left({}))} left" if self.left else ""
        self._show("")
        print(f"[{done}/{self.total}] {key}: {status}{took}{left}", file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the terminal's line empty."""
        self._show("")

    def _line(self, running: list[str]) -> str:
        epochs = {key: self._epochs(key) for key in running}
        now = ", ".join(f"{key} {epochs[key]}/{estimate.epochs(self.left[key])}" for key in running)
        done = self.total - len(self.left)
        left = formatting.duration(self._seconds_left(epochs))
        return f"[{done}/{self.total}] {now} · {left} left"

    def _show(self, line: str) -> None:
        if self.live:
            # Cut rather than wrap: a wrapped line cannot be written over.
            print(f"\r\x1b[K{line[:100]}", end="", file=self.stream, flush=True)

    def _epochs(self, key: str) -> int:
        """Finished epochs of a running run; its times are learnt until it ends."""
        since = self.started[key]
        files = [
            file
            for file in (self.folder / key).glob(f"version_*/{run_folder.METRICS}")
            if file.stat().st_mtime >= since
        ]
        if not files:
            return 0
        seconds = run_folder.read_metrics(max(files, key=lambda f: f.stat().st_mtime)).get(
            "seconds"
        )
        if seconds is None or not len(seconds):
            return 0
        if estimate.work(self.left[key]) not in self.times.measured:
            self.times.learn(self.left[key], statistics.median(seconds.tolist()))
        return len(seconds)

    def _seconds_left(self, epochs: Mapping[str, int]) -> float:
        each = (
            self.times.seconds(config) * max(0, estimate.epochs(config) - epochs.get(key, 0))
            for key, config in self.left.items()
        )
        return sum(each) / max(1, min(self.jobs, len(self.left)))
