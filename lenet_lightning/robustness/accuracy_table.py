"""The rows of ``robustness.csv``, gathered by setting and summed up over seeds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lenet_lightning.plotting import Points
from lenet_lightning.robustness.evaluate import Row
from lenet_lightning.statistics import Summary, summarise

# In MNIST-C's dataset, but no corruption; in its code, but not in its dataset.
NOT_AVERAGED = ("identity", "inverse")


class Measured:
    """Accuracies by setting and level.

    Args:
        rows: of any number of networks; those of a setting differ in their seeds.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.accuracies: dict[str, dict[str, dict[float | str, list[float]]]] = {}
        for row in rows:
            levels = self.accuracies.setdefault(row.setting, {}).setdefault(row.perturbation, {})
            levels.setdefault(row.level, []).append(row.accuracy)

    @property
    def highest(self) -> float:
        """The highest accuracy of any network at any level."""
        settings = self.accuracies.values()
        return max(max(c) for s in settings for levels in s.values() for c in levels.values())

    def levels(self, setting: str, perturbation: str) -> list[float | str]:
        """The levels of a perturbation, in the order of the rows."""
        return list(self.accuracies[setting][perturbation])

    def summary(self, setting: str, perturbation: str, level: float | str) -> Summary:
        """Accuracy at one level, over seeds."""
        return summarise(self.accuracies[setting][perturbation][level])

    def points(self, setting: str, perturbation: str) -> Points:
        """Mean and deviation over seeds at every level; a deviation of 0 for one seed."""
        levels = self.levels(setting, perturbation)
        found = [self.summary(setting, perturbation, level) for level in levels]
        sd = np.nan_to_num([summary.sd for summary in found])
        return Points(levels, np.array([summary.mean for summary in found]), sd)

    def corrupted(self, setting: str) -> Summary:
        """Each network's mean over MNIST-C's fifteen corruptions, over seeds."""
        values = self.accuracies[setting]["corruption"]
        columns = [column for name, column in values.items() if name not in NOT_AVERAGED]
        return summarise([sum(each) / len(each) for each in zip(*columns, strict=True)])

    def hardest(self, setting: str) -> tuple[str, Summary]:
        """The name of the corruption with the lowest mean, and its accuracy over seeds."""
        names = [n for n in self.levels(setting, "corruption") if n not in NOT_AVERAGED]
        found = {str(name): self.summary(setting, "corruption", name) for name in names}
        name = min(found, key=lambda name: found[name].mean)
        return name, found[name]
