"""How long runs take: from finished runs of the same work."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder


def work(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes epochs take the same time: dataset, batch size, accelerator and callbacks."""
    data, trainer = config.get("data") or {}, config.get("trainer") or {}
    batch = (data.get("init_args") or {}).get("batch_size", "")
    given = trainer.get("callbacks") or []
    callbacks = given if isinstance(given, list) else [given]
    names = (each["class_path"] for each in callbacks)
    return (str(data.get("class_path")), str(batch), str(trainer.get("accelerator")), *names)


def epochs(config: Mapping[str, Any]) -> int:
    """The epochs a configuration asks for."""
    return int((config.get("trainer") or {}).get("max_epochs") or 1)


class EpochTimes:
    """Seconds of an epoch by the kind of work.

    Args:
        logs: A folder of runs, of which every finished one counts.
    """

    def __init__(self, logs: Path) -> None:
        self.measured: dict[tuple[str, ...], list[float]] = {}
        for file in logs.glob(f"**/version_*/{run_folder.MANIFEST}"):
            try:
                run = run_folder.read(file.parent)
            except UserError:  # a damaged run tells nothing
                continue
            if run.manifest.status == "finished":
                self.learn(run.config, run.manifest.epoch_seconds)

    def learn(self, config: Mapping[str, Any], seconds: float | None) -> None:
        """Take in the epoch time of one run."""
        if seconds:
            self.measured.setdefault(work(config), []).append(seconds)

    def seconds(self, configs: Iterable[Mapping[str, Any]]) -> float | None:
        """Seconds that runs take one after another; None where no finished run tells."""
        total = 0.0
        for config in configs:
            known = self.measured.get(work(config))
            if not known:
                return None
            total += statistics.median(known) * epochs(config)
        return total
