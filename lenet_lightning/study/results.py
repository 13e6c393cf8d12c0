"""The run folders of a study, read into figures that can be compared."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_lightning import statistics
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.store.manifest import Manifest
from lenet_lightning.study.plan import Setting, Study, load

COMPLETE = ("finished", "nonfinite")
INDEX = "study.json"
PLAN = "study.yaml"


@dataclass(frozen=True)
class Result:
    """What one run left behind.

    A run that ended because its loss was no longer finite is complete, and counts at chance
    (one over the number of classes) from there on: such a network tells no class from another,
    and Keras would have gone on drawing that line.

    Attributes:
        setting: What was run.
        seed: With which seed.
        folder: Its run folder, relative to the study's folder; empty if there is none.
        status: As in ``run.json``, or ``missing``.
        error: One sentence, for a run that failed.
        manifest: ``run.json``.
        config: ``config.yaml``.
        metrics: The columns of ``metrics.csv``, each [E].
        path: The run folder.
    """

    setting: Setting
    seed: int
    folder: str = ""
    status: str = "missing"
    error: str = ""
    manifest: Manifest = field(default_factory=lambda: Manifest("missing"))
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, NDArray] = field(default_factory=dict)
    path: Path = Path()

    @property
    def complete(self) -> bool:
        """Whether its figures count."""
        return self.status in COMPLETE

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.manifest.data.classes

    @property
    def test_size(self) -> int:
        """The number of test images."""
        return self.manifest.data.test_size

    @property
    def protocol(self) -> str:
        """Its ``data.protocol``: holdout, report or watch."""
        return self.manifest.protocol

    @property
    def test_prefix(self) -> str:
        """The columns that hold the test set's figures by epoch; empty if it was not watched."""
        return {"watch": "test/", "report": "val/"}.get(self.protocol, "")

    def curve(self, column: str) -> NDArray[np.float64]:
        """One column of ``metrics.csv`` by epoch, [E]; empty if the run does not have it.

        A run that diverged has every column, to the last epoch that was asked for.
        """
        values = np.asarray(self.metrics.get(column, []), dtype=np.float64)
        if self.status != "nonfinite":
            return values
        epochs = int(self.config.get("trainer", {}).get("max_epochs") or len(values))
        filler = self._chance if "acc" in column else math.nan
        padded = np.full(max(epochs, len(values)), filler)
        padded[: len(values)] = np.where(np.isfinite(values), values, filler)
        return padded

    def test_curve(self, column: str) -> NDArray[np.float64]:
        """A test-set column (``acc``, ``loss_negative``, ...) by epoch; empty if not watched."""
        return self.curve(self.test_prefix + column) if self.test_prefix else np.empty(0)

    def measure(self, name: str) -> float:
        """One of `compare.MEASURES`; NaN where the run does not have it."""
        if self.status == "nonfinite" and ("loss" in name or name == "variation"):
            return math.nan
        if name == "variation":
            return statistics.variation(self.test_curve("acc"))
        if name == "differing_predictions":
            found = self.predictions()
            return float((found["original"] != found["negative"]).mean()) if found else math.nan
        which, _, column = name.partition("_")
        column = column.replace("accuracy", "acc")
        if which == "honest":
            return self._honest(column)
        values = self.test_curve(column)
        values = values[np.isfinite(values)]
        if not len(values):
            return math.nan
        return float(values.max() if which == "best" else values[-1])

    def predictions(self) -> dict[str, NDArray] | None:
        """Arrays ``labels``, ``original`` and ``negative``, each [N], or None."""
        file = self.path / "test_predictions.npz"
        if not self.complete or not file.is_file():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name].astype(np.int64) for name in arrays.files}

    @property
    def _chance(self) -> float:
        return 1 / len(self.classes) if self.classes else math.nan

    def _honest(self, column: str) -> float:
        if self.protocol == "report":
            return math.nan
        value = (self.manifest.test or {}).get(column)
        if value is not None and math.isfinite(value):
            return float(value)
        by_chance = self.status == "nonfinite" and column in ("acc", "acc_negative")
        return self._chance if by_chance else math.nan


def read_study(folder: Path) -> Study:
    """The plan that a study's folder keeps.

    Raises:
        UserError: The folder is not a study's, or its plan is damaged.
    """
    if not (folder / PLAN).is_file():
        raise UserError(
            f"{folder} is not a study's folder (it has no {PLAN}); give one that 'study --config "
            f"FILE' made, such as lightning_logs/report"
        )
    return load(folder / PLAN, check_base=False)


def gather(study: Study, folder: Path) -> list[Result]:
    """Every run of a study, in the order of its settings and seeds.

    Raises:
        UserError: The folder holds not a single run of it.
    """
    index = read_index(folder).get("runs")
    results = [
        _result(setting, seed, folder, index)
        for setting in study.settings.values()
        for seed in study.seeds
    ]
    if not any(result.folder for result in results):
        raise UserError(
            f"{folder} holds no runs of the study '{study.name}'; run it first with "
            f"'study --config FILE', or give the folder that does"
        )
    return results


def read_index(folder: Path) -> dict[str, Any]:
    """What the last ``study`` wrote about its runs; empty if it wrote nothing readable."""
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _result(
    setting: Setting, seed: int, folder: Path, index: dict[str, dict[str, Any]] | None
) -> Result:
    """The run that the index names; without an index, the newest complete one."""
    key = f"{setting.name}/seed_{seed}"
    entry = (index or {}).get(key, {})
    run = _read(folder / entry["folder"]) if entry.get("folder") else None
    if index is None:
        run = _newest(folder / key)
    error = str(entry.get("error") or "")
    if run is None:
        return Result(setting, seed, status="failed" if error else "missing", error=error)
    status: str = run.manifest.status
    if error and status not in COMPLETE:
        status = "failed"
    return Result(
        setting=setting,
        seed=seed,
        folder=run.folder.relative_to(folder).as_posix(),
        status=status,
        error="" if status in COMPLETE else error or run.manifest.error or "",
        manifest=run.manifest,
        config=run.config,
        metrics=run.metrics,
        path=run.folder,
    )


def _read(folder: Path) -> run_folder.Run | None:
    try:
        return run_folder.read(folder)
    except UserError:
        return None


def _newest(parent: Path) -> run_folder.Run | None:
    """The newest complete run below a folder, or else the newest."""
    versions = sorted(parent.glob("version_*"), key=lambda path: int(path.name[8:] or -1))
    found = [run for run in map(_read, reversed(versions)) if run is not None]
    complete = [run for run in found if run.manifest.status in COMPLETE]
    return next(iter([*complete, *found]), None)
