"""A command line of ``fit``, ``validate``, ``test`` or ``predict``, read before it is parsed.

Configuration files are read here, once and strictly, and handed to the parser as inline YAML, files
first: options win over files wherever they stand. Where a later file or option names another class,
or a list once more, the earlier one is left out; the parser would mix the arguments of both.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from lenet_lightning import renamed, strict_yaml
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder

GROUPS = ("--trainer", "--model", "--data")


class Option(NamedTuple):
    """An option as typed, ``--name value`` or ``--name=value``; no name for a stray word."""

    name: str
    value: str
    words: list[str]


def options(args: list[str]) -> list[Option]:
    """Split a command line into its options."""
    found = [Option("", "", [])]
    for word in args:
        name, value, words = found[-1]
        if short := re.match(r"-c=?(.*)", word, re.DOTALL):
            found.append(Option("--config", short[1], [word]))
        elif re.match(r"--?[A-Za-z]", word):
            name, _, value = word.partition("=")
            found.append(Option(name, value, [word]))
        elif name and not value:
            found[-1] = Option(name, word, [*words, word])
        else:
            found.append(Option("", word, [word]))
    return found[1:]


def values(args: list[str], *names: str) -> list[str]:
    """Return the values of all options of these names."""
    return [option.value for option in options(args) if option.name in names]


class CommandLine(NamedTuple):
    """A command line whose files have been read.

    Attributes:
        args: the subcommand and its options, the content of every file in its place, files first.
        optimizer: the class of the optimizer, if one is named.
        scheduler: the class of the learning rate scheduler, if one is named.
        scheduler_options: the arguments of the scheduler that are given.
        named: the classes that the options of the trainer name, each with its key.
        kept: a sentence if another class of data keeps the options that a file gives; or empty.
    """

    args: list[str]
    optimizer: str | None
    scheduler: str | None
    scheduler_options: frozenset[str]
    named: list[tuple[str, str]]
    kept: str


def read(args: list[str]) -> CommandLine:
    """Read the configuration files that a command line names.

    Args:
        args: the subcommand and its options.

    Raises:
        UserError: a file cannot be read, is not valid YAML or is not a configuration.
    """
    layers = sorted(map(layer, options(args[1:])), key=lambda found: found[0])
    renamed.check(*(content for _, content, _ in layers))
    kept = ""
    for number, (_, new, _) in enumerate(layers):
        for _, old, words in layers[:number]:
            drop_replaced(old, new)
            was, now = class_of(old.get("data")), class_of(new.get("data"))
            if was and now and not words and not same_class(was, now):
                kept = f"data is {now} in place of {was}: the options given for {was} are kept."
    models = [new["model"] for _, new, _ in layers if isinstance(new.get("model"), dict)]
    optimizers = [class_of(model.get("optimizer")) for model in models]
    optimizer = ([None, *filter(None, optimizers)])[-1]
    schedule = last_schedule(models)
    words = [w for _, new, own in layers for w in own or ("--config", strict_yaml.dumps(new))]
    trainers = [new["trainer"] for _, new, _ in layers if isinstance(new.get("trainer"), dict)]
    named = [
        (f"trainer.{key.rstrip('+')}", name)
        for trainer in trainers
        for key, value in trainer.items()
        for each in (value if isinstance(value, list) else [value])
        if (name := class_of(each))
    ]
    return CommandLine([args[0], *words], optimizer, *schedule, named, kept)


def last_schedule(models: list[dict[str, Any]]) -> tuple[str | None, frozenset[str]]:
    """Return the scheduler that the last of several models names, and its arguments of them all."""
    name, given = None, frozenset[str]()
    for model in models:
        value = model.get("scheduler", {})
        if value is None:
            name, given = None, frozenset()
        name = class_of(value) or name
        if isinstance(value, dict):
            arguments = value.get("init_args")
            given |= {*value, *(arguments if isinstance(arguments, dict) else ())}
    return name, given


def layer(option: Option) -> tuple[int, dict[str, Any], list[str]]:
    """Return an option's rank, the configuration that it stands for, and its words unless read."""
    name, value, words = option
    if name == "--config":
        return 0, configuration(value), []
    if name in GROUPS and (name != "--data" or is_inline(value) or is_file(value)):
        return 1, {name[2:]: mapping(value, name)}, []
    try:
        content = strict_yaml.loads(value)
    except yaml.YAMLError:  # a plain text
        content = value
    for part in reversed(name.lstrip("-").split(".")):
        content = {part: content}
    return 1 if name in GROUPS else 2, content, words


def is_inline(value: str) -> bool:
    """Tell whether a value is a mapping itself."""
    return bool(re.search(r"^\s*\{|:\s|\n", value))


def is_file(value: object) -> bool:
    """Tell whether a value names a file rather than a class."""
    return isinstance(value, str) and ("/" in value or value.endswith((".yaml", ".yml", ".json")))


def configuration(value: str) -> dict[str, Any]:
    """Read what ``--config`` names, and files that it names in place of trainer, model or data."""
    if not value:
        raise UserError("--config is given without a file: expected --config configs/mnist.yaml.")
    content = mapping(value, "--config")
    if {"seeds", "settings"} <= content.keys():
        raise UserError(
            f"--config {value} is a study: run it with python -m lenet_lightning study --config "
            f"{value}."
        )
    if "config" in content:
        raise UserError(f"--config {value} holds the key config: give each file with --config.")
    for group in (name[2:] for name in GROUPS):
        if is_file(content.get(group)):
            content[group] = mapping(str(Path(value).parent / content[group]), group)
    run_folder.drop_replicas(content)
    return content


def mapping(value: str, name: str) -> dict[str, Any]:
    """Read a mapping from a file, or from a value that is one itself."""
    try:
        content = strict_yaml.loads(value) if is_inline(value) else strict_yaml.read(value)
    except UserError as error:
        raise UserError(f"{name} {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {strict_yaml.reason(error)}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{name} {value} holds no keys: expected keys and values, as fit writes.")
    # The configuration of a run is stored, not written by a user.
    bring = renamed.current if run_folder.is_config(value) else renamed.class_paths
    return cast(dict[str, Any], bring(content))


def drop_replaced(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Remove the classes and lists from a configuration that a later one replaces.

    Options of data mean the same for every dataset, and are kept.
    """
    for key, value in new.items():
        before = old.get(key)
        was, now = class_of(before), class_of(value)
        again = isinstance(before, list) and (now or isinstance(value, list))
        if again or (was and now and key != "data" and not same_class(was, now)):
            del old[key]
        elif isinstance(before, dict) and isinstance(value, dict):
            drop_replaced(before, value)


def class_of(value: Any) -> str | None:
    """Return the class that a value names, alone or with its arguments."""
    named = value.get("class_path") if isinstance(value, dict) else value
    return named if isinstance(named, str) else None


def same_class(a: str, b: str) -> bool:
    """Tell whether two names, short or with their packages, mean one class."""
    return f".{a}".endswith(f".{b}") or f".{b}".endswith(f".{a}")
