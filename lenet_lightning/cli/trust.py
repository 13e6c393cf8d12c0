"""What a configuration may make Python import and construct: the classes of ``roles.ROLES``.

Twice: while it is parsed, nothing else is imported; once it is parsed, and before anything in it
is constructed, each class must stand where it makes sense, and nothing else may be anything but a
plain value.
"""

import inspect
import os
import pydoc
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from importlib.util import find_spec
from typing import Any, cast

import jsonargparse
import torch

from lenet_lightning import files
from lenet_lightning.cli.messages import forbidden
from lenet_lightning.cli.roles import (
    FURTHER,
    PACKAGES,
    ROLES,
    SERVICES,
    UNFIT,
    definition,
    entry,
    spellings,
)
from lenet_lightning.errors import UserError, full_key, nearest

# What values are once parsed; a torch.device is the default of some callbacks.
PLAIN = (type(None), bool, int, float, str, Enum, os.PathLike, timedelta, torch.device)


def limit_imports(prefixes: set[str]) -> None:
    """Limit what is imported for a configuration to ``ROLES`` and to what a flag opens.

    Args:
        prefixes: the import paths that :func:`opened` returned.

    Raises:
        UserError: one of them is not an import path, or cannot be opened.
    """
    try:
        jsonargparse.set_parsing_settings(
            import_path_denylist=["*"],
            import_path_allowlist=sorted(prefixes.union(*map(spellings, ROLES))),
            instantiate_subclass_spec_in_any=False,
            config_read_mode_fsspec_enabled=False,
        )
    except ValueError as error:
        raise UserError(
            f"--allow_imports: {error} Expected packages or classes such as my_package.MyCallback."
        ) from error


def opened(paths: Iterable[str]) -> set[str]:
    """Return import paths that ``--allow_imports`` names, and where what they lead to is defined.

    Only the command line can name any; a configuration file cannot.
    """
    found = {*paths}
    for path in sorted(found):
        with suppress(pydoc.ErrorDuringImport):  # reported where the configuration names it
            found.add(definition(path))
    return found


def below(path: str, prefixes: set[str]) -> bool:
    """Tell whether an import path is one of ``prefixes``, or leads to something inside of one."""
    return any(f"{path}.".startswith(f"{prefix}.") for prefix in prefixes)


def check(config: jsonargparse.Namespace, prefixes: set[str]) -> None:
    """Refuse every class and function that a configuration must not name at its key.

    Args:
        config: the parsed configuration of one subcommand, before anything in it is constructed.
        prefixes: the import paths that a flag opened.

    Raises:
        UserError: naming the key and the class, function or address.
    """
    _check(config, "", prefixes, False)


def _check(node: Any, key: str, prefixes: set[str], trusted: bool) -> None:
    """Check a node of a configuration and all below it; ``trusted`` if a flag opened its class."""
    if isinstance(node, jsonargparse.Namespace):
        node = vars(node)
    if name := named(node):
        trusted = below(name, prefixes)
        if entry(UNFIT, name) or (not trusted and name not in spellings(key)):
            raise UserError(forbidden(key, name))
        further_arguments(key, name, node)
    if isinstance(node, dict):
        for part, value in node.items():
            _check(value, f"{key}.{part}".lstrip("."), prefixes, trusted)
    elif isinstance(node, list | tuple | set):
        for value in node:
            _check(value, key, prefixes, trusted)
    elif isinstance(node, str | os.PathLike):
        files.check_kind(full_key([key]), node)
        if "://" in str(node) and key.startswith("trainer.") and not trusted:
            raise UserError(
                f"{full_key([key])} is {node}, an address: expected a path on this disk."
            )


def check_names(named: list[tuple[str, str]], prefixes: set[str]) -> None:
    """Refuse what Lightning has and this training cannot use, before arguments are looked at.

    Args:
        named: keys of the trainer, and what stands there, perhaps a class.
        prefixes: the import paths that a flag opened.

    Raises:
        UserError: naming the key, the class and the reason, or the package that is missing.
    """
    short = {path.rpartition(".")[2]: path for path in (*UNFIT, *PACKAGES)}
    for key, name in named:
        path = short.get(name, name)
        needs_flag = entry(SERVICES, path) and not below(path, prefixes)
        if key in ROLES and (entry(UNFIT, path) or needs_flag):
            raise UserError(forbidden(key, path))
        package = entry(PACKAGES, path)
        if package and find_spec(package) is None:
            raise UserError(
                f"{full_key([key])} has {path.rpartition('.')[2]}, which needs the package "
                f"{package}: pip install {package}."
            )


def further_arguments(key: str, name: str, node: Any) -> None:
    """Refuse ``dict_kwargs`` that nothing takes: the parser does not check them."""
    given = node.get("dict_kwargs") if isinstance(node, dict) else None
    taker = entry(FURTHER, name)
    if not given or not (taker or name in spellings(key)):
        return
    known = [*inspect.signature(cast(type, pydoc.locate(taker))).parameters] if taker else []
    for argument in vars(given) if isinstance(given, jsonargparse.Namespace) else given:
        if argument not in known:
            option, owner = f"{full_key([key])}.{argument}", name.rpartition(".")[2]
            hint = nearest(argument, known) or "; leave it out."
            raise UserError(f"{option} is not an argument of {owner}{hint}")


def named(node: Any) -> str | None:
    """Return the import path that a node of a parsed configuration names; None of plain values."""
    if isinstance(node, dict):
        return str(node["class_path"]) if "class_path" in node else None
    if isinstance(node, (*PLAIN, list, tuple, set)):
        return None
    known = node if hasattr(node, "__qualname__") else type(node)
    return f"{known.__module__}.{known.__qualname__}"
