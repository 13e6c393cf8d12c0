"""Construct a network for images of given channels and classes: LeNet-5, or the user's own."""

import pydoc
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import Kernel, LeNet5, Standardize
from lenet_lightning.networks.lenet5_1998 import OriginalLeNet5
from lenet_lightning.number_types import plain
from lenet_lightning.renamed import LENET5

NetworkCallable = Callable[[int, int], nn.Module]
"""Maps channels and number of classes to a network: a class, or a partial of one."""

NETWORKS: dict[str, type[LeNet5 | OriginalLeNet5]] = {
    LENET5: LeNet5,
    "lenet_lightning.OriginalLeNet5": OriginalLeNet5,
}
"""The networks of this package by import path."""


def build(make: NetworkCallable, channels: int, classes: int, seed: int) -> nn.Module:
    """Construct a network whose weights depend on ``seed`` only.

    Raises:
        UserError: it cannot be constructed, or does not map images to logits.
    """
    # Not on torch's default device, whose generator may give other numbers.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = make(channels, classes)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"model.network cannot be constructed for {channels} channels and {classes} "
                f"classes: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(network, LeNet5):
            check(network, channels, classes)
    return network


def check(network: Any, channels: int, classes: int) -> None:
    """Refuse what does not map float32 images ``[batch, channels, 32, 32]`` to logits.

    Raises:
        UserError: naming the network, what it makes of two images and what was expected.
    """
    name = type(network).__name__
    if not isinstance(network, nn.Module):
        raise UserError(f"model.network makes a {name}: expected a torch.nn.Module.")
    images = torch.zeros(2, channels, 32, 32)
    training = network.training
    try:
        with torch.no_grad():
            logits = network.eval()(images)
    except Exception as error:
        raise UserError(
            f"model.network {name} fails on images {list(images.shape)}: {type(error).__name__}: "
            f"{error}"
        ) from error
    network.train(training)
    found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != [2, classes] or not logits.is_floating_point():
        raise UserError(
            f"model.network {name} makes {found} of images {list(images.shape)}: expected logits "
            f"{[2, classes]}, one for each class."
        )
    if not any(p.requires_grad for p in network.parameters()):
        raise UserError(f"model.network {name} has no parameters to train.")


def with_scaling(network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    """Return the network of ``(x - mean) / std``; LeNet-5 itself, others in a sequence.

    Args:
        network: takes the scaled images.
        mean: of each channel, in input units.
        std: standard deviation of each channel, > 0.
    """
    standardize = Standardize(mean, std)
    if isinstance(network, LeNet5):
        network.standardize = standardize
        return network
    return nn.Sequential(OrderedDict(standardize=standardize, layers=network))


def describe(network: nn.Module) -> dict[str, Any]:
    """Return the import path of a network's class, and of LeNet-5 also the arguments."""
    kind = type(network)
    own = (path for path, known in NETWORKS.items() if known is kind)
    path = next(own, f"{kind.__module__}.{kind.__qualname__}")
    return {"class_path": path, "init_args": plain(getattr(network, "arguments", {}))}


def from_description(
    description: Any, imports: Collection[str] = (), kernel: Kernel | None = None
) -> NetworkCallable:
    """Return what makes a network that a configuration describes.

    Args:
        description: ``class_path`` and ``init_args``.
        imports: import paths of classes, modules or packages beside :data:`NETWORKS` that may be
            imported.
        kernel: replaces that of LeNet-5.

    Raises:
        UserError: its class is not allowed, or not there.
    """
    described = description if isinstance(description, dict) else {"class_path": description}
    path, given = str(described.get("class_path")), described.get("init_args") or {}
    if not isinstance(given, dict):
        raise UserError(f"model.network.init_args of {path} is {given}: expected a mapping.")
    if path in NETWORKS:
        own = {"kernel": kernel} if kernel and path == LENET5 else {}
        return partial(NETWORKS[path], **(given | own))
    if not any(f"{path}.".startswith(f"{allowed}.") for allowed in imports):
        raise UserError(
            f"model.network is {path}, which is not of this package: if you trust it, add "
            f"--allow_imports {path}."
        )
    try:
        kind = pydoc.locate(path)
    except pydoc.ErrorDuringImport as error:
        raise UserError(f"model.network is {path}, which cannot be imported: {error}") from error
    if not callable(kind):
        raise UserError(f"model.network is {path}, which is not there.")
    return cast(NetworkCallable, partial(kind, **given))
