"""One clear sentence for every mistake on the command line or in a YAML file."""

import inspect
import pydoc
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import groupby
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer

from lenet_lightning import renamed
from lenet_lightning.cli import options
from lenet_lightning.cli.roles import GIVEN, ROLES, SERVICES, UNFIT, entry
from lenet_lightning.errors import full_key, nearest, not_an_option
from lenet_lightning.store import run_folder
from lenet_lightning.training.classifier import Classifier

# Classes that share their name with another of torch's.
AMBIGUOUS = ("ReduceLROnPlateau", "Muon")

# Keys of classes whose arguments are options that a misspelt one may mean.
SUGGESTED = ("data", "model.network", "model.optimizer", "model.scheduler", "trainer.callbacks")

# How the types of options read in a sentence.
TYPES = {
    "PositiveInt": "a whole number above 0",
    "Seed": "a whole number from 0 to 4294967295",
    "NonNegativeInt": "a whole number, 0 or more",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number, 0 or more",
    "ClosedUnitInterval": "a number from 0 to 1",
    "BelowOne": "a number from 0 to below 1",
    "Share": "a number above 0, at most 1",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
}


def one_line(text: object) -> str:
    """Join the lines of a message."""
    return " ".join(str(text).split())


def cause(error: BaseException | None, kind: type[Exception]) -> Exception | None:
    """Return the nearest exception of a kind among an exception and its causes."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error


def explain(message: str, parser: ArgumentParser) -> str:
    """Turn jsonargparse's message into one sentence that names the key and what was expected.

    Args:
        message: what jsonargparse reports, often several indented lines.
        parser: the parser that reports it, for the options it knows.
    """
    keys = [key for key, _ in groupby(re.findall(r'Parser key "([^"]+)"', message))]
    key = full_key(keys)
    key = renamed.KEYS.get(key, key)  # of a value that is handed on from another option
    # The parser also tries the base class of an argument.
    bases = re.findall(r"\.(\w+)[\],'>]", " ".join(re.findall(r"Subtypes: .*", message)))
    for name in re.findall(r"Importing '([^']+)' is not allowed", message):
        if name.rpartition(".")[2] not in bases:
            return forbidden(key, name)
    if found := re.search(r"unrecognized arguments: (\S+)", message):
        option = ".".join([key, found[1].lstrip("-")]) if key else found[1]
        return unknown_option(option, parser)
    found = re.search(r"(?:Group '(\S+)' does not accept o|O|o)ption '(\S+)'", message)
    # Of several classes that were tried, the one that has the option says what is wrong.
    if found and found[2] not in keys[-1:]:
        return unknown_option(".".join(filter(None, (key, found[1], found[2]))), parser)
    if found := re.search(r"the following arguments are required: (\S+)", message):
        option = full_key([key, found[1].rstrip(",.")])
        datasets = ", ".join(class_names("data"))
        needed = {
            "data": f": give --config configs/mnist.yaml, or --data with one of {datasets}",
            "data.root": ": give --data.root with a picture or a folder of pictures",
        }
        return f"{option} is required{needed.get(option, '')}."
    if found := re.search(r"argument (\S+): expected .*argument", message):
        return f"{found[1]} is given without a value."
    if found := re.search(r"Unable to load config '([^']+)'", message):
        return f"{key} is {found[1]}: expected keys and values."
    detail = innermost(message)
    wrong = r"(?:import path string:|Expected a path but|Multiple subclasses with name) (\S+?)\.?\s"
    absent = r"(?s)(?:has no attribute '|No module named ').*class_path='([^']+)'"
    found = re.search(wrong, f"{detail or message} ") or re.search(absent, message)
    if key in ROLES and found:
        names = class_names(key)
        hint = nearest(found[1].rpartition(".")[2], names)
        return f"{key} is {found[1]}, which is not known{hint or one_of(names)}"
    return wrong_value(key, detail) or one_line(message)


def innermost(message: str) -> str:
    """Return what is said of the innermost key: the more indented lines below its own."""
    lines = [line for line in message.splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if "Parser key" in line]
    if not starts:
        return message
    first, *rest = lines[starts[-1] :]
    indent = len(first) - len(first.lstrip())
    inner = []
    for line in rest:
        if len(line) - len(line.lstrip()) <= indent:
            break
        inner.append(line)
    return "\n".join(inner)


def class_names(key: str) -> dict[str, str]:
    """Return the classes that a key takes, and what to type for each: its path where need be."""
    names = {path.rpartition(".")[2]: path for path in ROLES.get(key, ())}
    return {name: path if name in AMBIGUOUS else name for name, path in names.items()}


def option_names(parser: ArgumentParser) -> set[str]:
    """Return every option's full name."""
    owners: dict[str, list[Any]] = {"trainer": [Trainer], "model": [Classifier]}
    owners |= {key: [*map(pydoc.locate, ROLES[key])] for key in SUGGESTED}
    names = {
        f"{key}.{name}" for key in owners for kind in owners[key] for name in parameter_names(kind)
    }
    defaults = parser.get_defaults().keys()
    names |= {*options.NAMES, *(key.replace(".init_args", "") for key in defaults)}
    return names.difference(GIVEN)


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class, those that it hands on to its base class included."""
    own = dict(inspect.signature(kind).parameters)
    passed_on = [name for name, p in own.items() if p.kind is inspect.Parameter.VAR_KEYWORD]
    if not (passed_on and "__init__" in vars(kind)):
        return own
    return parameters(kind.__base__ or object) | {n: own[n] for n in own if n not in passed_on}


def parameter_names(kind: type) -> Iterator[str]:
    """Yield the names of a class's parameters, and of the fields of those that are dataclasses."""
    for name, parameter in parameters(kind).items():
        yield name
        if is_dataclass(parameter.default):
            yield from (f"{name}.{field.name}" for field in fields(parameter.default))


def unknown_option(option: str, parser: ArgumentParser) -> str:
    """Return the sentence for an option that no class or parser has."""
    flag = "--" * option.startswith("--")
    name = full_key([option.lstrip("-").split("=")[0]])
    group, _, last = name.rpartition(".")
    if last == "replicas":
        return f"{flag}{name} {run_folder.NO_REPLICAS}"
    known = {n: flag + n for n in option_names(parser)}
    if not flag and option.endswith(".ckpt"):
        return f"{option} is one file too many: put a pattern of several into quotes."
    if name in known and not group:
        return f"{flag}{name} is not an option of this command; --help lists them."
    if name in known:
        return (
            f"{flag}{name} is not an option of the class that {group} names, or {group} names none."
        )
    return not_an_option(name, known, flag)


def one_of(names: dict[str, str]) -> str:
    """Return the end of a sentence that lists what to type."""
    return f": expected one of {', '.join(names.values())}."


def wrong_value(key: str, detail: str) -> str:
    """Return the sentence for a value of the wrong type or range; empty if it is something else."""
    expected, choices = [], []
    errors = detail.partition("Errors:")[2] or detail
    pattern = r"Not of type (\w+)|Expected a <class '(?:[\w.]*\.)?(\w+)'>|Literal\[([^\]]*)\]"
    for restricted, plain, literals in re.findall(pattern, errors):
        choices += [c.strip().strip("'") for c in literals.split(",") if c]
        if name := restricted or plain:
            expected.append(TYPES.get(name, f"a {name}"))
    value = re.search(
        r"Given value: (.+?)(?:\. Got value|$)|Got value: (.+?)(?:\. Got value|$)"
        r"|: (\S+) (?:does not conform|not a number)|base 10: '(.*?)'|to float: '(.*?)'"
        r"|not '(None)Type'$",
        detail,
        re.MULTILINE,
    )
    if not key or not value or not (expected or choices):
        return ""
    given = next(group for group in value.groups() if group is not None)
    given = {"": "empty", "None": "null"}.get(given, given)
    words = "one of " * (len(choices) > 1) + ", ".join(dict.fromkeys(choices))
    words = " or ".join(filter(None, [words, *dict.fromkeys(expected)]))
    return f"{key} is {given}: expected {words}{nearest(given, choices) or '.'}"


def forbidden(key: str, name: str) -> str:
    """Return the sentence for a class or function that a configuration may not name at a key."""
    place = full_key([key])
    if reason := entry(UNFIT, name):
        return f"{place} cannot take {name.rpartition('.')[2]}: {reason}."
    if package := SERVICES.get(name):
        return (
            f"{place} names {name}, which sends what it logs to a service: if you want that, "
            f"pip install {package}, and add --allow_imports {name}."
        )
    names = class_names(key)
    hint = nearest(name.rpartition(".")[2], names)
    expected = one_of(names) if names else ": expected a number, a text or a list."
    return (
        f"{place} names {name}, which a configuration may not name there{hint or expected} If you "
        f"trust it, add --allow_imports {name}."
    )
