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
    """The epochs of a configuration, at least 1."""
    return max(1, int((config.get("trainer") or {}).get("max_epochs") or 1))


def seconds(logs: Path, configs: Iterable[Mapping[str, Any]]) -> float | None:
    """Seconds that runs take one after another; None where no finished run tells.

    Args:
        logs: A folder of runs, of which every finished one counts.
        configs: The configuration of each run.
    """
    measured: dict[tuple[str, ...], list[float]] = {}
    for file in logs.glob(f"**/version_*/{run_folder.MANIFEST}"):
        try:
            run = run_folder.read(file.parent)
        except UserError:  # a damaged run tells nothing
            continue
        if run.manifest.status == "finished" and run.manifest.epoch_seconds:
            measured.setdefault(work(run.config), []).append(run.manifest.epoch_seconds)
    times = [(measured.get(work(config), []), epochs(config)) for config in configs]
    if not all(known for known, _ in times):
        return None
    return sum(statistics.median(known) * count for known, count in times)
