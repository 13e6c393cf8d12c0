"""Study and sweep files: keys read into dataclasses, whose types jsonargparse checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
    restricted_string_type,
)

from lenet_lightning.arguments import MAX_SEED
from lenet_lightning.errors import UserError, nearest
from lenet_lightning.number_types import plain
from lenet_lightning.store.run_folder import NO_REPLICAS

T = TypeVar("T")

OVERRIDES = ("model", "data", "trainer", "monitor")
"""The first parts of the keys that go to ``fit``."""

Name = restricted_string_type("Name", r"^[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
Seeds: Any = list[restricted_number_type("Seed", int, [(">=", 0), ("<=", MAX_SEED)])]  # type: ignore[misc]
Folds = restricted_number_type("Folds", int, (">=", 2))

EXPECTED: dict[Any, str] = {
    Name: "a name of letters, digits, '_', '-' and '.' (it becomes a folder or file)",
    str: "a text",
    Path: "a file",
    bool: "true or false",
    float: "a number",
    int | float: "a number",
    PositiveInt: "a whole number above 0",
    NonNegativeInt: "a whole number, 0 or more",
    PositiveInt | PositiveFloat | None: "a number above 0",
    Folds | None: "a whole number, 2 or more",
    Seeds: f"a list of different whole numbers from 0 to {MAX_SEED}, such as [0, 1, 2]",
    list[str]: "a list of names",
    str | list[str]: "a name or a list of names",
    dict[str, str]: "letters to settings",
}
"""How the types of fields read in a sentence."""


def read(kind: type[T], entry: Any, where: str, **given: Any) -> T:
    """Read a mapping into a dataclass, whose fields are its keys; null stands for the default.

    Args:
        kind: The dataclass. If it has a field ``overrides``, that gets, by dotted key, what goes to
            ``fit``.
        entry: What a YAML file holds.
        where: The file, and the place in it.
        given: Fields that are not keys.

    Raises:
        UserError: A key is unknown or missing, or its value is of another type or range.
    """
    types = get_type_hints(kind)
    own = {f.name: f for f in fields(kind) if f.name not in {"overrides", *given}}  # type: ignore[arg-type]
    overrides, values = {}, {}
    for key, value in mapping(entry, where).items():
        if "overrides" in types and key.split(".")[0] in OVERRIDES:
            overrides[key] = value
        elif key not in own:
            known = [*own, *(OVERRIDES if "overrides" in types else ())]
            raise UserError(f"{where}: unknown key '{key}'{suggestion(key, known)}")
        elif value is not None:
            values[key] = typed(types[key], value, f"{where}: {key}")
    for key, field in own.items():
        if key not in values and field.default is field.default_factory is MISSING:
            raise UserError(f"{where} has no {key}: expected {_expected(types[key])}")
    if "overrides" in types:
        given["overrides"] = flatten(overrides)
        if given["overrides"].pop("model.replicas", 1) != 1:
            raise UserError(f"{where}: model.replicas {NO_REPLICAS}")
    return kind(**plain(values), **given)


def typed(hint: Any, value: Any, where: str) -> Any:
    """Return a value as of a type; a number can stand for a text.

    Raises:
        UserError: It is not.
    """
    if hint in (str, Name) and type(value) in (int, float):
        value = str(value)
    try:
        found = _parser(hint).parse_object({"value": value}).value
        if hint != Seeds or (found and len(set(found)) == len(found)):
            return found
    except (ArgumentError, OverflowError):
        pass
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    expected = nearest(str(value), choices) or f": expected {_expected(hint)}"
    raise UserError(f"{where} is {value!r}{expected}")


@cache
def _parser(hint: Any) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def _expected(hint: Any) -> str:
    return EXPECTED.get(hint) or f"one of {', '.join(get_args(hint))}"


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return a mapping.

    Raises:
        UserError: It is something else.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be a mapping of keys to values, not {value!r}")
    return value


def one_of(value: str, known: Iterable[str], where: str) -> str:
    """Return a name that is known.

    Raises:
        UserError: It is not.
    """
    if value not in (known := list(known)):
        raise UserError(f"{where}: unknown '{value}'{suggestion(value, known)}")
    return value


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean x?`` for the nearest known name, else the list of known names."""
    names = sorted(set(known))
    return nearest(word, names) or (f"; known: {', '.join(names)}" if names else "")


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
