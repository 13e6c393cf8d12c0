"""What a study file asks to be drawn and judged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lenet_lightning.errors import UserError
from lenet_lightning.study.reading import Name, one_of, read

MEASURES = {
    "best_accuracy": "best epoch on test",
    "last_accuracy": "last epoch on test",
    "honest_accuracy": "epoch selected on validation",
    "best_accuracy_negative": "negatives, best epoch on test",
    "last_accuracy_negative": "negatives, last epoch on test",
    "honest_accuracy_negative": "negatives, epoch selected on validation",
    "honest_accuracy_views": "with test-time augmentation, epoch selected on validation",
    "honest_loss": "loss, epoch selected on validation",
    "honest_loss_negative": "loss on negatives, epoch selected on validation",
    "differing_predictions": "predictions that differ for the negative",
    "last_loss": "loss, last epoch",
    "last_loss_negative": "loss on negatives, last epoch",
    "variation": "epoch-to-epoch variation",
}
NEEDS = {
    "at_least": ("value",),
    "at_most": ("value",),
    "between": ("low", "high"),
    "higher": ("against",),
    "lower": ("against",),
    "near_equal": ("against", "margin"),
}
"""What a claim of each kind must give."""


@dataclass(frozen=True)
class Figure:
    """One numbered figure.

    Attributes:
        name: Its number and the stem of its files, such as ``1.b.1``.
        kind: What is drawn; the first kind needs no setting.
        title: Its heading; its name unless given.
        setting: The setting to draw, for one picture.
        panels: Or letters to settings; one picture each.
        images: For accuracy and loss, which test images.
    """

    name: Name
    kind: Literal["activation_functions", "negative_example", "accuracy", "accuracy_and_loss"]
    title: str = ""
    setting: str = ""
    panels: dict[str, str] = field(default_factory=dict)
    images: Literal["original", "negative"] = "original"


@dataclass(frozen=True)
class Claim:
    """One sentence that the runs can support or refute.

    Attributes:
        says: The sentence.
        kind: How the measure, or the difference of two, is compared.
        measure: One of `MEASURES`, a figure that each run has.
        setting: The settings it is about; of several, the one with the best mean.
        against: The setting it is compared with, seed by seed.
        against_measure: The measure of that one, `measure` unless given.
        value: The threshold of ``at_least`` and ``at_most``.
        low: The lower end of ``between``.
        high: The upper end of ``between``.
        margin: By how much more or less (``higher``, ``lower``) or how near (``near_equal``).
        groups: The groups in which it is judged, whose names are then left out of settings'.
    """

    says: str
    kind: Literal["at_least", "at_most", "between", "higher", "lower", "near_equal"]
    measure: str
    setting: str | list[str]
    against: str = ""
    against_measure: str = ""
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    margin: float = 0.0
    groups: list[str] = field(default_factory=list)

    @property
    def settings(self) -> list[str]:
        """The settings as a list."""
        return [self.setting] if isinstance(self.setting, str) else list(self.setting)


def read_figures(value: Any, settings: Collection[str], where: str) -> tuple[Figure, ...]:
    """The figures of a study file; what one draws is in its panels.

    Raises:
        UserError: A key, value or setting is not as it should be, or a name repeated.
    """
    figures: dict[str, Figure] = {}
    for here, entry in _entries(value, where):
        figure = read(Figure, entry, here)
        if figure.name in figures:
            raise UserError(f"{here}: two figures are called '{figure.name}'; rename one")
        panels = {"": figure.setting} if figure.setting else figure.panels
        if bool(figure.setting) == bool(figure.panels) and figure.kind != "activation_functions":
            raise UserError(
                f"{here}: a figure of kind {figure.kind} needs 'setting' (one picture) or 'panels' "
                "(letters to settings, a picture each)"
            )
        for setting in panels.values():
            one_of(setting, settings, f"{here}: setting")
        title = figure.title or figure.name
        figures[figure.name] = replace(figure, title=title, panels=panels)
    return tuple(figures.values())


def read_claims(
    value: Any, settings: Collection[str], groups: Collection[str], where: str
) -> tuple[Claim, ...]:
    """The claims of a study file, one for each group that an entry names.

    Raises:
        UserError: A key, value, measure, group or setting is not as it should be.
    """
    claims: list[Claim] = []
    for here, entry in _entries(value, where):
        claim = read(Claim, entry, here)
        for key in NEEDS[claim.kind]:
            if entry.get(key) is None:
                raise UserError(f"{here}: a claim of kind {claim.kind} needs '{key}'")
        against_measure = claim.against_measure or claim.measure
        for key, measure in (("measure", claim.measure), ("against_measure", against_measure)):
            one_of(measure, MEASURES, f"{here}: {key}")
        for group in claim.groups or [""]:
            prefix = f"{one_of(group, groups, f'{here}: groups')}_" if group else ""
            against = [claim.against] if claim.against else []
            setting, other = (
                [one_of(prefix + name, settings, f"{here}: {key}") for name in names]
                for key, names in (("setting", claim.settings), ("against", against))
            )
            claims.append(replace(
                claim, setting=setting, against="".join(other), against_measure=against_measure,
                groups=[group] if group else [],
            ))  # fmt: skip
    return tuple(claims)


def _entries(value: Any, where: str) -> list[tuple[str, Any]]:
    """The entries of a list, each with its place in words; none for null."""
    if not isinstance(value, list | None):
        raise UserError(f"{where} must be a list, not {value!r}")
    return [(f"{where}, entry {number}", entry) for number, entry in enumerate(value or [], 1)]
