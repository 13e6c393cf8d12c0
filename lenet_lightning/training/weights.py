"""Trained networks as safetensors files: weights, and what a network must know of its images.

A file describes its network by the arguments of the network's own class, so that it does not depend
on the names of this version's options.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import safetensors
import safetensors.torch
from torch import nn

from lenet_lightning import files, strict_yaml
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.errors import UserError, nearest
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.store import checkpoint_schema
from lenet_lightning.store.checkpoint_schema import CONFIG_KEY, SPEC_KEY, SchemaError

FOLDER = Path(__file__).parents[1] / "weights"
MAX_BYTES = 100_000_000


@dataclass
class Weights:
    """A trained network, read from a file.

    Attributes:
        network: maps float32 images ``[batch, channels, 32, 32]`` in [0, 1] to logits; for
            inference.
        spec: what it must know of its images.
        negate_border: whether its negatives reverse the padding too.
        facts: everything else that the file says of itself, see ``export``.
    """

    network: LeNet5
    spec: InputSpec
    negate_border: bool
    facts: dict[str, str]


def names() -> list[str]:
    """Return the names of the trained networks in this package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def path_of(name: str) -> Path:
    """Return the file of a trained network in this package.

    Raises:
        UserError: there is none of this name.
    """
    if name not in names():
        hint = nearest(name, names()) or f": expected one of {', '.join(names())}."
        raise UserError(f"{name} is not a trained network of this package{hint}")
    return FOLDER / f"{name}.safetensors"


def description(network: nn.Module, spec: InputSpec, negate_border: bool) -> dict[str, str]:
    """Return the part of a file's metadata that :func:`read` needs."""
    if not isinstance(network, LeNet5):
        return {}
    return {
        "network": json.dumps({"class": "LeNet5", "arguments": network.arguments}),
        "images": json.dumps(spec.to_dict() | {"negate_border": negate_border}),
    }


def read(path: Path) -> Weights:
    """Read a file that ``export --format safetensors`` wrote; nothing in it is executed.

    Raises:
        UserError: it cannot be read, or does not describe its network.
    """
    try:
        content = files.read(path, MAX_BYTES)
        tensors = safetensors.torch.load(content)
        with safetensors.safe_open(path, "pt") as file:
            facts = dict(file.metadata() or {})
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"The weights {path} cannot be read: {reason}.") from error
    try:
        described = json.loads(facts["network"])
        images = json.loads(facts["images"])
        negate_border = bool(images.pop("negate_border"))
        checkpoint_schema.check_spec(images)
        spec = InputSpec.from_dict(images)
        if described["class"] != "LeNet5":
            raise ValueError(described["class"])
        network = LeNet5(**_tuples(described["arguments"]))
        network.load_state_dict(tensors)
    except (AttributeError, KeyError, RuntimeError, SchemaError, TypeError, ValueError) as error:
        raise UserError(
            f"The weights {path} do not describe their network: expected a file that "
            "export --format safetensors wrote."
        ) from error
    return Weights(network.eval(), spec, negate_border, facts)


def as_checkpoint(weights: Weights) -> dict[str, Any]:
    """Return a trained network as a checkpoint of this version, for evaluations."""
    network, spec = weights.network, weights.spec
    known: dict[str, Any] = network.arguments
    centered = [0.5] * spec.channels
    scaling = {(): "unit", tuple(centered): "centered"}.get(tuple(known["mean"]), "standardized")
    model = {key: known[key] for key in ("activation", "conv_activation", "polarity")}
    data = {
        "class_path": f"lenet_lightning.{spec.name}",
        "init_args": {"negate_border": weights.negate_border},
    }
    config = {
        "seed_everything": 0,
        "name": "pretrained",
        "trainer": {},
        "model": model | {"scaling": scaling},
        "data": data,
    }
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": {f"network.{name}": value for name, value in network.state_dict().items()},
        SPEC_KEY: spec.to_dict(),
        CONFIG_KEY: strict_yaml.dumps(config),
    }


def _tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
            for k, v in arguments.items()}  # fmt: skip
