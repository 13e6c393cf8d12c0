"""Load a checkpoint and rebuild its network for inference."""

from pathlib import Path
from typing import Any, NamedTuple

from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import Kernel, LeNet5
from lenet_lightning.store import checkpoints
from lenet_lightning.training.classifier import Classifier

# Options of the model that a network's output depends on, beside its weights.
NETWORK = ("activation", "conv_activation", "scaling", "polarity")


class Loaded(NamedTuple):
    """A checkpoint, read.

    Attributes:
        network: its network, for inference.
        checkpoint: Lightning's checkpoint dictionary, tensors on the CPU.
        config: the configuration that it was trained with.
    """

    network: LeNet5
    checkpoint: dict[str, Any]
    config: dict[str, Any]


def load(path: str | Path, kernel: Kernel = "torch") -> Loaded:
    """Load a checkpoint and rebuild its network.

    Args:
        path: a .ckpt file that fit wrote.
        kernel: CPU convolutions of the network, as ``model.kernel``.

    Raises:
        UserError: the file is absent, damaged or none of this package, does not tell how it was
            trained, or does not fit what it tells.
    """
    checkpoint = checkpoints.load(path)
    config = checkpoints.config_of(path, checkpoint)
    if config is None:
        raise UserError(
            f"The checkpoint {path} does not tell how it was trained: put it back into its run "
            "folder."
        )
    return Loaded(build(checkpoint, config, kernel), checkpoint, config)


def build(checkpoint: dict[str, Any], config: dict[str, Any], kernel: Kernel = "torch") -> LeNet5:
    """Return the checkpoint's network, by default on torch's own operators, for inference.

    Raises:
        UserError: weights and description do not fit each other.
    """
    try:
        model = config["model"]
        settings = {key: model[key] for key in NETWORK if key in model}
        spec = checkpoints.spec_of(checkpoint)
        network = Classifier(
            **settings, kernel=kernel, channels=spec.channels, classes=len(spec.classes)
        ).network
        weights = {
            name.removeprefix("network."): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith("network.")
        }
        network.load_state_dict(weights)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            "The checkpoint does not fit the network that it describes: it was written by another "
            "version, or changed by hand."
        ) from error
    return network.eval()
