"""One clear sentence for every mistake on the command line or in a YAML file."""

import difflib
import inspect
import re
from collections.abc import Iterable

import torch
from jsonargparse import ArgumentParser

DATASETS = ("MNIST", "FashionMNIST", "CIFAR10", "Digits", "Pictures")
SUBCOMMANDS = ("fit", "validate", "test", "predict", "data", "study", "export")

NO_DATA = "data is required: give --config configs/mnist.yaml, or --data with one of " + ", ".join(
    DATASETS
)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"``, or an empty string if nothing is near."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def explain(message: str, parser: ArgumentParser) -> str:
    """Turn jsonargparse's message into one sentence that names the key and what was expected.

    Args:
        message: what jsonargparse reports, often several indented lines.
        parser: the parser that reports it, for the names it knows.
    """
    keys = re.findall(r'Parser key "([^"]+)"', message)
    key = full_key(keys)
    for pattern, describe in EXPLANATIONS:
        if found := re.search(pattern, message):
            return describe(key, found, parser)
    return " ".join(message.split())


def full_key(keys: list[str]) -> str:
    """Join the nested keys of a message: ``data`` and ``batch_size`` give ``data.batch_size``."""
    parts: list[str] = []
    for key in keys:
        parts += [p for p in key.split(".") if p not in ("init_args", *SUBCOMMANDS[:4])]
    return ".".join(parts)


def option_names(parser: ArgumentParser) -> set[str]:
    """Return every option's full name that the parser or a known class accepts."""
    from lenet_lightning.cli import DATAMODULES
    from lenet_lightning.optimizers import KerasAdam

    names = set(parser.get_defaults().keys())
    for datamodule in DATAMODULES:
        names |= {f"data.{name}" for name in inspect.signature(datamodule).parameters}
    for optimizer in (*subclasses(torch.optim, torch.optim.Optimizer), KerasAdam):
        names |= {f"model.optimizer.{name}" for name in inspect.signature(optimizer).parameters}
    return names


def subclasses(module: object, base: type) -> list[type]:
    """Return the public subclasses of ``base`` that a module holds."""
    found = vars(module).values()
    return [c for c in found if isinstance(c, type) and issubclass(c, base) and c is not base]


def class_names(key: str) -> list[str]:
    """Return the class names that make sense for a key."""
    if key == "data":
        return list(DATASETS)
    if key.endswith("optimizer"):
        return [c.__name__ for c in subclasses(torch.optim, torch.optim.Optimizer)] + ["KerasAdam"]
    if key.endswith("scheduler"):
        base = torch.optim.lr_scheduler.LRScheduler
        return [c.__name__ for c in subclasses(torch.optim.lr_scheduler, base)]
    if key.endswith("callbacks"):
        from lightning.pytorch import callbacks

        return [c.__name__ for c in subclasses(callbacks, callbacks.Callback)]
    return []


def unknown_option(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """An option that no class or parser has."""
    option = found[1]
    full = option if "." in option or not key else f"{key}.{option}"
    hint = nearest(full, option_names(parser))
    return f"{full} is no option{hint or '; --help lists them.'}"


def unknown_argument(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """A flag that is not known."""
    option = found[1].split()[0]
    hint = nearest(option.lstrip("-").split("=")[0], option_names(parser))
    return f"{option} is no option{hint or '; --help lists them.'}"


def unknown_class(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """A class name that leads nowhere."""
    names = class_names(key)
    hint = nearest(found[1], names) or f"; expected one of {', '.join(names)}." * bool(names)
    return f"{key} is {found[1]}, which is not known{hint or '.'}"


def unknown_choice(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """A word outside a fixed list."""
    choices = re.findall(r"'([^']*)'", found[1])
    hint = nearest(found[2], choices)
    return f"{key} is {found[2]}: expected one of {', '.join(choices)}{hint or '.'}"


def out_of_range(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """A number outside its limits."""
    limits = found[1].replace("v", "").replace("and", " and ")
    value = re.search(r"Given value: (\S+)|: (\S+) does not conform", found.string)
    given = next((v for v in (value.groups() if value else ()) if v), None)
    full = re.search(r"Literal\[(.*?)\]", found.string)
    also = f", or {full[1]}" if full else ""
    shown = f" is {given}" if given and not given.startswith("NestedArg") else ""
    return f"{key}{shown}: expected a number {' '.join(limits.split())}{also}."


def wrong_type(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """A value of the wrong type."""
    expected = " or ".join(
        dict.fromkeys(
            re.sub(r"<class '(?:.*\.)?(\w+)'>", r"\1", e).replace("NoneType", "null")
            for e in re.findall(
                r"Expected a (<class '[^']+'>|typing\.Literal\[[^\]]*\])", found.string
            )
        )
    )
    value = re.search(r"(?:Given value|Got value): ([^\n]+)", found.string)
    return f"{key} is {value[1] if value else 'wrong'}: expected {expected}."


def not_a_number(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """A word where a number belongs."""
    return f"{key} is {found[1]}: expected a number."


def forbidden(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """A class from a package that configurations may not use."""
    return (
        f"{key} names {found[1]}, which is outside the packages that configurations may use; "
        f"if you trust it, add --allow_imports {found[1].split('.')[0]}."
    )


def missing(key: str, found: re.Match[str], parser: ArgumentParser) -> str:
    """A required option that was not given."""
    names = found[1].strip()
    if names.endswith("data"):
        return NO_DATA + "."
    return f"{key + '.' if key else ''}{names} is required."


EXPLANATIONS = (
    (r"Importing '([^']+)' is not allowed", forbidden),
    (r"Option '([^']+)' is not accepted", unknown_option),
    (r"does not accept option '([^']+)'", unknown_option),
    (r"unrecognized arguments: (.+)", unknown_argument),
    (r"the following arguments are required: (\S+)", missing),
    (r"Expected a typing\.Literal\[([^\]]*)\]\. Got value: (\S+)", unknown_choice),
    (r"does not conform to restriction (v[^\n]*)", out_of_range),
    (r"invalid literal for int\(\) with base 10: '([^']*)'", not_a_number),
    (r"could not convert string to float: '([^']*)'", not_a_number),
    (r"Expected a (?:<class '(?:int|float|bool)'>)", wrong_type),
    (r"Expected a dot import path string: (\S+)", unknown_class),
)
