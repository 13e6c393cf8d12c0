"""Trained networks in Python: :func:`load` one, and ask it what is on pictures."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from lenet_lightning.data.batches import to_unit
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.find_digit import Ink
from lenet_lightning.data.input_size import repeat_and_padding, to_input_size
from lenet_lightning.data.pictures import as_trained
from lenet_lightning.data.polarity import negate
from lenet_lightning.data.readers import plain, read_picture
from lenet_lightning.errors import UserError
from lenet_lightning.store import checkpoints
from lenet_lightning.store.configuration import arguments
from lenet_lightning.training import pretrained, weights

Picture = str | PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture.

    Attributes:
        label: name of the most probable class.
        probability: of that class, in [0, 1].
        probabilities: of every class, by name, in the order of the labels.
        negative: the same for the negative of what the network saw; None in a negative's own.
        reversed: whether the picture's ink was dark, and the picture reversed; None where nothing
            was looked for or found.
        seen: uint8 ``[channels, 32, 32]``, what the network was given.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    negative: "Prediction | None"
    reversed: bool | None
    seen: npt.NDArray[np.uint8]


class TrainedNetwork(nn.Module):
    """A network for inference, with what it must know of its images.

    Args:
        network: maps float32 images ``[batch, channels, 32, 32]`` in [0, 1] to logits.
        spec: of its training images.
        negate_border: whether its negatives reverse the padding too.
        facts: what its file says of it: ``title``, ``preprocessing``, ``figures``, ``provenance``.

    Attributes:
        classes: class names, in the order of the logits.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        negate_border: bool = True,
        facts: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.network = network.eval()
        self.spec = spec
        self.classes = spec.classes
        self.border = 0 if negate_border else repeat_and_padding(spec.size)[1]
        self.facts = facts or {}
        self.eval()

    def __repr__(self) -> str:
        title = self.facts.get("title", f"network trained on {self.spec.name}")
        return f"<{type(self).__name__}: {title}, {len(self.classes)} classes>"

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 images ``[batch, channels, 32, 32]`` in [0, 1] to logits."""
        return self.network(images)

    @overload
    def predict(self, pictures: Picture, find_digit: bool = ..., ink: Ink = ...) -> Prediction: ...
    @overload
    def predict(
        self, pictures: list[Any], find_digit: bool = ..., ink: Ink = ...
    ) -> list[Prediction]: ...
    @torch.inference_mode()
    def predict(
        self,
        pictures: Picture | list[Any],
        find_digit: bool = True,
        ink: Ink = "auto",
    ) -> Prediction | list[Prediction]:
        """Say what is on pictures.

        Args:
            pictures: one picture, or a list of them. A picture is a path, a PIL image, or an array
                or tensor of any size: uint8 in 0..255 or float in [0, 1], grey ``[height, width]``
                or ``[1, height, width]``, colour ``[height, width, 3]`` or ``[3, height, width]``.
            find_digit: find the character and lay it out as the training images are; for
                networks of MNIST, EMNIST and Digits. False takes each picture as a whole.
            ink: ``dark`` on light paper, ``light`` on dark, or ``auto``: decided by each picture.

        Returns:
            A prediction for one picture, a list of them for a list.

        Raises:
            UserError: a picture cannot be read, or an array is not a picture.
        """
        several = isinstance(pictures, list)
        given: list[Any] = pictures if isinstance(pictures, list) else [pictures]
        each = [as_picture(picture) for picture in given]
        if not each:
            return []
        read = [as_trained(picture, self.spec, find_digit, ink) for picture in each]
        seen = to_input_size(np.stack([pixels for pixels, _ in read]))
        images = to_unit(torch.from_numpy(seen)).to(self.device)
        negatives = negate(images, self.border)
        predictions = []
        for i, (_, reverse) in enumerate(read):
            negative, own = (self.prediction(x[i], reverse) for x in (negatives, images))
            predictions.append(replace(own, negative=negative))
        return predictions if several else predictions[0]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def prediction(self, image: Tensor, reverse: bool | None) -> Prediction:
        """Return a prediction for one image ``[channels, 32, 32]`` in [0, 1]."""
        probabilities = self(image[None]).softmax(1)[0].tolist()
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        named = dict(zip(self.classes, probabilities, strict=True))
        seen = (image * 255).round().to(torch.uint8).cpu().numpy()
        return Prediction(self.classes[best], probabilities[best], named, None, reverse, seen)


def as_picture(given: Any) -> Image.Image:
    """Return a picture in mode ``L`` or ``RGB``.

    Raises:
        UserError: it cannot be read, or is not a picture.
    """
    if isinstance(given, str | PathLike):
        return read_picture(Path(given))
    if isinstance(given, Image.Image):
        return plain(given)
    if isinstance(given, Tensor):
        given = given.detach().cpu().numpy()
    if not isinstance(given, np.ndarray):
        raise UserError(
            f"A picture is given as {type(given).__name__}: expected a path, a PIL image, an array "
            "or a tensor."
        )
    array = given
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] == 3
    if not (grey or colour) or array.size == 0:
        raise UserError(
            f"An array of shape {[*given.shape]} is not a picture: expected [height, "
            "width], [height, width, 3] or [3, height, width]; give several pictures as a list."
        )
    if array.dtype == np.bool_:
        array = array.astype(np.float32)
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise UserError(
                f"An array of {given.dtype} holds values from {array.min():.3g} to "
                f"{array.max():.3g}: expected [0, 1], or uint8 in 0..255."
            )
        array = np.rint(array * 255)
    elif array.min() < 0 or array.max() > 255:
        raise UserError(
            f"An array of {given.dtype} holds values from {array.min()} to {array.max()}: expected "
            "0..255."
        )
    return Image.fromarray(array.astype(np.uint8))


def load(source: str | PathLike[str], imports: Collection[str] = ()) -> TrainedNetwork:
    """Load a trained network.

    Args:
        source: the name of one in this package, such as ``mnist`` or ``mnist_polarity`` (see
            ``docs/python.md``); a checkpoint, ``best.ckpt``; a run folder, for its best
            checkpoint; or a ``.safetensors`` file that ``export`` wrote.
        imports: import paths, such as ``["my_package"]``, that a checkpoint's network may be
            imported from, if it is not of this package.

    Raises:
        UserError: there is no such file or network, or it is damaged; nothing in a file is run.
    """
    path = Path(source)
    if path.is_dir() and (path / "checkpoints").is_dir():
        path = path / "checkpoints" / checkpoints.BEST
    if str(source) in weights.names() or not (path.exists() or path.suffix or len(path.parts) > 1):
        path = weights.path_of(str(source))
    facts: dict[str, str] = {}
    if path.suffix == ".safetensors":
        checkpoint, facts = weights.read(path)
        config = checkpoints.config_of(path, checkpoint) or {}
        network = pretrained.rebuild(checkpoint, config, path=path)
        network.to(memory_format=torch.contiguous_format)  # which safetensors needs to save it
    else:
        network, checkpoint, config = pretrained.load(path, imports=imports)
    negate_border = arguments(config.get("data")).get("negate_border", True)
    return TrainedNetwork(network, checkpoints.spec_of(checkpoint), negate_border, facts)
