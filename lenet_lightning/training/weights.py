"""Trained networks as safetensors files: weights, and what a network must know of its images.

A file describes its network by the arguments of the network's own class, so that it does not depend
on the names of this version's options.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import safetensors
import safetensors.torch
from torch import nn

from lenet_lightning import files, renamed, strict_yaml
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.errors import UserError, nearest
from lenet_lightning.networks import build
from lenet_lightning.networks.lenet5 import LeNet5, Standardize
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
    arguments = {"in_channels": spec.channels, "num_classes": len(spec.classes)}
    arguments |= {k: v for k, v in network.arguments.items() if k not in LeNet5.TRAINING_ONLY}
    return {
        "network": json.dumps({"class": "LeNet5", "arguments": arguments}),
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
        network = LeNet5(**arguments_of_today(described["arguments"]), kernel="torch")
        if "standardize.scale" in tensors:
            zeros = (0.0,) * spec.channels
            build.with_scaling(network, zeros, (1.0,) * spec.channels)
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
    described = {k: v for k, v in network.arguments.items() if k != "kernel"}
    data = {
        "class_path": f"lenet_lightning.{spec.name}",
        "init_args": {"negate_border": weights.negate_border},
    }
    config = {
        "seed_everything": 0,
        "name": "pretrained",
        "trainer": {},
        "model": {
            "network": {"class_path": renamed.LENET5, "init_args": described},
            "scaling": scaling_of(network),
        },
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


def scaling_of(network: LeNet5) -> str:
    """Return the ``model.scaling`` that a network was trained with."""
    standardize = network.standardize
    if not isinstance(standardize, Standardize):
        return "unit"
    centered = bool((standardize.scale == 1).all() and (standardize.shift == -0.5).all())
    return "centered" if centered else "standardized"


def arguments_of_today(stored: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``LeNet5`` that a file describes, perhaps by their old names."""
    arguments = {k: v for k, v in stored.items() if k not in ("mean", "std")}
    if "polarity" in arguments:
        polarity = arguments.pop("polarity")
        arguments["invariance"] = "none" if polarity == "plain" else polarity
    return arguments
