"""JSON schema of the YAML files of ``fit``, with which editors complete and check keys.

``python -m lenet_lightning.cli.schema > configs/schema.json`` writes it anew from the signatures of
the classes that a configuration may name.
"""

import inspect
import json
import pydoc
import re
import types
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

from lightning.pytorch import Trainer

from lenet_lightning.cli.options import FitOptions, RunOptions
from lenet_lightning.cli.roles import GIVEN, ROLES
from lenet_lightning.training.classifier import Classifier

Schema = dict[str, Any]

TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
LISTS = ("trainer.callbacks", "trainer.logger", "trainer.plugins")


def generate() -> Schema:
    """Return the schema."""
    own = of_class(RunOptions)["properties"] | of_class(FitOptions)["properties"]
    groups = {
        "trainer": of_class(Trainer, "trainer"),
        "model": of_class(Classifier, "model"),
        "data": of_role("data"),
    }
    file = {"type": "string", "description": "a YAML file with these options"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of python -m lenet_lightning fit",
        **of_object(own | {key: {"anyOf": [file, group]} for key, group in groups.items()}),
    }


def of_object(properties: Schema, closed: bool = True) -> Schema:
    """Return the schema of a mapping; no other keys if ``closed``."""
    return {"type": "object", "properties": properties, "additionalProperties": not closed}


def of_class(kind: type, key: str = "") -> Schema:
    """Return the schema of the arguments of a class, which stand at a key."""
    described = descriptions(kind)
    properties = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        role = f"{key}.{name}"
        known = of_role(role) if role in ROLES else of_type(parameter.annotation)
        if is_dataclass(parameter.default):
            known = of_class(type(parameter.default))
        if role not in GIVEN:
            properties[name] = known | described.get(name, {})
    return of_object(properties)


def of_role(key: str) -> Schema:
    """Return the schema of a place that takes a class, by its name or with its arguments."""
    paths = ROLES[key]
    arguments: Schema = {}
    for path in paths:
        if path.startswith("lenet_lightning."):
            kind: Any = pydoc.locate(path)
            arguments |= of_class(kind, key)["properties"]
    ours = all(path.startswith("lenet_lightning.") for path in paths)
    names = {"anyOf": [{"enum": [path.rpartition(".")[2] for path in paths]}, {"type": "string"}]}
    spec = {"class_path": names, "init_args": of_object(arguments, closed=ours), "dict_kwargs": {}}
    one = {
        "anyOf": [names, of_object(spec | arguments, closed=ours), {"type": ["null", "boolean"]}]
    }
    return {"anyOf": [one, {"type": "array", "items": one}]} if key in LISTS else one


def of_type(annotation: Any) -> Schema:
    """Return the schema of a value of a type; of one without a counterpart, that of any value."""
    origin, options = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {"enum": list(options)}
    if origin in (Union, types.UnionType):
        found = [of_type(option) for option in options]
        return {} if {} in found else {"anyOf": found}
    if origin is list:
        return {"type": "array", "items": of_type(options[0])}
    if isinstance(annotation, type):
        for kind, name in TYPES.items():
            if issubclass(annotation, kind):
                return {"type": name}
    return {}


def descriptions(kind: type) -> dict[str, Schema]:
    """Return what a class of this package says of its arguments; nothing of others' classes."""
    if not kind.__module__.startswith("lenet_lightning."):
        return {}
    _, _, text = inspect.getdoc(kind).partition("Args:\n")  # type: ignore[union-attr]
    found = re.findall(r"^    (\w+): ((?:.|\n {5,})+)", text.partition("\n\n")[0], re.MULTILINE)
    return {name: {"description": " ".join(each.replace("`", "").split())} for name, each in found}


def text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(generate(), indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
