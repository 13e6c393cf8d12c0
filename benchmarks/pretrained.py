"""Write the trained networks of this package, and a card for each, from finished runs.

    python benchmarks/pretrained.py mnist=lightning_logs/best_mnist_distilled/version_0 ...

Writes lenet_lightning/weights/NAME.safetensors and NAME.md in place of those that are there. Each
is compared with its network, and its figures come from the run's record.
"""

import argparse
import json
from pathlib import Path
from typing import Any, cast

import torch

from lenet_lightning.cli import export
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.statistics import wilson
from lenet_lightning.store import run_folder
from lenet_lightning.training import weights
from lenet_lightning.training.trained import TrainedNetwork, load

CARD = """\
# {name}

{title}. Use: `lenet_lightning.load("{name}")`, or `--pretrained {name}` with `test` and `predict`.

| {count:,} test images (n = {count:,}, one network) | accuracy | 95 % interval |
|---|---|---|
{rows}

Intervals are Wilson's for the test images; they leave out what another seed would give. The epoch
was selected on validation images (protocol {protocol}), and tested once.

| | |
|---|---|
| network | LeNet-5, {parameters:,} parameters, {bytes:,} bytes; polarity: {construction} |
| recipe | [`{config}`](../../{config}), seed {seed}, epoch {epoch} (counted from 0){note} |
| input | {preprocessing} |
| classes | {classes} |
| checkpoint | SHA-256 `{checkpoint}` |
| software | {versions} |
| licence | that of this package, MIT; the images are under licences of their own |

Files of {dataset} that it was trained and tested on, SHA-256:

| file | digest |
|---|---|
{digests}

## Limits

{limits}
"""

LIMITS = {
    "MNIST": (
        "It knows ten handwritten digits, alone on their background, and answers with one of them "
        "whatever it is shown. Its probabilities are too high on other pictures. Pictures must be "
        "laid out as MNIST's are, which `predict` does (see [own pictures](../../docs/python.md))."
    ),
    "FashionMNIST": (
        "It knows ten classes of clothes, photographed alone on a plain background, and answers "
        "with one of them whatever it is shown. Shirts, T-shirts, pullovers and coats are often "
        "confused."
    ),
    "CIFAR10": (
        "It knows ten classes of photographs of 32x32 pixels and answers with one of them whatever "
        "it is shown. A fifth or more of its answers are wrong."
    ),
}
POLARITY_LIMIT = (
    " By its construction it gives an image and its negative the same answer, so it cannot tell "
    "which of the two it was shown."
)


def card(name: str, content: bytes, found: TrainedNetwork, config: dict[str, Any]) -> str:
    """Return the card of a network.

    Args:
        name: of the network.
        content: of its file.
        found: the network in it.
        config: the configuration of its run.
    """
    facts = found.facts
    figures, provenance = json.loads(facts["figures"]), json.loads(facts["provenance"])
    count = test_images(found.spec.name)
    rows = []
    kinds = {"acc": "originals", "acc_negative": "negatives", "acc_views": "originals, with TTA"}
    for key, label in kinds.items():
        if (value := figures.get(key)) is not None:
            low, high = wilson(value, count)
            rows.append(f"| {label} | {value:.2%} | {low:.2%} to {high:.2%} |")
    polarity = cast(LeNet5, found.network).invariance != "none"
    return CARD.format(
        name=name,
        title=facts["title"],
        count=count,
        rows="\n".join(rows),
        protocol=figures["protocol"],
        parameters=sum(p.numel() for p in found.network.parameters()),
        bytes=len(content),
        construction=facts["polarity"],
        config=config_file(config["name"]),
        seed=provenance["seed"],
        epoch=provenance["epoch"],
        note=note_of(config),
        preprocessing=facts["preprocessing"],
        classes=", ".join(found.spec.classes),
        checkpoint=provenance["checkpoint_sha256"],
        versions=", ".join(f"{k} {v}" for k, v in provenance["versions"].items()),
        dataset=found.spec.name,
        digests="\n".join(f"| {k} | `{v}` |" for k, v in provenance["digests"].items()),
        limits=LIMITS[found.spec.name] + POLARITY_LIMIT * polarity,
    )


def test_images(dataset: str) -> int:
    """Return the number of test images, by the size of their file."""
    facts = DATASETS[dataset]
    image = facts.channels * facts.size**2
    return facts.test[0].size // (image + (facts.layout == "cifar"))


def config_file(name: str) -> str:
    """Return the configuration in the repository that a run's name stands for."""
    for folder in ("polarity", "best", "fast"):
        if name.startswith(f"{folder}_"):
            recipe = name.removeprefix(f"{folder}_").removesuffix("_single")
            return f"configs/{folder}/{recipe}.yaml"
    study, _, rest = name.partition("/")
    if study == "best" and "_single" in rest:
        return f"configs/best/{rest.partition('_single')[0]}.yaml"
    return f"configs/{name}.yaml"


def note_of(config: dict[str, Any]) -> str:
    """Say how the network was trained beyond the labels."""
    callbacks = config["trainer"].get("callbacks") or []
    distilled = any("Distillation" in str(each) for each in callbacks)
    if distilled:
        return "; distilled from four networks of its own size"
    if config_file(config["name"]).startswith("configs/best/"):
        return "; a single network, not the distilled recipe, which is better (docs/best.md)"
    return "; a single network"


def write(name: str, run: Path, root: str) -> None:
    """Write the file and the card of one network."""
    checkpoint = run / "checkpoints" / "best.ckpt"
    path = weights.FOLDER / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    command = ["--ckpt_path", str(checkpoint), "--format", "safetensors", "--root", root]
    export.main([*command, "--output", str(path)])
    text = card(name, path.read_bytes(), load(path), run_folder.read(run).config)
    path.with_suffix(".md").write_text(text)


def main() -> None:
    """Write every network that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", metavar="NAME=RUN_FOLDER")
    parser.add_argument("--root", default="datasets", help="folder of the datasets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for each in options.networks:
        name, _, run = each.partition("=")
        write(name, Path(run), options.root)


if __name__ == "__main__":
    main()
