"""The classes that a configuration may name, for each key that takes a class: ``roles.yaml``."""

import pydoc
from functools import cache
from pathlib import Path
from typing import Any

from lenet_lightning import strict_yaml
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.networks.build import NETWORKS


def _paths(names: dict[str, str]) -> tuple[str, ...]:
    """Return the import paths of classes that are listed by their packages."""
    return tuple(f"{package}.{name}" for package in names for name in names[package].split())


_TABLES = strict_yaml.read(Path(__file__).with_suffix(".yaml"))

ROLES: dict[str, tuple[str, ...]] = {
    "data": _paths({"lenet_lightning": " ".join([*DATASETS, "ImageFolder", "Pictures"])}),
    "model.network": tuple(NETWORKS),
    **{key: _paths(names) for key, names in _TABLES["allowed"].items()},
}
UNFIT: dict[str, str] = {
    path: reason
    for reason, names in ((entry.pop("reason"), entry) for entry in _TABLES["unfit"])
    for path in _paths(names)
}
TAKE_FUNCTIONS = _paths(_TABLES["take_functions"])
SERVICES: dict[str, str] = _TABLES["services"]
PACKAGES = SERVICES | _TABLES["packages"]
FURTHER: dict[str, str] = _TABLES["further"]

GIVEN = (
    "model.seed", "model.channels", "model.classes", "model.network.in_channels",
    "model.network.num_classes", "model.optimizer.params", "model.scheduler.optimizer", "data.seed",
)  # fmt: skip
"""Arguments that the program gives, and a configuration does not."""


def definition(path: str) -> str:
    """Return where the object that an import path leads to is defined: it may be re-exported."""
    found: Any = pydoc.locate(path)
    name = getattr(found, "__qualname__", "")
    return f"{found.__module__}.{name}" if name else getattr(found, "__name__", path)


@cache
def spellings(key: str) -> frozenset[str]:
    """Return every import path by which a class of a place may be named."""
    paths = ROLES.get(key, ())
    return frozenset([*paths, *map(definition, paths)])


def entry(table: dict[str, str], name: str) -> str | None:
    """Return the entry of one of Lightning's classes in a table, by any of its import paths."""
    package, _, last = name.rpartition(".")
    if package.partition(".")[0] != "lightning":
        return None
    return next((said for path, said in table.items() if path.rpartition(".")[2] == last), None)
