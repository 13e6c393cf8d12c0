"""The run folders of a study, read into figures that can be compared."""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lenet_lightning import statistics
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError, printable
from lenet_lightning.store import run_folder
from lenet_lightning.store.manifest import Data, Hardware, Manifest, Status
from lenet_lightning.study.claim_schema import MEASURES
from lenet_lightning.study.plan import Setting, Study, load

COMPLETE = ("finished", "nonfinite")
INDEX = "study.json"
PLAN = "study.yaml"
ROWS = "results.csv"


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
        measures: By name, of a run of which only its row of ``results.csv`` is kept.
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
    measures: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether its figures count."""
        return self.status in COMPLETE

    @property
    def test_prefix(self) -> str:
        """The columns that hold the test set's figures by epoch; empty if it was not watched."""
        return {"watch": "test/", "report": "val/"}.get(self.manifest.protocol, "")

    def curve(self, column: str) -> NDArray[np.float64]:
        """One column of ``metrics.csv`` by epoch, [E]; empty if the run does not have it.

        A run that diverged has every column, to the last epoch of its configuration.
        """
        values = np.asarray(self.metrics.get(column, []), dtype=np.float64)
        if self.status != "nonfinite":
            return values
        epochs = int(self.config.get("trainer", {}).get("max_epochs") or len(values))
        filler = self.chance if "acc" in column else math.nan
        padded = np.full(max(epochs, len(values)), filler)
        padded[: len(values)] = np.where(np.isfinite(values), values, filler)
        return padded

    def test_curve(self, column: str) -> NDArray[np.float64]:
        """A test-set column (``acc``, ``loss_negative``, ...) by epoch; empty if not watched."""
        return self.curve(self.test_prefix + column) if self.test_prefix else np.empty(0)

    def measure(self, name: str) -> float:
        """One of `claim_schema.MEASURES`; NaN where the run does not have it."""
        if self.measures:
            return self.measures.get(name, math.nan)
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
        file = self.path / run_folder.PREDICTIONS
        if not self.complete or not file.is_file():
            return None
        return run_folder.read_predictions(file, len(self.manifest.data.classes))

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        classes = self.manifest.data.classes
        return 1 / len(classes) if classes else math.nan

    def _honest(self, column: str) -> float:
        if self.manifest.protocol == "report":
            return math.nan
        value = (self.manifest.test or {}).get(column)
        if value is not None and math.isfinite(value):
            return float(value)
        by_chance = self.status == "nonfinite" and column in ("acc", "acc_negative")
        return self.chance if by_chance else math.nan


def complete(config: Mapping[str, Any]) -> run_folder.Run | None:
    """The complete run of a configuration by the code of today, if there is one."""
    if not config:
        return None
    found = run_folder.find(config["logs"], config["name"], dict(config))
    return next((run for run in found if run.manifest.status in COMPLETE), None)


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

    Without a single run folder, what ``results.csv`` keeps of the runs: no curves, no predictions.

    Raises:
        UserError: The folder holds not a single run of it.
    """
    index = read_index(folder).get("runs")
    results = [
        _result(setting, seed, folder, index)
        for setting in study.settings.values()
        for seed in study.seeds
    ]
    if not any(result.folder for result in results) and (folder / ROWS).is_file():
        rows = run_folder.read_file(folder / ROWS, _parse_rows)
        results = [
            _from_row(setting, seed, folder, rows.get((setting.name, str(seed)), {}))
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
    """What the last ``study`` wrote about its runs; empty if it wrote nothing.

    Raises:
        UserError: The file is damaged.
    """
    if not (folder / INDEX).exists():
        return {}
    return run_folder.read_file(folder / INDEX, _parse_index)


def _parse_index(text: str) -> dict[str, Any]:
    """The command, and a folder and an error for each run."""
    index: dict[str, Any] = json.loads(text)
    if not isinstance(index, dict) or not isinstance(index.get("command", ""), str):
        raise ValueError("it is not a mapping with a command")
    entries = index.get("runs", {})
    if not isinstance(entries, dict):
        raise ValueError("runs is not a mapping")
    for key, entry in entries.items():
        if not isinstance(entry, dict):
            raise ValueError(f"{key} is not a mapping")
        values = [entry.get(name, "") for name in ("folder", "error")]
        place = Path(str(values[0]))
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{key} has no folder or error")
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"the folder of {key} is not within the study's")
    return index | {"command": printable(index.get("command", ""))}


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


def _parse_rows(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """The rows of ``results.csv`` by setting and seed."""
    rows = list(csv.DictReader(io.StringIO(text), strict=True))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has more or fewer cells than the first")
    missing = {"setting", "seed", "status", "folder", *MEASURES} - {key for r in rows for key in r}
    if missing:
        raise ValueError(f"it has no column {min(missing)}")
    return {(row["setting"], row["seed"]): row for row in rows}


def _from_row(setting: Setting, seed: int, folder: Path, row: dict[str, str]) -> Result:
    """A run of which only its row of ``results.csv`` is kept."""
    if not row.get("folder"):
        return Result(setting, seed)

    def value(name: str) -> float | None:
        return float(row[name]) if row.get(name) else None

    facts = DATASETS.get(row.get("dataset", ""))
    best = value("best_epoch")
    manifest = Manifest(
        status=cast(Status, row["status"]),
        seed=seed,
        protocol=row.get("protocol", ""),
        code=row.get("code", ""),
        hardware=Hardware(device=row.get("device", "")),
        started=row.get("started", ""),
        epochs=int(value("epochs") or 0),
        best_epoch=None if best is None else int(best),
        seconds=value("seconds") or 0.0,
        epoch_seconds=value("epoch_seconds"),
        data=Data(
            name=facts.name if facts else "",
            classes=list(facts.classes) if facts else [],
            test_size=int(value("test_images") or 0),
        ),
    )
    measures = {name: math.nan if (v := value(name)) is None else v for name in MEASURES}
    return Result(
        setting, seed, row["folder"], row["status"], row.get("error", ""), manifest,
        path=folder / row["folder"], measures=measures,
    )  # fmt: skip


def _read(folder: Path) -> run_folder.Run | None:
    try:
        return run_folder.read(folder)
    except UserError as error:
        warnings.warn(f"{error} It is passed over.", stacklevel=2)
        return None


def _newest(parent: Path) -> run_folder.Run | None:
    """The newest complete run below a folder, or else the newest."""
    found = run_folder.read_all(parent)
    complete = [run for run in found if run.manifest.status in COMPLETE]
    return next(iter([*complete, *found]), None)
