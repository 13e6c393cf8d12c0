"""``python -m lenet_lightning export``: a checkpoint as a file that can be shared safely.

Neither format can hold code. Both carry, as metadata, everything that a stranger needs to use the
network: the preprocessing in words and numbers, the class names, the figures and the provenance.
"""

import contextlib
import hashlib
import importlib
import io
import json
import logging
import warnings
from argparse import Namespace
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

import lenet_lightning
from lenet_lightning import arguments, files
from lenet_lightning.arguments import Parser
from lenet_lightning.callbacks.predictions import free_path
from lenet_lightning.cli import page
from lenet_lightning.data import datasets
from lenet_lightning.data.batches import to_unit
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.fetch import Split
from lenet_lightning.data.input_size import INPUT_SIZE, repeat_and_padding, to_input_size
from lenet_lightning.errors import UserError
from lenet_lightning.signals import interruptible
from lenet_lightning.store import checkpoints, configuration, run_folder
from lenet_lightning.store.configuration import class_name, data_options
from lenet_lightning.store.manifest import Manifest
from lenet_lightning.training import pretrained, weights
from lenet_lightning.training.trained import load

FORMATS = ("safetensors", "onnx", "html")

# What each format needs of the extra ``export``.
PACKAGES = {"onnx": ("onnx", "onnxruntime", "onnxscript")}

# Images on which an exported file must agree with the network, and the largest difference,
# absolute and relative, that is taken for rounding.
CHECKED_IMAGES = 256
TOLERANCE = 1e-4

Run = Callable[[Tensor], Tensor]

DESCRIPTION = """Write a checkpoint's network to a file that holds no code.

safetensors  the weights, by the names of the network, such as lenet_lightning.LeNet5
onnx         the network: images -> logits and probabilities, any batch size
html         a page to draw on, for a browser: the network's answers for a drawing and its negative

The first two hold preprocessing, class names, figures and provenance in their metadata, and are
compared with the network on images before they are there."""


def main(args: list[str]) -> int:
    """Run the command line ``args`` (without the word ``export``); return the exit code.

    Raises:
        UserError: bad arguments, no checkpoint of this package, a missing package, a file that
            cannot be written, or one that does not agree with the network.
    """
    options = make_parser().parse_args(args)
    if options.output and options.output.exists():
        raise UserError(f"--output {options.output} exists already: choose another name.")
    for package in PACKAGES.get(options.format, ()):
        require(package, options.format)
    if bool(options.ckpt_path) == bool(options.pretrained):
        raise UserError("Expected either --ckpt_path with a .ckpt file, or --pretrained mnist.")
    if options.pretrained and options.format == "safetensors":
        path = weights.path_of(options.pretrained)
        raise UserError(f"--pretrained {options.pretrained} is a safetensors file already: {path}.")
    if options.pretrained and options.format == "onnx":
        raise UserError("--pretrained is for --format html: give --ckpt_path.")
    with interruptible():
        write = write_page if options.format == "html" else write_network
        for line in write(options, options.ckpt_path or Path(f"{options.pretrained}.ckpt")):
            print(line)
    return 0


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = arguments.make_parser("export", DESCRIPTION)
    parser.add_argument(
        "--ckpt_path",
        type=lambda path: Path(run_folder.checkpoint_in(path)),
        help="a .ckpt file that fit wrote, or a run folder for its best",
    )
    parser.add_argument(
        "--pretrained", help=f"a network of this package in its place: {', '.join(weights.names())}"
    )
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--output", type=Path, help="file to write; beside the checkpoint by default"
    )
    parser.add_argument(
        "--root", help="folder of the datasets, for the images of the comparison; the run's default"
    )
    parser.add_argument(
        "--beside",
        default="auto",
        help="html: the network shown beside it, a checkpoint or one of this package, or none; by "
        "default one of this package that takes negatives the other way",
    )
    arguments.add_imports(parser)
    return parser


def write_network(options: Namespace, ckpt: Path) -> list[str]:
    """Write the network for other programs; return what to say of it."""
    network, checkpoint, config = pretrained.load(ckpt, imports=options.allow_imports)
    spec = checkpoints.spec_of(checkpoint)
    facts = metadata(ckpt, checkpoint, config)
    facts |= weights.description(network, spec, data_options(config).get("negate_border", True))
    images, origin = sample_images(spec, test_set(spec, config, ckpt, options.root))
    write = to_onnx if options.format == "onnx" else to_safetensors
    content, exported = write(network, facts, spec.channels)
    difference = compare(network, exported, images, options.format)
    return [
        save(options, ckpt, content),
        f"Agrees with the network on {origin}; probabilities differ by {difference:.1e} at most.",
    ]


def write_page(options: Namespace, ckpt: Path) -> list[str]:
    """Write the page to draw on; return what to say of it."""
    trained = load(options.ckpt_path or options.pretrained, options.allow_imports)
    other = page.beside(trained, options.beside)
    config = {"data": {"class_path": trained.spec.name}}
    if options.ckpt_path:
        config = checkpoints.config_of(ckpt, checkpoints.load(ckpt)) or config
    test = test_set(trained.spec, config, ckpt, options.root)
    samples = page.one_of_each(test.images, test.labels) if test else None
    content = page.write([trained, other] if other else [trained], samples)
    lines = [f"{save(options, ckpt, content)}; open it in a browser"]
    if samples is None:
        lines.append(
            f"Without test images to try: {trained.spec.name} is not on this disk (--root)."
        )
    return lines


def save(options: Namespace, ckpt: Path, content: bytes) -> str:
    """Write the file, beside the checkpoint unless ``--output`` names it; return what to say."""
    path = options.output or free_path(ckpt.with_suffix(f".{options.format}"))
    files.replace(path, content)
    return f"{path}: {len(content):,} bytes"


def test_set(spec: InputSpec, config: dict[str, Any], path: Path, root: str | None) -> Split | None:
    """Return the test images of a checkpoint's dataset; None if they are not on this disk."""
    with contextlib.suppress(UserError):
        return datasets.of_checkpoint(spec, config, path, root).test
    return None


def require(package: str, kind: str) -> ModuleType:
    """Import a package of the ``export`` extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"export --format {kind} needs the package {package}: pip install -e '.[export]'"
        ) from error


def metadata(
    path: str | Path, checkpoint: dict[str, Any], config: dict[str, Any]
) -> dict[str, str]:
    """Return what the file says of itself: names to sentences or JSON, no path of this machine."""
    spec = checkpoints.spec_of(checkpoint)
    folder = run_folder.folder_of(path)
    manifest = run_folder.read(folder).manifest if folder else Manifest()
    data = {k: v for k, v in config["data"]["init_args"].items() if k not in ("root", "download")}
    provenance = {
        "dataset": spec.name,
        "digests": manifest.data.digests or None,
        "epoch": checkpoint["epoch"],
        "step": checkpoint["global_step"],
        "seed": config["seed_everything"],
        "model": config["model"],
        "data": data,
        "code": manifest.code or None,
        "git": manifest.git and asdict(manifest.git),
        "versions": manifest.versions or {"lenet_lightning": lenet_lightning.__version__},
        "checkpoint_sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    }
    repeat, padding = repeat_and_padding(spec.size)
    network = class_name(configuration.network(config))
    return {
        "title": f"{'LeNet-5' if network == 'LeNet5' else network} trained on {spec.name}",
        "preprocessing": preprocessing(spec),
        "polarity": polarity(config),
        "input": json.dumps(
            {
                "name": "images",
                "shape": ["batch", spec.channels, INPUT_SIZE, INPUT_SIZE],
                "dtype": "float32",
                "range": [0, 1],
                "divide_pixels_by": 255,
                "size_before_padding": spec.size,
                "repeat_pixels": repeat,
                "padding": padding,
                "padding_value": 0,
                "scaling_inside_the_network": scaling_inside(config, spec),
            }
        ),
        "classes": json.dumps(list(spec.classes)),
        "figures": json.dumps(figures(Path(path), manifest)),
        "provenance": json.dumps(provenance),
    }


def scaling_inside(config: dict[str, Any], spec: InputSpec) -> dict[str, Any]:
    """Return the scaling of the network itself: its kind, mean and standard deviation."""
    kind = config["model"]["scaling"]
    numbers = {"standardized": (spec.mean, spec.std), "centered": ([0.5], [1.0])}
    mean, std = numbers.get(kind, ([0.0], [1.0]))
    return {"kind": kind, "mean": [*mean], "std": [*std]}


def preprocessing(spec: InputSpec) -> str:
    """Say how a picture becomes the network's input."""
    size = f"{spec.size}x{spec.size}"
    repeat, padding = repeat_and_padding(spec.size)
    steps = [f"take a {'grey' if spec.channels == 1 else 'RGB'} picture of {size} pixels, 0..255"]
    if repeat > 1:
        steps.append(f"repeat each pixel {repeat} times along both axes")
    if padding:
        steps.append(f"pad with {padding} pixels of 0 on each side")
    steps.append(
        f"divide by 255: float32 [batch, {spec.channels}, {INPUT_SIZE}, {INPUT_SIZE}] in [0, 1]"
    )
    return "; ".join(steps) + ". Any further scaling is part of the network."


# What a network's construction makes of polarity.
CONSTRUCTIONS = {
    "none": "The network tells the two apart.",
    "absolute": "The absolute value follows conv1, so the network gives the same for both.",
    "averaged": "The network is the mean of the logits that its layers give for x and for 1 - x.",
}


def polarity(config: dict[str, Any]) -> str:
    """Say which way round the images are, and what the network makes of it."""
    data = config["data"]["init_args"]
    network = configuration.network(config)
    construction = CONSTRUCTIONS[configuration.arguments(network).get("invariance", "none")]
    border = "padding included" if data.get("negate_border", True) else "padding left as it is"
    return (
        "0 is black and 1 is white, in the dataset's own polarity; the negative of x is 1 - x, "
        f"{border}. Training images: {data.get('train_polarity', 'original')}. "
        f"{construction}"
    )


def figures(path: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Return the test figures of this very checkpoint, as its run recorded them."""
    found: dict[str, Any] | None = manifest.test if path.name == checkpoints.BEST else None
    for entry in manifest.evaluations:
        entry_of = {"checkpoint": path.name, "stage": "test", "data": manifest.data.name}
        if entry_of.items() <= entry.items() and not found:
            found = {k: v for k, v in entry.items() if k not in ("checkpoint", "stage")}
    return found and {"protocol": manifest.protocol, **found}


def sample_images(spec: InputSpec, test: Split | None) -> tuple[Tensor, str]:
    """Return images to compare on, float32 ``[count, channels, 32, 32]``, and what they are.

    They are the first of the dataset's test set and their negatives, or noise without one.
    """
    if test is not None:
        images = to_unit(torch.from_numpy(to_input_size(test.images[: CHECKED_IMAGES // 2])))
        return torch.cat([images, 1 - images]), f"{len(images)} test images and their negatives"
    shape = (CHECKED_IMAGES, spec.channels, INPUT_SIZE, INPUT_SIZE)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return noise, f"{CHECKED_IMAGES} images of noise ({spec.name} is not on this disk)"


def to_safetensors(network: nn.Module, facts: dict[str, str], channels: int) -> tuple[bytes, Run]:
    """Return the file's content, and a function that computes logits from it."""
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    content: bytes = safetensors.torch.save(tensors, {"format": "pt", **facts})

    copy = deepcopy(network)
    for value in copy.state_dict().values():
        value.fill_(torch.nan if value.is_floating_point() else -1)
    copy.load_state_dict(safetensors.torch.load(content))
    return content, copy


class WithProbabilities(nn.Module):
    """Maps images to logits and to their softmax."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, each ``[batch, classes]``."""
        logits = self.network(images)
        return logits, logits.softmax(1)


def to_onnx(network: nn.Module, facts: dict[str, str], channels: int) -> tuple[bytes, Run]:
    """Return the file's content, and a function that computes logits from it in onnxruntime."""
    onnx, onnxruntime = require("onnx", "onnx"), require("onnxruntime", "onnx")
    shape = (2, channels, INPUT_SIZE, INPUT_SIZE)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # What the exporter says of its own doings.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            WithProbabilities(network).eval(),
            (torch.zeros(shape),),
            dynamo=True,
            input_names=["images"],
            output_names=["logits", "probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    model = cast(Any, program).model_proto
    model.doc_string = facts["title"]
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        # In unequal parts: the batch size must be free.
        parts = [images[:1], images[1:]]
        logits = [session.run(["logits"], {"images": part.numpy()})[0] for part in parts]
        return torch.from_numpy(np.concatenate(logits))

    return content, run


@torch.inference_mode()
def compare(network: nn.Module, exported: Run, images: Tensor, kind: str) -> float:
    """Return the largest difference of a probability between a network and its exported copy.

    Raises:
        UserError: logits differ by more than rounding.
    """
    expected = network(images)
    found = exported(images)
    if not torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
        raise UserError(
            f"The {kind} file does not agree with the network: logits differ by up to "
            f"{float((found - expected).abs().max()):.2g}; nothing is written. The weights may be "
            "too large for float32, or the exporter's version unsuitable."
        )
    return float((found.softmax(1) - expected.softmax(1)).abs().max())
