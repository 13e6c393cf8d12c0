"""What a study file asks to be drawn and judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lenet_lightning.errors import UserError
from lenet_lightning.study.reading import check_keys, suggestion

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
CLAIM_KINDS = {
    "at_least": ("value",),
    "at_most": ("value",),
    "between": ("low", "high"),
    "higher": ("against",),
    "lower": ("against",),
    "near_equal": ("against", "margin"),
}
FIGURE_KINDS = ("activation_functions", "negative_example", "accuracy", "accuracy_and_loss")
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Figure:
    """One numbered figure.

    Attributes:
        name: Its number and the stem of its files, such as ``1.b.1``.
        kind: One of `FIGURE_KINDS`.
        title: Its heading.
        panels: Letters to settings; one picture each.
        images: For accuracy and loss, which test images: ``original`` or ``negative``.
    """

    name: str
    kind: str
    title: str
    panels: dict[str, str]
    images: str = "original"


@dataclass(frozen=True)
class Claim:
    """One sentence that the runs can support or refute.

    Attributes:
        says: The sentence.
        kind: One of `CLAIM_KINDS`.
        measure: One of `MEASURES`, a figure that each run has.
        settings: The settings it is about; of several, the one with the best mean.
        against: The setting it is compared with, seed by seed.
        against_measure: The measure of that one, `measure` unless given.
        value: The threshold of ``at_least`` and ``at_most``.
        low: The lower end of ``between``.
        high: The upper end of ``between``.
        margin: By how much more or less (``higher``, ``lower``) or how near (``near_equal``).
        group: The group whose settings it names, if any.
    """

    says: str
    kind: str
    measure: str
    settings: tuple[str, ...]
    against: str = ""
    against_measure: str = ""
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    margin: float = 0.0
    group: str = ""


def read_figures(value: Any, settings: list[str], where: str) -> tuple[Figure, ...]:
    """The figures of a study file, each checked.

    Raises:
        UserError: An unknown kind, key or setting, or a repeated name.
    """
    figures: list[Figure] = []
    for number, entry in enumerate(_list(value, where), 1):
        here = f"{where}, entry {number}"
        check_keys(entry, ["name", "kind", "title", "setting", "panels", "images"], here)
        kind = _one_of(entry.get("kind"), FIGURE_KINDS, f"{here}: kind")
        name = str(entry.get("name", ""))
        if not SLUG.fullmatch(name):
            raise UserError(f"{here}: name must be a short name such as 1.b.1, not '{name}'")
        if name in {figure.name for figure in figures}:
            raise UserError(f"{here}: two figures are called '{name}'; rename one")
        if kind != "activation_functions" and ("setting" in entry) == ("panels" in entry):
            raise UserError(
                f"{here}: a figure of kind {kind} needs 'setting' (one picture) or 'panels' "
                f"(letters to settings, a picture each)"
            )
        panels = {"": entry["setting"]} if "setting" in entry else entry.get("panels", {})
        if not isinstance(panels, Mapping):
            raise UserError(f"{here}: panels must map letters to settings, not {panels!r}")
        panels = {str(letter): str(setting) for letter, setting in panels.items()}
        for setting in panels.values():
            _one_of(setting, settings, f"{here}: setting")
        images = _one_of(entry.get("images", "original"), ["original", "negative"], here)
        figures.append(Figure(name, kind, str(entry.get("title", name)), panels, images))
    return tuple(figures)


def read_claims(
    value: Any, settings: list[str], groups: list[str], where: str
) -> tuple[Claim, ...]:
    """The claims of a study file, one for each group that an entry names.

    Raises:
        UserError: An unknown kind, measure, key, group or setting, or a missing number.
    """
    claims: list[Claim] = []
    for number, entry in enumerate(_list(value, where), 1):
        here = f"{where}, entry {number}"
        numbers = ("value", "low", "high", "margin")
        known = ["says", "kind", "measure", "setting", "against", "against_measure", "groups"]
        check_keys(entry, [*known, *numbers], here)
        kind = _one_of(entry.get("kind"), CLAIM_KINDS, f"{here}: kind")
        for key in ("says", "measure", "setting", *CLAIM_KINDS[kind]):
            if key not in entry:
                raise UserError(f"{here}: a claim of kind {kind} needs '{key}'")
        for key in numbers:
            if isinstance(entry.get(key, 0), bool) or not isinstance(
                entry.get(key, 0), int | float
            ):
                raise UserError(f"{here}: {key} must be a number, not {entry[key]!r}")
        measure = _one_of(entry["measure"], MEASURES, f"{here}: measure")
        other = _one_of(entry.get("against_measure", measure), MEASURES, f"{here}: against_measure")
        named = entry["setting"] if isinstance(entry["setting"], list) else [entry["setting"]]
        for group in _list(entry.get("groups"), f"{here}: groups") or [""]:
            if group:
                _one_of(group, groups, f"{here}: groups")
            prefix = f"{group}_" if group else ""
            names = [_one_of(f"{prefix}{n}", settings, f"{here}: setting") for n in named]
            against = entry.get("against", "")
            if against:
                against = _one_of(f"{prefix}{against}", settings, f"{here}: against")
            claims.append(
                Claim(
                    says=str(entry["says"]),
                    kind=kind,
                    measure=measure,
                    settings=tuple(names),
                    against=against,
                    against_measure=other,
                    group=group,
                    **{key: float(entry.get(key, 0)) for key in numbers},
                )
            )
    return tuple(claims)


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError(f"{where} must be a list, not {value!r}")
    return value


def _one_of(value: Any, known: Any, where: str) -> str:
    if value not in list(known):
        raise UserError(f"{where}: unknown '{value}'{suggestion(str(value), known)}")
    return str(value)
