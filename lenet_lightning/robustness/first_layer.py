"""``python -m lenet_lightning first_layer``: what conv1 makes of an image and of its negative."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lenet_lightning import arguments
from lenet_lightning.arguments import Parser, whole_number
from lenet_lightning.errors import UserError
from lenet_lightning.signals import interruptible

if TYPE_CHECKING:
    from torch import Tensor, nn

DESCRIPTION = """Draw the six maps of the first stage (convolution, pooling, activation) for a test
image and for its negative, of two networks: one trained plainly, and one built or trained to take
negatives as well. Where the maps of both are the same, the rest of the network cannot tell them
apart."""


class Panels(NamedTuple):
    """What is drawn of one network.

    Attributes:
        title: names the network.
        images: the image and its negative, float32 ``[2, channels, 32, 32]`` in [0, 1].
        maps: its first stage on both, float32 ``[2, 6, 14, 14]``.
    """

    title: str
    images: Tensor
    maps: Tensor

    @property
    def difference(self) -> float:
        """The largest difference between the maps of the image and of its negative."""
        return float((self.maps[1] - self.maps[0]).abs().max())


def main(args: Sequence[str]) -> int:
    """Run the command line ``args`` (without the word ``first_layer``); return the exit code.

    Raises:
        UserError: bad arguments, checkpoints that cannot be read or compared, an absent dataset, or
            a file that cannot be written.
    """
    options = make_parser().parse_args(args)
    if options.output and options.output.exists():
        raise UserError(f"--output {options.output} exists already: choose another name.")

    # Imported here: `first_layer --help` answers without torch.
    from lenet_lightning import files
    from lenet_lightning.callbacks.predictions import free_path

    with interruptible():
        panels = look(options.ckpt_path, options.root, options.image)
        path = options.output or free_path(Path("first_layer.png"))
        files.replace(path, figure(panels))
    print(path)
    return 0


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = arguments.make_parser("first_layer", DESCRIPTION)
    parser.add_argument(
        "--ckpt_path",
        type=Path,
        nargs=2,
        required=True,
        metavar=("PLAIN.ckpt", "BUILT.ckpt"),
        help="two .ckpt files of the same dataset that fit wrote",
    )
    parser.add_argument("--root", help="folder of the datasets; the first run's own by default")
    parser.add_argument(
        "--image",
        type=whole_number,
        default=0,
        metavar="INDEX",
        help="which test image, from 0 (default: 0)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.png", help="default: first_layer.png, or _2, _3, ..."
    )
    return parser


def look(paths: Sequence[Path], root: str | None, index: int) -> list[Panels]:
    """Return what the first stage of each checkpoint's network makes of a test image.

    Args:
        paths: checkpoints of one dataset.
        root: folder of the datasets; None for where the first run found them.
        index: position of the image in the test set.

    Raises:
        UserError: a checkpoint cannot be read, they are of different datasets, the dataset is
            absent, or it has no such image.
    """
    import torch

    from lenet_lightning.cli import ensemble
    from lenet_lightning.data.batches import to_unit
    from lenet_lightning.data.polarity import negate
    from lenet_lightning.robustness.evaluate import test_set
    from lenet_lightning.store import checkpoints
    from lenet_lightning.training import pretrained

    trained = [pretrained.load(path) for path in paths]
    specs = [checkpoints.spec_of(each.checkpoint) for each in trained]
    ensemble.same_images({str(p): spec for p, spec in zip(paths, specs, strict=True)})
    name = specs[0].name
    pixels, _ = test_set(specs[0], trained[0].config, paths[0], root)
    if index >= len(pixels):
        raise UserError(
            f"--image is {index}, but {name} has {len(pixels)} test images: expected at most "
            f"{len(pixels) - 1}."
        )
    image = to_unit(pixels[index : index + 1])
    both = torch.cat([image, negate(image)])
    return [Panels(str(t.config["name"]), both, first_stage(t.network, both)) for t in trained]


def first_stage(network: nn.Module, images: Tensor) -> Tensor:
    """Return the output of a network's first stage, float32 ``[batch, 6, 14, 14]``.

    Args:
        network: a LeNet-5.
        images: float32 ``[batch, channels, 32, 32]`` in [0, 1].

    Raises:
        UserError: it is another network.
    """
    import torch

    from lenet_lightning.networks.lenet5 import LeNet5

    if not isinstance(network, LeNet5):
        raise UserError(
            "first_layer draws the first stage of LeNet-5, but a checkpoint is of "
            f"{type(network).__name__}: give others."
        )
    with torch.inference_mode():
        return network.first_stage(images)


def figure(panels: Sequence[Panels]) -> bytes:
    """Return a PNG of four rows: for each network the image, then the negative, with their maps."""
    from lenet_lightning import plotting

    networks = []
    for each in panels:
        what = "largest difference between the negative's maps and the image's"
        note = f"{what}: {each.difference:.3g}"
        rows = [[image.numpy(), *maps.numpy()] for image, maps in zip(*each[1:], strict=True)]
        networks.append((f"{each.title}: maps of the first stage", note, rows))
    return plotting.to_png(plotting.feature_maps(networks))
