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
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from torch import Tensor

    from lenet_lightning.networks.lenet5 import LeNet5

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
    pixels, _ = test_set(name, root or pretrained.data_root(trained[0].config))
    if index >= len(pixels):
        raise UserError(
            f"--image is {index}, but {name} has {len(pixels)} test images: expected at most "
            f"{len(pixels) - 1}."
        )
    image = to_unit(pixels[index : index + 1])
    both = torch.cat([image, negate(image)])
    return [Panels(str(t.config["name"]), both, first_stage(t.network, both)) for t in trained]


def first_stage(network: LeNet5, images: Tensor) -> Tensor:
    """Return the output of a network's first stage, float32 ``[batch, 6, 14, 14]``.

    Args:
        network: any LeNet-5.
        images: float32 ``[batch, channels, 32, 32]`` in [0, 1].
    """
    import torch

    with torch.inference_mode():
        return network.first_stage(images)


def figure(panels: Sequence[Panels]) -> bytes:
    """Return a PNG of four rows: for each network the image, then the negative, with their maps."""
    import matplotlib
    from matplotlib.figure import Figure

    from lenet_lightning.study.report.plots import RC, to_png

    with matplotlib.rc_context({**RC, "axes.grid": False}):
        whole = Figure(figsize=(8.8, 3.1 * len(panels)), layout="constrained")
        parts = whole.subfigures(len(panels), 1, squeeze=False)[:, 0]
        for part, each in zip(parts, panels, strict=True):
            draw(part, each)
        return to_png(whole)


def draw(part: SubFigure, panels: Panels) -> None:
    """Draw one network's two rows on one scale of greys."""
    low, high = float(panels.maps.min()), float(panels.maps.max())
    part.suptitle(
        f"{panels.title}: maps of the first stage, black {low:.2f} to white {high:.2f}", fontsize=11
    )
    part.supxlabel(
        f"largest difference between the negative's maps and the image's: {panels.difference:.3g}",
        fontsize=10,
    )
    grid = part.subplots(2, 1 + panels.maps.shape[1])
    for row, label in enumerate(("image", "negative")):
        show(grid[row, 0], panels.images[row], 0, 1)
        grid[row, 0].set_ylabel(label)
        for number, answer in enumerate(panels.maps[row]):
            show(grid[row, 1 + number], answer.unsqueeze(0), low, high)
            if row == 0:
                grid[row, 1 + number].set_title(f"map {1 + number}", fontsize=9)


def show(axes: Axes, picture: Tensor, low: float, high: float) -> None:
    """Show ``[1 or 3, height, width]`` without axes."""
    axes.imshow(picture.permute(1, 2, 0).numpy(), cmap="gray", vmin=low, vmax=high)
    axes.set(xticks=[], yticks=[])
