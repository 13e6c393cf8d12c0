"""Load a checkpoint and rebuild its network for inference."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from lenet_lightning.errors import UserError
from lenet_lightning.networks import build
from lenet_lightning.networks.lenet5 import Kernel
from lenet_lightning.store import checkpoints, configuration
from lenet_lightning.training.classifier import Classifier


class Loaded(NamedTuple):
    """A checkpoint, read.

    Attributes:
        network: its network, for inference.
        checkpoint: Lightning's checkpoint dictionary, tensors on the CPU.
        config: the configuration that it was trained with.
    """

    network: nn.Module
    checkpoint: dict[str, Any]
    config: dict[str, Any]


def load(path: str | Path, kernel: Kernel = "torch", imports: Collection[str] = ()) -> Loaded:
    """Load a checkpoint and rebuild its network.

    Args:
        path: a .ckpt file that fit wrote.
        kernel: of LeNet-5, as ``model.network.kernel``.
        imports: import paths that a network of the user's own may be imported from.

    Raises:
        UserError: the file is absent, damaged or not of this package, or its network does not fit
            its configuration, or it has none.
    """
    checkpoint = checkpoints.load(path)
    config = checkpoints.config_of(path, checkpoint)
    if config is None:
        raise UserError(
            f"The checkpoint {path} has no configuration of its training: move it back to its run "
            "folder."
        )
    return Loaded(rebuild(checkpoint, config, kernel, imports, path), checkpoint, config)


def rebuild(
    checkpoint: dict[str, Any],
    config: dict[str, Any],
    kernel: Kernel = "torch",
    imports: Collection[str] = (),
    path: str | Path = "The checkpoint",
) -> nn.Module:
    """Return the network of a checkpoint, by default on torch's own operators, for inference.

    Raises:
        UserError: weights and description do not fit each other.
    """
    spec = checkpoints.spec_of(checkpoint)
    try:
        model = config["model"]
        network = Classifier(
            build.from_description(configuration.network(config), imports, kernel),
            model.get("scaling", "unit"),
            channels=spec.channels,
            classes=len(spec.classes),
        ).network
        weights = {
            name.removeprefix("network."): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith("network.")
        }
        network.load_state_dict(weights)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not fit the network that it describes: it was written by another "
            "version, or changed by hand."
        ) from error
    return network.eval()
