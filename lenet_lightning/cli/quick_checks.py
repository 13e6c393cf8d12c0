"""Refuses misspelt options by the JSON schema, before torch is imported.

Only what no class could take: whatever the schema leaves open is left to the parser.
"""

import json
from collections.abc import Iterator
from typing import Any

from lenet_lightning import strict_yaml
from lenet_lightning.cli.command_line import CommandLine
from lenet_lightning.errors import UserError, full_key, not_an_option
from lenet_lightning.store.configuration import class_path

SCHEMA = "schema.json"
GROUPS = ("trainer", "model", "data")


def check(line: CommandLine) -> None:
    """Refuse an option of trainer, model or data that does not exist.

    Args:
        line: a command line of ``fit``, ``validate``, ``test`` or ``predict``.

    Raises:
        UserError: naming the option and the nearest one that exists.
    """
    if line.asks_help or line.imports:
        return
    files = (folder / SCHEMA for folder in strict_yaml.SHIPPED)
    schema = json.loads(next(file for file in files if file.is_file()).read_text(encoding="utf-8"))
    for _, config, words in line.layers:
        for group in GROUPS:
            for name in unknown(config.get(group), schema["properties"][group], group):
                flag = "--" * bool(words)
                raise UserError(not_an_option(name, {n: flag + n for n in names(schema)}, flag))


def unknown(value: Any, schema: dict[str, Any], key: str) -> Iterator[str]:
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


def names_another_class(value: dict[str, Any], known: list[dict[str, Any]]) -> bool:
    """Tell whether a mapping names a class of which the schema does not know the arguments."""
    name = class_path(value)
    paths = [
        each["properties"]["class_path"] for each in known if "class_path" in each["properties"]
    ]
    names = {name for path in paths for part in path["anyOf"] for name in part.get("enum", ())}
    return name is not None and name.rpartition(".")[2] not in names


def mappings(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives of a schema that are mappings, also as items of a list."""
    if "anyOf" in schema:
        return [each for part in schema["anyOf"] for each in mappings(part)]
    if "items" in schema:
        return mappings(schema["items"])
    return [schema] if "properties" in schema else []


def names(schema: dict[str, Any], key: str = "") -> Iterator[str]:
    """Yield the full key of every option in a schema."""
    for mapping in mappings(schema):
        for name, inner in mapping["properties"].items():
            yield full_key([key, name])
            yield from names(inner, full_key([key, name]))
