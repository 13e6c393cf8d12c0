"""Strict, bounded YAML: one reader for configurations, study files and values typed inline.

Safe YAML 1.1 without its surprises: a key written twice, a template's braces, dates, binary data
and sets are errors, aliases cannot multiply, and ``1e-3`` is a number.
"""

import copy
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from lenet_lightning import files
from lenet_lightning.errors import UserError

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 50
MAX_DIGITS = 400
PACKAGE = Path(__file__).parent
SHIPPED = (PACKAGE / "configs", PACKAGE.parent / "configs")
"""The configurations of an installed package, and of a checkout."""

TAG = "tag:yaml.org,2002:"
# Not of base 60: 12:30:00:00 is a duration.
INT = r"[-+]?(?:0b[01_]+|0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)"
FLOAT = (
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses what the module's docstring names."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node; count its nodes, each alias as the whole that it stands for."""
        event = self.peek_event()
        alias, before = isinstance(event, yaml.AliasEvent), self.nodes
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise problem(f"it is nested more than {MAX_DEPTH} deep", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if alias and id(node) not in self.sizes:
            raise problem(f"the alias *{event.anchor} stands within what it names", event)
        self.nodes += self.sizes[id(node)] if alias else 1
        self.sizes.setdefault(id(node), self.nodes - before)
        if self.nodes > MAX_NODES:
            raise problem(f"it holds more than {MAX_NODES:,} values", event)
        return copy.deepcopy(node) if alias else node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping whose keys are plain and all different."""
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise problem(
                    "a key must be a name, not a mapping or list; fill in a template's {{ }}", key
                )
            if key.tag == f"{TAG}merge":
                raise problem("<< is not supported: write the keys out", key)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' is given twice, in lines {seen[key.value]} and "
                    f"{line}: rename or remove one"
                )
            seen[key.value] = line
            key.tag = f"{TAG}str"  # a key is its text, be it a number or a yes
        return super().construct_mapping(node, deep)

    def text(self, node: yaml.ScalarNode) -> str:
        """Construct a text without control characters."""
        if found := re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", node.value):
            raise problem(f"a text holds the control character {found[0]!a}", node)
        return str(node.value)

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Construct a number of bounded length."""
        if len(node.value) > MAX_DIGITS:
            raise problem(f"a number has more than {MAX_DIGITS} digits", node)
        whole = node.tag.endswith("int")
        try:
            return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        except (ValueError, OverflowError) as error:
            raise problem(f"{node.value} is not a number", node) from error

    def refuse(self, node: yaml.Node) -> None:
        """Refuse every tag that is not one of JSON's types."""
        raise problem(f"the type {node.tag.replace(TAG, '!!')} is not supported", node)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, like) for tag, like in known if tag[len(TAG) :] in ("null", "bool", "merge")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for kind, pattern in (("int", INT), ("float", FLOAT)):
    _Loader.add_implicit_resolver(
        f"{TAG}{kind}", re.compile(f"^(?:{pattern})$"), [*"-+.0123456789"]
    )
_Loader.yaml_constructors = {
    f"{TAG}{kind}": yaml.SafeLoader.yaml_constructors[f"{TAG}{kind}"]
    for kind in ("null", "bool", "seq", "map")
}
_Loader.add_constructor(f"{TAG}str", _Loader.text)
_Loader.add_constructor(f"{TAG}int", _Loader.number)
_Loader.add_constructor(f"{TAG}float", _Loader.number)
_Loader.add_constructor(None, _Loader.refuse)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which also quotes a text that would be read as a number here."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Quote a text so that Unicode's line breaks are escaped; PyYAML would fold them to spaces."""
    style = '"' if any(c in text for c in "\x85\u2028\u2029") else None
    return dumper.represent_scalar(f"{TAG}str", text, style=style)


_Dumper.add_representer(str, _represent)
_Dumper.add_implicit_resolver(f"{TAG}float", re.compile(f"^(?:{FLOAT})$"), [*"-+.0123456789"])


def dumps(data: Any) -> str:
    """Write a YAML document that :func:`loads` reads as ``data`` again."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def problem(reason: str, at: Any) -> yaml.MarkedYAMLError:
    """Return the error for something that is valid YAML but refused here, at an event or node."""
    return yaml.MarkedYAMLError(problem=reason, problem_mark=at.start_mark)


def loads(text: str) -> Any:
    """Read a YAML document: None, bool, int, float, str, and lists and dicts of them.

    Args:
        text: at most ``MAX_BYTES`` characters.

    Raises:
        yaml.YAMLError: the text is not valid, or refused; :func:`reason` makes it one sentence.
    """
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError(f"it is longer than {MAX_BYTES:,} characters")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:  # of PyYAML itself
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    finally:
        loader.dispose()


def reason(error: yaml.YAMLError) -> str:
    """Say in one line what is wrong with a document, and where."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f", in line {mark.line + 1}" if mark else ""
        return ": ".join(filter(None, (error.context, error.problem))) + where
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character {chr(error.character)!a} is not allowed"
    return " ".join(str(error).split())


def locate(path: str | Path) -> Path:
    """Return where a configuration lies: at its path, or else among those that are shipped.

    ``mnist.yaml`` and ``configs/mnist.yaml`` name the shipped one, where the working directory has
    no file of that name.
    """
    path = Path(path)
    name = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    if not path.exists() and not path.is_absolute() and ".." not in path.parts:
        for folder in SHIPPED:
            if (folder / name).is_file():
                return folder / name
    return path


def read(path: str | Path) -> Any:
    """Read a YAML file, or what a pipe brings; see :func:`read_text`.

    Raises:
        UserError: naming the file, the line and what is wrong.
    """
    try:
        return loads(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {reason(error)}.") from error


def read_text(path: str | Path) -> str:
    """Read UTF-8 of at most ``MAX_BYTES`` from a file or a pipe.

    A relative path may name a shipped configuration, see :func:`locate`.

    Raises:
        UserError: it cannot be read, is longer, or not UTF-8.
    """
    try:
        return files.read(locate(path), MAX_BYTES, pipes=True).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid YAML: it is not UTF-8 text.") from error
    except (OSError, ValueError, RuntimeError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({said}): expected a YAML file.") from error
