"""A sweep file: which options of a configuration to vary, and how to choose their values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_lightning.errors import UserError
from lenet_lightning.study import plan
from lenet_lightning.study.reading import check_keys, suggestion

KEYS = (
    "name", "base", "trials", "sampler", "seed", "seeds", "folds", "prune", "best", "space",
)  # fmt: skip
SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("none", "median", "wilcoxon")
Value = str | int | float | bool | None
STUDY_SEEDS = 5
"""Seeds of the study that a sweep writes."""


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, whole ones if both are.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Whether all orders of magnitude are equally likely.
        step: The distance of two values; None for any number.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked.

    Attributes:
        name: The name of the sweep's folder.
        base: The configuration that every trial changes.
        overrides: What all trials change in it, by dotted key.
        space: What each trial changes in it: an interval or a list of values.
        trials: How many there are.
        sampler: One of `SAMPLERS`.
        seed: Of the sampler.
        repeats: What each run of a trial changes: its seed, or its fold.
        prune: One of `PRUNERS`.
        best: How many settings the study has that a sweep writes.
    """

    name: str
    base: Path
    overrides: dict[str, Any]
    space: dict[str, Interval | tuple[Value, ...]]
    trials: int
    sampler: str
    seed: int
    repeats: tuple[dict[str, int], ...]
    prune: str
    best: int

    def grid(self) -> list[dict[str, Value]]:
        """Every combination of the listed values, the last key fastest."""
        lists = (values for values in self.space.values() if not isinstance(values, Interval))
        return [dict(zip(self.space, each, strict=True)) for each in itertools.product(*lists)]

    def setting(self, name: str, values: dict[str, Any]) -> plan.Setting:
        """The base configuration with the values of a trial."""
        return plan.Setting(name, name, "", self.base, self.overrides | values)

    def study(self, chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The study of chosen settings with seeds that no trial had.

        Args:
            chosen: The values of each setting, by its name.
        """
        first = 1 + max(repeat.get("seed_everything", 0) for repeat in self.repeats)
        settings = {name: {"title": name, **values} for name, values in chosen.items()}
        return {
            "name": f"{self.name}_best",
            "base": str(self.base.absolute()),
            "seeds": list(range(first, first + STUDY_SEEDS)),
            **self.overrides,
            "settings": settings,
        }


def load(path: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        UserError: Anything in it that cannot be run, with the key and what to do.
    """
    content = plan.read(path)
    for key, example in (("name", "name: lr"), ("base", "base: configs/digits.yaml")):
        if key not in content:
            raise UserError(f"{path} has no {key}: expected a sweep, with a line such as {example}")
    sampler = _one_of(content, "sampler", SAMPLERS, path)
    space = _space(content.get("space"), path)
    repeats = _repeats(content, path)
    prune = _one_of(content, "prune", PRUNERS, path)
    if prune == "median" and len(repeats) > 1:
        raise UserError(f"{path}: prune median compares epochs of one run: give one seed, no folds")
    if prune == "wilcoxon" and len(repeats) < 2:
        raise UserError(f"{path}: prune wilcoxon compares runs of a trial: give seeds or folds")
    intervals = [key for key, values in space.items() if isinstance(values, Interval)]
    if sampler == "grid" and intervals:
        raise UserError(f"{path}: sampler grid needs a list of values for {intervals[0]}")
    sweep = Sweep(
        name=plan.check_name(content["name"], f"{path}: name"),
        base=plan.resolve_base(str(content["base"]), path),
        overrides=plan.read_overrides(content, KEYS, str(path)),
        space=space,
        trials=_count(content, "trials", 0 if sampler == "grid" else None, path),
        sampler=sampler,
        seed=_count(content, "seed", 0, path, least=0),
        repeats=repeats,
        prune=prune,
        best=_count(content, "best", 3, path),
    )
    if not sweep.base.is_file():
        raise UserError(f"{path}: base config {sweep.base} does not exist")
    every = len(sweep.grid()) if sampler == "grid" else 0
    if every and sweep.trials not in (0, every):
        raise UserError(f"{path}: the grid has {every} trials: leave trials out")
    if clash := sweep.overrides.keys() & space.keys():
        raise UserError(f"{path}: {clash.pop()} is both in space and set for all trials")
    return Sweep(**(vars(sweep) | {"trials": every or sweep.trials}))


def _one_of(content: Mapping[str, Any], key: str, known: tuple[str, ...], path: Path) -> str:
    value = content.get(key, known[0])
    if value not in known:
        raise UserError(f"{path}: {key} is {value!r}{suggestion(str(value), known)}")
    return str(value)


def _count(
    content: Mapping[str, Any], key: str, default: int | None, path: Path, least: int = 1
) -> int:
    value = content.get(key, default)
    if value is default and default is not None:
        return default
    if type(value) is not int or value < least:
        raise UserError(f"{path}: {key} must be a whole number, {least} or more, not {value!r}")
    return value


def _repeats(content: Mapping[str, Any], path: Path) -> tuple[dict[str, int], ...]:
    if "folds" in content:
        if "seeds" in content:
            raise UserError(f"{path}: give seeds or folds, not both")
        folds = _count(content, "folds", None, path, least=2)
        return tuple({"data.num_folds": folds, "data.fold": fold} for fold in range(folds))
    seeds = plan.read_seeds(content.get("seeds", [0]), path)
    return tuple({"seed_everything": seed} for seed in seeds)


def _space(value: Any, path: Path) -> dict[str, Interval | tuple[Value, ...]]:
    if not isinstance(value, Mapping) or not value:
        raise UserError(
            f"{path}: space must map options to values, as model.network.dropout: [0, 0.2]"
        )
    space: dict[str, Interval | tuple[Value, ...]] = {}
    for key, values in value.items():
        where = f"{path}: space.{key}"
        plan.read_overrides({key: None}, (), f"{path}: space")
        if isinstance(values, list):
            if not values or any(isinstance(each, list | dict) for each in values):
                raise UserError(f"{where} must list plain values, or give low and high")
            space[key] = tuple(values)
            continue
        check_keys(values, ("low", "high", "log", "step"), where)
        low, high, step = (values.get(name) for name in ("low", "high", "step"))
        numbers = [low, high, *([] if step is None else [step])]
        if not all(type(number) in (int, float) for number in numbers) or not low < high:
            raise UserError(f"{where} must have numbers low < high, as {{low: 0.1, high: 1.0}}")
        log = values.get("log", False)
        if type(log) is not bool or (log and (low <= 0 or step is not None)):
            raise UserError(f"{where}: log must be true or false, and true needs low > 0, no step")
        if step is not None and step <= 0:
            raise UserError(f"{where}: step must be above 0")
        space[key] = Interval(low, high, log, step)
    return space
