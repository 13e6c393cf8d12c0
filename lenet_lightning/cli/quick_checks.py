"""Refuses misspelt options by the JSON schema, before torch is imported.

Only what no class could take: whatever the schema leaves open is left to the parser.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lenet_lightning import strict_yaml
from lenet_lightning.cli.command_line import CommandLine
from lenet_lightning.errors import UserError, full_key, not_an_option
from lenet_lightning.store.configuration import class_path

Schema = dict[str, Any]

GROUPS = ("trainer", "model", "data")


def shipped_schema() -> Schema:
    """Return the JSON schema of ``fit``'s files, ``configs/schema.json``."""
    files = (folder / "schema.json" for folder in strict_yaml.SHIPPED)
    schema: Schema = json.loads(next(filter(Path.is_file, files)).read_text(encoding="utf-8"))
    return schema


def check(line: CommandLine) -> None:
    """Refuse an option of trainer, model or data that does not exist, or one without its value.

    Args:
        line: a command line of ``fit``, ``validate``, ``test`` or ``predict``.

    Raises:
        UserError: naming the option, and the nearest one if it does not exist.
    """
    if line.asks_help or line.imports:
        return
    schema = shipped_schema()
    for _, config, words in line.layers:
        for group in GROUPS:
            for name in unknown(config.get(group), schema["properties"][group], group):
                flag = "--" * bool(words)
                raise UserError(not_an_option(name, {n: flag + n for n in options(schema)}, flag))
        bare = len(words) == 1 and "=" not in words[0]
        if bare and config.keys() <= schema["properties"].keys():
            raise UserError(f"{words[0]} is given without a value.")


def unknown(value: Any, schema: Schema, key: str) -> Iterator[str]:
    """Yield the keys in a value that no alternative of its schema has.

    Args:
        value: a part of a configuration.
        schema: of that part.
        key: where it stands.
    """
    known = mappings(schema)
    is_open = not known or any(each["additionalProperties"] for each in known)
    if is_open or not isinstance(value, dict) or names_another_class(value, known):
        return
    for name, inner in value.items():
        if not isinstance(name, str) or name == "replicas":
            continue
        found = [each["properties"][name] for each in known if name in each["properties"]]
        if not found and not name.endswith("+"):
            yield full_key([key, name])
        for each in found[:1]:
            yield from unknown(inner, each, full_key([key, name]))


def names_another_class(value: dict[str, Any], known: list[Schema]) -> bool:
    """Tell whether a mapping names a class of which the schema does not know the arguments."""
    name = class_path(value)
    names = [values(each["properties"].get("class_path", {})) for each in known]
    return name is not None and all(name.rpartition(".")[2] not in each for each in names)


def mappings(schema: Schema) -> list[Schema]:
    """Return the alternatives of a schema that are mappings, also as items of a list."""
    inner = schema.get("anyOf") or [schema["items"]] if {"anyOf", "items"} & schema.keys() else []
    own = [schema] if "properties" in schema else []
    return own + [each for part in inner for each in mappings(part)]


def options(schema: Schema, key: str = "") -> dict[str, list[str]]:
    """Return the full key of every option in a schema, with the words that it may be, if few."""
    found: dict[str, list[str]] = {}
    for mapping in mappings(schema):
        for name, inner in mapping["properties"].items():
            if name not in ("class_path", "dict_kwargs"):
                full = full_key([key, name])
                found |= {full: values(inner)} if full != key else {}
                found |= options(inner, full)
    return found


def values(schema: Schema) -> list[str]:
    """Return the words that a schema lists."""
    inner = [word for part in schema.get("anyOf", []) for word in values(part)]
    flags = ["true", "false"] * (schema.get("type") == "boolean")
    words = [word for word in schema.get("enum", []) if isinstance(word, str)]
    return list(dict.fromkeys(inner + flags + words))
