"""``export --format html``: a page to draw on, with its networks, in one file without a network."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch

from lenet_lightning.data.batches import to_unit
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.data.polarity import negate
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training import weights
from lenet_lightning.training.trained import TrainedNetwork, load

TEMPLATE = Path(__file__).with_name("page.html")

TITLES = {True: "Ignores polarity by its construction", False: "Plain network"}
NOTES = {
    "none": "It was trained on images as they are, and tells an image from its negative.",
    "absolute": (
        "conv1 has no bias and the absolute value follows, so an image and its negative give the "
        "same maps."
    ),
    "averaged": "It averages the logits of the image and of its negative.",
}


class Samples(NamedTuple):
    """Test images to try.

    Attributes:
        pixels: uint8 ``[count, channels, size, size]``.
        labels: of each.
    """

    pixels: npt.NDArray[np.uint8]
    labels: list[int]


def one_of_each(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Samples:
    """Return the first image of each class, in the order of the classes, and of 20 at most."""
    chosen = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:20]]
    return Samples(pixels[chosen], labels[chosen].tolist())


def beside(trained: TrainedNetwork, source: str) -> TrainedNetwork | None:
    """Return the network to show beside another one: of the other kind, for the same images.

    Args:
        trained: the other one.
        source: as for ``load``; ``none``, or ``auto`` for one in this package.

    Raises:
        UserError: it cannot be loaded, or is for other images.
    """
    if source == "none":
        return None
    spec = trained.spec
    if source == "auto":
        for name in reversed(weights.names()):  # the plain recipe before the best one
            other = load(name)
            same = (other.spec.name, other.classes) == (spec.name, spec.classes)
            if same and is_built(other) != is_built(trained):
                return other
        return None
    other = load(source)
    if (other.spec.name, other.classes) != (spec.name, spec.classes):
        raise UserError(
            f"--beside {source} was trained on {other.spec.name}, but the network on {spec.name}: "
            "choose one for the same images."
        )
    return other


def is_built(trained: TrainedNetwork) -> bool:
    """Whether a network ignores polarity by its construction.

    Raises:
        UserError: it is not LeNet-5.
    """
    if not isinstance(trained.network, LeNet5):
        raise UserError("--format html writes LeNet-5 only: use --format onnx for other networks.")
    return trained.network.invariance != "none"


def write(networks: Sequence[TrainedNetwork], samples: Samples | None) -> bytes:
    """Return the page.

    Args:
        networks: one or two for the same images, shown one below the other, plain ones first.
        samples: test images to try; None without any.

    Raises:
        UserError: a network is not LeNet-5, or there is nothing to draw and nothing to try.
    """
    networks = sorted(networks, key=is_built)
    spec = networks[0].spec
    facts = DATASETS.get(spec.name)
    layout = None
    if facts and facts.box and facts.strokes:
        layout = {"size": spec.size, "box": facts.box}
    if layout is None and samples is None:
        raise UserError(
            f"There is no test image of {spec.name} on this disk to show: give --root with the "
            "folder of the datasets."
        )
    seen = to_input_size(samples.pixels) if samples else np.empty((0,), np.uint8)
    data = {
        "classes": spec.classes,
        "channels": spec.channels,
        "layout": layout,
        "samples": [base64.b64encode(image.tobytes()).decode() for image in seen],
        "labels": samples.labels if samples else [],
        "first": telling(networks[0], seen, samples.labels) if samples else 0,
        "border": networks[0].border,
        "networks": [packed(cast(LeNet5, each.network)) for each in networks],
    }
    name = facts.title if facts else spec.name
    introduction = (
        f"{'Draw a digit' if layout else 'Choose an image'}. LeNet-5 says what it is, and what its "
        "negative is."
    )
    if [is_built(each) for each in networks] == [False, True]:
        introduction += " The second network gives both the same answer."
    texts = {"title": f"{name}: an image and its negative", "introduction": introduction}
    escaped = {key: html.escape(text) for key, text in texts.items()}
    # No text of the data can end its script element.
    content = json.dumps(data).replace("<", "\\u003c")
    template = Template(TEMPLATE.read_text("utf-8").replace("${", "$${"))
    return template.substitute(escaped, data=content).encode()


@torch.inference_mode()
def telling(trained: TrainedNetwork, images: npt.NDArray[np.uint8], labels: list[int]) -> int:
    """Return the sample to show first: one whose negative, and only that, is misclassified.

    Args:
        trained: the plain network.
        images: uint8 ``[count, channels, 32, 32]``.
        labels: of each.
    """
    x = to_unit(torch.from_numpy(images))
    original, negative = (
        (trained(each).argmax(1).cpu() == torch.tensor(labels))
        for each in (x, negate(x, trained.border))
    )
    return int((original & ~negative).int().argmax())


def packed(network: LeNet5) -> dict[str, Any]:
    """Return what the page needs of a network; its weights as base64 of little-endian float32."""
    state = network.state_dict()
    values = [tensor.detach().cpu().numpy().astype("<f4").tobytes() for tensor in state.values()]
    return {
        "title": TITLES[network.invariance != "none"],
        "note": NOTES[network.invariance],
        "invariance": network.invariance,
        "activations": network.activations,
        "tensors": [[name, list(tensor.shape)] for name, tensor in state.items()],
        "weights": base64.b64encode(b"".join(values)).decode(),
    }
