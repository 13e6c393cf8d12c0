"""Accessors of a run's configuration, the nested mapping of config.yaml.

A class and its arguments are a mapping with ``class_path`` and ``init_args``, or a name.
"""

from typing import Any

from lenet_lightning.renamed import LENET5


def class_path(spec: Any) -> str | None:
    """Return the class that a value names, with its arguments or without; None if it names none."""
    named = spec.get("class_path") if isinstance(spec, dict) else spec
    return named if isinstance(named, str) else None


def class_name(spec: Any) -> str:
    """Return the name of the class that a value names, without its package."""
    return (class_path(spec) or "").rpartition(".")[2]


def arguments(spec: Any) -> dict[str, Any]:
    """Return the arguments that a value gives to its class."""
    given = spec.get("init_args") if isinstance(spec, dict) else None
    return dict(given or {})


def network(config: dict[str, Any]) -> dict[str, Any]:
    """Return the class of the network in a configuration, and its arguments."""
    return dict(config["model"].get("network", {"class_path": LENET5}))


def data_options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the data in a configuration."""
    return arguments(config["data"])


def as_list(value: Any) -> list[Any]:
    """Return what an option names that takes one thing, several, or none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
