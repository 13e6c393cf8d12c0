"""Checks of what a study file holds, and its overrides as options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lenet_lightning.errors import UserError, nearest


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean x?`` for the nearest known name, else the list of known names."""
    names = sorted(set(known))
    return nearest(word, names) or (f"; known: {', '.join(names)}" if names else "")


def check_keys(mapping: Any, known: Iterable[str], where: str) -> Mapping[str, Any]:
    """The mapping itself, once every key of it is a known one.

    Raises:
        UserError: It is no mapping, or has an unknown key.
    """
    if not isinstance(mapping, Mapping):
        raise UserError(f"{where} must be a mapping of keys to values, not {mapping!r}")
    known = list(known)
    for key in mapping:
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'{suggestion(str(key), known)}")
    return mapping


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested overrides as dotted ones, as they are typed on the command line.

    ``{"model": {"optimizer": {"class_path": "C", "init_args": {"lr": 1}}}}`` becomes
    ``{"model.optimizer": "C", "model.optimizer.lr": 1}``.
    """
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "class_path" in value:
            flat[name] = value["class_path"]
            flat.update(flatten(value.get("init_args") or {}, f"{name}."))
        elif isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat
