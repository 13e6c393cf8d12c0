"""The bar that shows how far a study is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lenet_lightning import formatting
from lenet_lightning.store import run_folder
from lenet_lightning.study import estimate


class Progress:
    """Epochs done, current runs and time left as a bar; a line when a run ends.

    Both go to standard error, the bar only to a terminal. It reads the run folders, so that it is
    the same wherever the runs train.

    Args:
        configs: The configuration of every run still to do, by key.
        folder: The study's folder.
        done: Runs that were complete before.
    """

    def __init__(self, configs: Mapping[str, Mapping[str, Any]], folder: Path, done: int) -> None:
        self.left = {key: estimate.epochs(config) for key, config in configs.items()}
        self.total = done + len(configs)
        self.folder = folder
        self.start = time.monotonic()
        self.bar = tqdm(
            total=sum(self.left.values()),
            unit="epoch",
            leave=False,
            dynamic_ncols=True,
            disable=None,
        )
        self.before = {key: self._written(key) for key in configs}

    def tick(self, keys: Iterable[str]) -> None:
        """Show how far the runs are that have begun.

        Args:
            keys: Those that have not ended.
        """
        if self.bar.disable:
            return
        running = {key: self._epochs(key) for key in keys if self._written(key) != self.before[key]}
        self.bar.n = self.bar.total - sum(self.left.values()) + sum(running.values())
        self.bar.set_postfix_str(", ".join(f"{k} {n}/{self.left[k]}" for k, n in running.items()))

    def ended(self, key: str, status: str, seconds: float | None) -> None:
        """Say how a run ended, and how long the others take at this pace."""
        epochs = self.left.pop(key)
        took = f" in {formatting.duration(seconds)}" if seconds else ""
        left = sum(self.left.values())
        if left:
            pace = (time.monotonic() - self.start) / (self.bar.total - left or epochs)
            took += f", {formatting.duration(pace * left)} left"
        done = f"[{self.total - len(self.left)}/{self.total}]"
        self.bar.write(f"{done} {key}: {status}{took}", file=sys.stderr)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()

    def _written(self, key: str) -> int:
        """When a run last printed something, which the first thing that it does is."""
        log = self.folder / key / "output.log"
        return log.stat().st_mtime_ns if log.exists() else 0

    def _epochs(self, key: str) -> int:
        """Finished epochs of a run's newest folder."""
        files = (self.folder / key).glob(f"version_*/{run_folder.METRICS}")
        newest = max(files, key=lambda file: run_folder.version(file.parent), default=Path())
        return len(run_folder.read_rows(newest)) if newest.name else 0
