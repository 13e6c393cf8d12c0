"""What a configuration may make Python import and call: classes of known packages."""

import inspect
import os
import pydoc
import re
from typing import Any

import jsonargparse

from lenet_lightning.errors import UserError
from lenet_lightning.messages import full_key

# Packages whose classes a configuration may name.
PACKAGES = ("lenet_lightning", "torch", "torchvision", "torchmetrics", "lightning")

FLAGS = ("--allow_imports", "--allow_imports+")


def limit_imports(args: list[str]) -> None:
    """Limit what is imported for a configuration to ``PACKAGES`` and to what a flag opens.

    Args:
        args: the command line; only it can open more, a configuration file cannot.
    """
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=[*PACKAGES, *opened(args)],
        config_read_mode_fsspec_enabled=False,
    )


def opened(args: list[str]) -> list[str]:
    """Return the import paths that ``--allow_imports`` opens, given alone or as a YAML list."""
    found: list[str] = []
    for flag, following in zip(args, [*args[1:], ""], strict=True):
        name, _, attached = flag.partition("=")
        if name in FLAGS:
            found += re.findall(r"[A-Za-z_][\w.]*", attached or following)
    return found


def classes_only(config: jsonargparse.Namespace, args: list[str]) -> None:
    """Refuse functions: called with arguments of the configuration, some run any code.

    ``torch.hub.load`` is one. A function below a path that ``--allow_imports`` opens is taken.

    Args:
        config: the parsed configuration, before anything in it is called.
        args: the command line.

    Raises:
        UserError: naming the key and the function.
    """
    for key, value in leaves(config):
        if key.endswith(".class_path"):
            path, target = value, pydoc.locate(value)
        elif callable(value) and not isinstance(value, os.PathLike):
            name = getattr(value, "__qualname__", type(value).__qualname__)
            path, target = f"{value.__module__}.{name}", value
        else:
            continue
        trusted = any(f"{path}.".startswith(f"{prefix}.") for prefix in opened(args))
        if not inspect.isclass(target) and not trusted:
            raise UserError(
                f"{full_key([key.removesuffix('.class_path')])} names {path}, which is no class: "
                "configurations may name classes only; if you trust it, add "
                f"--allow_imports {path}."
            )


def leaves(node: Any, key: str = "") -> list[tuple[str, Any]]:
    """Return every value below ``node`` with its dotted key."""
    if isinstance(node, jsonargparse.Namespace):
        node = vars(node)
    if isinstance(node, dict):
        return [leaf for k, v in node.items() for leaf in leaves(v, f"{key}.{k}".lstrip("."))]
    if isinstance(node, list | tuple):
        return [leaf for value in node for leaf in leaves(value, key)]
    return [(key, node)]
