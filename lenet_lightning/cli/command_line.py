"""A command line of ``fit``, ``validate``, ``test`` or ``predict``, read before it is parsed.

Configuration files are read here, once and strictly, and handed to the parser as inline YAML, files
first: options win over files wherever they stand. Where a later file or option names another class,
or a list once more, the earlier one is left out; the parser would mix the arguments of both.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from lenet_lightning import renamed, strict_yaml
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.store.configuration import as_list, class_path

GROUPS = ("--trainer", "--model", "--data")
ALIASES = {"--run_root": "--logs", "--select_by": "--monitor"}
"""Names of options that torchrun does not take for abbreviations of its own."""
YAML_SUFFIXES = (".yaml", ".yml", ".json")


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
            name, equals, value = word.partition("=")
            name = ALIASES.get(name, name)
            found.append(Option(name, value, [name + equals + value]))
        elif name and not value:
            found[-1] = Option(name, word, [*words, word])
        else:
            found.append(Option("", word, [word]))
    return found[1:]


class Layer(NamedTuple):
    """What one option stands for.

    Attributes:
        rank: later ranks win: 0 of files, 1 of groups read from files, 2 of options.
        config: the part of a configuration that it gives.
        words: as typed; empty of what was read from a file.
    """

    rank: int
    config: dict[str, Any]
    words: list[str]


@dataclass
class CommandLine:
    """A command line whose files have been read.

    Attributes:
        command: the subcommand.
        layers: its options by rank.
        kept: a sentence if another class of data keeps the options that a file gives; or empty.
    """

    command: str
    layers: list[Layer]
    kept: str = ""

    def __post_init__(self) -> None:
        """Leave out what later layers replace."""
        for number, (_, new, _) in enumerate(self.layers):
            for _, old, words in self.layers[:number]:
                drop_replaced(old, new)
                was, now = class_path(old.get("data")), class_path(new.get("data"))
                if was and now and not words and not same_class(was, now):
                    self.kept = (
                        f"data is {now} in place of {was}: the options given for {was} are kept."
                    )

    def over(self, config: dict[str, Any]) -> "CommandLine":
        """Return this command line with a configuration that each of its options wins over."""
        return CommandLine(self.command, [Layer(0, config, []), *self.layers])

    def get(self, key: str) -> Any:
        """Return the value that counts of a key at the top, None if it is not given."""
        return next((c[key] for _, c, _ in reversed(self.layers) if key in c), None)

    def typed(self, key: str) -> list[Any]:
        """Return the values of a key that options give, without those in files."""
        return [config[key] for _, config, words in self.layers if words and key in config]

    def names(self, key: str) -> bool:
        """Tell whether a class is named for a key at the top."""
        return any(class_path(layer.config.get(key)) for layer in self.layers)

    @property
    def asks_help(self) -> bool:
        """Whether any help is requested: no checkpoint is needed then."""
        words = (layer.words[0] for layer in self.layers if layer.words)
        return any(re.match(r"(-h|--(.+\.)?help|--print_\w+)(=|$)", word) for word in words)

    @property
    def asks_overview(self) -> bool:
        """Whether the help of the command is requested."""
        return any(layer.words[:1] in (["-h"], ["--help"]) for layer in self.layers)

    @property
    def has_files(self) -> bool:
        """Whether configuration files are given."""
        return any(layer.rank == 0 for layer in self.layers)

    @property
    def args(self) -> list[str]:
        """The options for the parser, the content of every file in its place."""
        return [
            word
            for _, config, words in self.layers
            for word in words or ("--config", strict_yaml.dumps(config))
        ]

    @property
    def imports(self) -> set[str]:
        """The import paths that ``--allow_imports`` names; a file cannot."""
        given = [*self.typed("allow_imports"), *self.typed("allow_imports+")]
        return {
            path for value in given for path in re.findall(r"[A-Za-z_][\w.]*", str(value or ""))
        }

    @property
    def trainer_classes(self) -> list[tuple[str, str]]:
        """The keys of the trainer, each with a class or word that it is given."""
        return [
            (f"trainer.{key.rstrip('+')}", name)
            for trainer in self.group("trainer")
            for key, value in trainer.items()
            for each in as_list(value)
            if (name := class_path(each))
        ]

    def class_of(self, option: str) -> str | None:
        """Return the class of an option of the model, such as the optimizer, if one is named."""
        named = [class_path(model.get(option)) for model in self.group("model")]
        return ([None, *filter(None, named)])[-1]

    @property
    def scheduler(self) -> tuple[str | None, frozenset[str]]:
        """The class of the learning rate scheduler, if one is named, and its given arguments."""
        name, given = None, frozenset[str]()
        for model in self.group("model"):
            value = model.get("scheduler", {})
            if value is None:
                name, given = None, frozenset()
            name = class_path(value) or name
            if isinstance(value, dict):
                arguments = value.get("init_args")
                given |= {*value, *(arguments if isinstance(arguments, dict) else ())}
        return name, given

    def group(self, name: str) -> list[dict[str, Any]]:
        """Return what each layer gives of a group of options."""
        parts = (layer.config.get(name) for layer in self.layers)
        return [part for part in parts if isinstance(part, dict)]


def read(args: list[str]) -> CommandLine:
    """Read the configuration files that a command line names.

    Args:
        args: the subcommand and its options.

    Raises:
        UserError: a file cannot be read, is not valid YAML or is not a configuration.
    """
    given = positional(args[0], options(args[1:]))
    layers = sorted(map(layer, given), key=lambda found: found.rank)
    renamed.check(*(layer.config for layer in layers))
    return CommandLine(args[0], layers)


def positional(command: str, given: list[Option]) -> list[Option]:
    """Take words without an option for what they are: a configuration, a checkpoint or pictures.

    A second checkpoint is left, to be refused: the shell has replaced a pattern.
    """
    found: list[Option] = []
    for name, word, words in given:
        option = ""
        if name:
            pass
        elif word.endswith(YAML_SUFFIXES):
            option = "--config"
        elif run_folder.checkpoint_in(word).endswith(".ckpt") or command in ("validate", "test"):
            known = any(each.name == "--ckpt_path" for each in (*given, *found))
            option = "" if known else "--ckpt_path"
        elif command == "predict":
            option = "--data.root"
        found.append(Option(option, word, [option, word]) if option else Option(name, word, words))
    return found


def layer(option: Option) -> Layer:
    """Read an option, and the file that it names; ``~`` in values is the home folder."""
    name, value, words = option
    if name == "--config":
        if not value:
            raise UserError("--config is given without a value.")
        return Layer(0, expanded(configuration(value)), [])
    if name in GROUPS and (name != "--data" or is_inline(value) or is_file(value)):
        return Layer(1, {name[2:]: expanded(mapping(value, name))}, [])
    try:
        given = strict_yaml.loads(value)
    except yaml.YAMLError:  # a plain text
        given = value
    content = expanded(given)
    if content != given:
        words = [name, content if isinstance(content, str) else strict_yaml.dumps(content)]
    for part in reversed(name.lstrip("-").split(".")):
        content = {part: content}
    return Layer(1 if name in GROUPS else 2, content, words)


def expanded(node: Any) -> Any:
    """Replace ``~`` at the beginning of every text by the home folder that it stands for."""
    if isinstance(node, dict):
        return {key: expanded(value) for key, value in node.items()}
    if isinstance(node, list):
        return [expanded(value) for value in node]
    return os.path.expanduser(node) if isinstance(node, str) else node


def is_inline(value: str) -> bool:
    """Tell whether a value is a mapping itself."""
    return bool(re.search(r"^\s*\{|:\s|\n", value))


def is_file(value: object) -> bool:
    """Tell whether a value names a file rather than a class."""
    return isinstance(value, str) and ("/" in value or value.endswith(YAML_SUFFIXES))


def configuration(value: str) -> dict[str, Any]:
    """Read what ``--config`` names, and files that it names in place of trainer, model or data."""
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
        was, now = class_path(before), class_path(value)
        if key == "network" and isinstance(before, dict):
            was = was or "LeNet5"  # whose options these are where no class is named
        again = isinstance(before, list) and (now or isinstance(value, list))
        if again or (was and now and key != "data" and not same_class(was, now)):
            del old[key]
        elif isinstance(before, dict) and isinstance(value, dict):
            drop_replaced(before, value)


def same_class(a: str, b: str) -> bool:
    """Tell whether two names, short or with their packages, mean one class."""
    return f".{a}".endswith(f".{b}") or f".{b}".endswith(f".{a}")
