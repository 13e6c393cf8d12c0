"""Trained networks as safetensors files: weights, and what a network must know of its images.

A file describes its network by the arguments of the network's own class, so that it does not depend
on the names of this version's options.
"""

import json
from pathlib import Path
from typing import Any

import lightning
import safetensors
import safetensors.torch
from torch import Tensor, nn

from lenet_lightning import files, renamed, strict_yaml
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.errors import UserError, nearest
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.store import checkpoint_schema
from lenet_lightning.store.checkpoint_schema import CONFIG_KEY, SPEC_KEY, SchemaError

FOLDER = Path(__file__).parents[1] / "weights"
MAX_BYTES = 100_000_000


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


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a file that ``export --format safetensors`` wrote; nothing in it is executed.

    Returns:
        A checkpoint of this version, for evaluations; and what the file says of itself, see
        ``export``.

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
        network, images = json.loads(facts["network"]), json.loads(facts["images"])
        negate_border = bool(images.pop("negate_border"))
        checkpoint_schema.check_spec(images)
        arguments = arguments_of_today(network["arguments"])
        sizes = arguments.pop("in_channels"), arguments.pop("num_classes")
        if network["class"] != "LeNet5" or sizes != (images["channels"], len(images["classes"])):
            raise ValueError(network)
    except (AttributeError, KeyError, SchemaError, TypeError, ValueError) as error:
        raise UserError(
            f"The weights {path} do not describe their network: expected a file that "
            "export --format safetensors wrote."
        ) from error
    config = {
        "seed_everything": 0,
        "name": "pretrained",
        "trainer": {},
        "model": {
            "network": {"class_path": renamed.LENET5, "init_args": arguments},
            "scaling": scaling_of(tensors),
        },
        "data": {
            "class_path": f"lenet_lightning.{images['name']}",
            "init_args": {"negate_border": negate_border},
        },
    }
    checkpoint = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": {f"network.{name}": value for name, value in tensors.items()},
        SPEC_KEY: images,
        CONFIG_KEY: strict_yaml.dumps(config),
    }
    return checkpoint, facts


def scaling_of(tensors: dict[str, Tensor]) -> str:
    """Return the ``model.scaling`` that a network with these weights was trained with."""
    if "standardize.scale" not in tensors:
        return "unit"
    scale, shift = tensors["standardize.scale"], tensors["standardize.shift"]
    return "centered" if bool((scale == 1).all() and (shift == -0.5).all()) else "standardized"


def arguments_of_today(stored: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``LeNet5`` that a file describes, perhaps by their old names."""
    arguments = {k: v for k, v in stored.items() if k not in ("mean", "std")}
    if "polarity" in arguments:
        polarity = arguments.pop("polarity")
        arguments["invariance"] = "none" if polarity == "plain" else polarity
    return arguments
