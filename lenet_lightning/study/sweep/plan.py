"""A sweep file: which options of a configuration to vary, and how to choose their values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from lenet_lightning.errors import UserError
from lenet_lightning.study import plan
from lenet_lightning.study.reading import OVERRIDES, Folds, Name, Seeds, one_of, read

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

    low: int | float
    high: int | float
    log: bool = False
    step: PositiveInt | PositiveFloat | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked.

    Attributes:
        name: The name of the sweep's folder.
        base: The configuration that every trial changes.
        overrides: What all trials change in it, by dotted key.
        space: What each trial changes in it: an interval or a list of values.
        trials: How many there are; a grid has as many as it has points.
        sampler: How Optuna chooses values.
        seed: Of the sampler.
        seeds: A trial is a run with each of them; with 0 unless given.
        folds: Or a run of each fold.
        prune: How bad trials are stopped early.
        best: How many settings the study has that a sweep writes.
    """

    name: Name
    base: Path
    space: dict[str, Interval | tuple[Value, ...]]
    overrides: dict[str, Any] = field(default_factory=dict)
    trials: NonNegativeInt = 0
    sampler: Literal["tpe", "random", "grid", "cmaes"] = "tpe"
    seed: NonNegativeInt = 0
    seeds: Seeds = field(default_factory=list)
    folds: Folds | None = None
    prune: Literal["none", "median", "wilcoxon"] = "none"
    best: PositiveInt = 3

    @property
    def repeats(self) -> list[dict[str, int]]:
        """What each run of a trial changes: its seed, or its fold."""
        if self.folds:
            return [{"data.num_folds": self.folds, "data.fold": f} for f in range(self.folds)]
        return [{"seed_everything": seed} for seed in self.seeds or [0]]

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
    content = plan.read_file(path)
    space = _space(content.pop("space", None), f"{path}: space")
    sweep = read(Sweep, content, str(path), space=space)
    sweep = replace(sweep, base=plan.resolve_base(str(sweep.base), path))
    if fault := next(_faults(sweep), ""):
        raise UserError(f"{path}: {fault}")
    return replace(sweep, trials=sweep.trials or len(sweep.grid()))


def _faults(sweep: Sweep) -> Iterator[str]:
    """What does not fit together."""
    if not sweep.base.is_file():
        yield f"base config {sweep.base} does not exist"
    if sweep.folds and sweep.seeds:
        yield "give seeds or folds, not both"
    if sweep.prune == "median" and len(sweep.repeats) > 1:
        yield "prune median compares epochs of one run: give one seed, no folds"
    if sweep.prune == "wilcoxon" and len(sweep.repeats) < 2:
        yield "prune wilcoxon compares runs of a trial: give seeds or folds"
    if clash := sweep.overrides.keys() & sweep.space.keys():
        yield f"{clash.pop()} is both in space and set for all trials"
    intervals = [key for key, values in sweep.space.items() if isinstance(values, Interval)]
    if sweep.sampler != "grid" and not sweep.trials:
        yield f"sampler {sweep.sampler} needs trials: expected a whole number above 0"
    elif sweep.sampler == "grid" and intervals:
        yield f"sampler grid needs a list of values for {intervals[0]}"
    elif sweep.sampler == "grid" and sweep.trials not in (0, size := len(sweep.grid())):
        yield f"the grid has {size} trials: leave trials out"


def _space(value: Any, where: str) -> dict[str, Interval | tuple[Value, ...]]:
    """The intervals and lists of values, by dotted key."""
    if not isinstance(value, Mapping) or not value:
        raise UserError(f"{where} must map options to values, as model.network.dropout: [0, 0.2]")
    space: dict[str, Interval | tuple[Value, ...]] = {}
    for key, values in value.items():
        one_of(key.split(".")[0], OVERRIDES, f"{where}.{key}")
        if isinstance(values, list):
            if not values or any(isinstance(each, list | dict) for each in values):
                raise UserError(f"{where}.{key} must list plain values, or give low and high")
            space[key] = tuple(values)
            continue
        interval = space[key] = read(Interval, values, f"{where}.{key}")
        if not interval.low < interval.high:
            raise UserError(f"{where}.{key} must have numbers low < high, as {{low: 0, high: 1}}")
        if interval.log and (interval.low <= 0 or interval.step):
            raise UserError(f"{where}.{key}: log true needs low > 0, no step")
    return space
