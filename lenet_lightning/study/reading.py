"""Strict YAML: a study file says what it means, or one sentence says what is wrong with it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lenet_lightning.errors import UserError, nearest


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice; PyYAML would keep the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.value in seen and isinstance(key_node, yaml.ScalarNode):
                raise UserError(
                    f"'{key_node.value}' is written twice, on lines {seen[key_node.value]} and "
                    f"{line}: names must differ, rename or remove one"
                )
            if isinstance(key_node, yaml.ScalarNode):
                seen[key_node.value] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds.

    Raises:
        UserError: The file is missing, is not YAML, repeats a key or is not a mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give --config a study's YAML file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML: {message}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values (name, seeds, settings, ...)")
    return content


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
