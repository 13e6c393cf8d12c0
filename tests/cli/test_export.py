"""Exported files agree with the network, say everything of themselves, and replace nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import lenet_lightning
from lenet_lightning.cli import export
from lenet_lightning.data import fetch
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.store.manifest import Data, Manifest
from tests.conftest import Run
from tests.study.fakes import write_run

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
# onnx and its exporter use what other packages deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BEST = "lightning_logs/trained/version_0/checkpoints/best.ckpt"


def digits() -> torch.Tensor:
    pixels = fetch.load("Digits", "datasets").test.images
    return torch.from_numpy(to_input_size(pixels)).float() / 255


def onnx_metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def safetensors_metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata()


READ = {"onnx": onnx_metadata, "safetensors": safetensors_metadata}


@pytest.fixture(scope="module")
def exported(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both formats of one finished run's best checkpoint."""
    folder = tmp_path_factory.mktemp("exported") / "version_0"
    shutil.copytree(digits_run, folder)
    best = folder / "checkpoints/best.ckpt"
    for kind in READ:
        assert export.main(["--ckpt_path", str(best), "--format", kind]) == 0
    return {kind: best.with_suffix(f".{kind}") for kind in READ}


def test_onnx_is_the_network_at_any_batch_size(exported: dict[str, Path], digits_run: Path) -> None:
    session = onnxruntime.InferenceSession(exported["onnx"])
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("images", "tensor(float)")
    assert given.shape[1:] == [1, 32, 32] and isinstance(given.shape[0], str)
    assert [output.name for output in session.get_outputs()] == ["logits", "probabilities"]
    images = digits()
    with np.load(digits_run / "test_predictions.npz") as predictions:
        expected = predictions["original"], predictions["negative"]
    for polarity, classes in zip((images, 1 - images), expected, strict=True):
        for size in (1, 7, len(images)):
            logits, probabilities = session.run(None, {"images": polarity[:size].numpy()})
            assert np.array_equal(logits.argmax(1), classes[:size])
            assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
            assert np.allclose(torch.tensor(logits).softmax(1), probabilities, atol=1e-5)


def test_safetensors_fills_the_plain_network(exported: dict[str, Path], digits_run: Path) -> None:
    from safetensors.torch import load_file

    network = LeNet5(kernel="torch").eval()
    network.load_state_dict(load_file(exported["safetensors"]))
    with torch.inference_mode():
        classes = network(digits()).argmax(1)
    with np.load(digits_run / "test_predictions.npz") as predictions:
        assert np.array_equal(classes, predictions["original"])


INPUT = {  # of every network
    "name": "images",
    "dtype": "float32",
    "range": [0, 1],
    "divide_pixels_by": 255,
    "padding_value": 0,
}


@pytest.mark.parametrize("kind", [*READ])
def test_metadata(exported: dict[str, Path], digits_run: Path, kind: str) -> None:
    facts = READ[kind](exported[kind])
    assert json.loads(facts["classes"]) == [str(i) for i in range(10)]
    assert json.loads(facts["input"]) == INPUT | {
        "shape": ["batch", 1, 32, 32],
        "size_before_padding": 8,
        "repeat_pixels": 4,
        "padding": 0,
        "scaling_inside_the_network": {"kind": "unit", "mean": [0.0], "std": [1.0]},
    }
    assert "grey picture of 8x8 pixels" in facts["preprocessing"]
    assert "divide by 255" in facts["preprocessing"]
    assert "the negative of x is 1 - x" in facts["polarity"]
    assert facts["polarity"].endswith("The network tells the two apart.")
    manifest = run_folder.read(digits_run).manifest
    figures = json.loads(facts["figures"])
    assert figures == {"protocol": "holdout", **manifest.test}
    provenance = json.loads(facts["provenance"])
    assert provenance["digests"] == manifest.data.digests
    assert provenance["versions"] == manifest.versions
    assert provenance["model"]["network"]["init_args"]["activation"] == "relu"
    assert str(digits_run.parent) not in json.dumps(facts), "no path of this machine"


def test_figures_are_those_of_its_own_dataset() -> None:
    tests: list[dict[str, str | float]] = [
        {"checkpoint": "last.ckpt", "stage": "test", "data": name, "acc": acc}
        for name, acc in (("FashionMNIST", 0.1), ("MNIST", 0.9))
    ]
    manifest = Manifest(protocol="holdout", data=Data("MNIST"), evaluations=tests)
    found = export.figures(Path("last.ckpt"), manifest)
    assert found == {"protocol": "holdout", "data": "MNIST", "acc": 0.9}


def test_preprocessing_of_every_dataset() -> None:
    def said(name: str, channels: int, size: int) -> str:
        return export.preprocessing(export.InputSpec(name, channels, size, ("a",), (0.1,), (0.3,)))

    assert "grey picture of 28x28 pixels, 0..255; pad with 2 pixels" in said("MNIST", 1, 28)
    assert "RGB picture of 32x32 pixels, 0..255; divide by 255" in said("CIFAR10", 3, 32)


@pytest.mark.parametrize(
    ("name", "channels", "size", "padding"), [("MNIST", 1, 28, 2), ("CIFAR10", 3, 32, 0)]
)
@pytest.mark.parametrize("scaling", ["unit", "centered", "standardized"])
def test_metadata_give_the_input_of_every_dataset(
    run: Run, trained: Path, name: str, channels: int, size: int, padding: int, scaling: str
) -> None:
    checkpoint = checkpoints.load(BEST)
    mean, std = (0.1, 0.2, 0.3)[:channels], (0.4, 0.5, 0.6)[:channels]
    checkpoint["lenet_lightning_input"] |= {
        "name": name,
        "channels": channels,
        "size": size,
        "mean": list(mean),
        "std": list(std),
    }
    config = {
        "seed_everything": 0,
        "model": {"scaling": scaling},
        "data": {"init_args": {}},
    }
    given = json.loads(export.metadata(BEST, checkpoint, config)["input"])
    assert given["shape"] == ["batch", channels, 32, 32]
    assert (given["repeat_pixels"], given["padding"], given["padding_value"]) == (1, padding, 0)
    assert (
        given["scaling_inside_the_network"]
        == {
            "unit": {"kind": "unit", "mean": [0.0], "std": [1.0]},
            "centered": {"kind": "centered", "mean": [0.5], "std": [1.0]},
            "standardized": {"kind": "standardized", "mean": list(mean), "std": list(std)},
        }[scaling]
    )


MNIST = InputSpec("MNIST", 3, 28, ("zero", "one"), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
ARGUMENTS = {"activation": "elu", "invariance": "averaged"}
CONFIG: dict[str, Any] = {
    "seed_everything": 7,
    "model": {
        "scaling": "standardized",
        "network": {"class_path": "my_package.Net", "init_args": ARGUMENTS},
    },
    "data": {
        "class_path": "lenet_lightning.MNIST",
        "init_args": {
            "root": "/here",
            "download": True,
            "batch_size": 64,
            "negate_border": False,
            "train_polarity": "half",
        },
    },
}
STEPS = (
    "take a RGB picture of 28x28 pixels, 0..255; pad with 2 pixels of 0 on each side; divide by "
    "255: float32 [batch, 3, 32, 32] in [0, 1]. Any further scaling is part of the network."
)
POLARITY = (
    "0 is black and 1 is white, in the dataset's own polarity; the negative of x is 1 - x, padding "
    "left as it is. Training images: half. The network is the mean of the logits that its layers "
    "give for x and for 1 - x."
)


def test_all_that_a_file_says_of_itself() -> None:
    Path("lone.ckpt").write_bytes(b"content")
    checkpoint = {"epoch": 4, "global_step": 99, checkpoints.SPEC_KEY: MNIST.to_dict()}
    facts = export.metadata("lone.ckpt", checkpoint, CONFIG)
    provenance = {
        "dataset": "MNIST",
        "digests": None,
        "epoch": 4,
        "step": 99,
        "seed": 7,
        "model": CONFIG["model"],
        "data": {"batch_size": 64, "negate_border": False, "train_polarity": "half"},
        "code": None,
        "git": None,
        "versions": {"lenet_lightning": lenet_lightning.__version__},
        "checkpoint_sha256": hashlib.sha256(b"content").hexdigest(),
    }
    assert json.loads(facts.pop("provenance")) == provenance
    assert json.loads(facts.pop("input")) == INPUT | {
        "shape": ["batch", 3, 32, 32],
        "size_before_padding": 28,
        "repeat_pixels": 1,
        "padding": 2,
        "scaling_inside_the_network": {
            "kind": "standardized",
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
        },
    }
    assert json.loads(facts.pop("classes")) == ["zero", "one"]
    assert json.loads(facts.pop("figures")) is None
    title = "Net trained on MNIST"
    assert facts == {"title": title, "preprocessing": STEPS, "polarity": POLARITY}


def test_what_a_file_says_of_its_run() -> None:
    folder = write_run(Path("run"))
    (folder / "checkpoints").mkdir()
    best = folder / "checkpoints" / "best.ckpt"
    best.write_bytes(b"content")
    checkpoint = {"epoch": 4, "global_step": 99, checkpoints.SPEC_KEY: MNIST.to_dict()}
    facts = export.metadata(best, checkpoint, CONFIG | {"model": {"scaling": "unit"}})
    assert facts["title"] == "LeNet-5 trained on MNIST"
    manifest = run_folder.read(folder).manifest
    said = json.loads(facts["provenance"])
    assert (said["digests"], said["code"]) == (manifest.data.digests, manifest.code)
    assert (said["versions"], said["git"]) == (manifest.versions, asdict(manifest.git))
    assert json.loads(facts["figures"]) == {"protocol": "watch"} | manifest.test


@pytest.mark.parametrize(
    ("network", "data", "parts"),
    [
        ({}, {}, ["1 - x, padding included.", " images: original. The network tells the two"]),
        ({"invariance": "absolute"}, {"negate_border": True}, ["padding included", "The absolute"]),
        ({"invariance": "none"}, {"train_polarity": "negative"}, ["images: negative. The network"]),
    ],
)
def test_polarity_in_words(network: dict, data: dict, parts: list[str]) -> None:
    spec = {"class_path": "lenet_lightning.LeNet5", "init_args": network}
    said = export.polarity({"model": {"network": spec}, "data": {"init_args": data}})
    assert all(part in said for part in parts)


@pytest.mark.parametrize(
    ("kind", "mean", "std"),
    [
        ("unit", [0.0], [1.0]),
        ("centered", [0.5], [1.0]),
        ("standardized", [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
    ],
)
def test_scaling_in_numbers(kind: str, mean: list[float], std: list[float]) -> None:
    found = export.scaling_inside({"model": {"scaling": kind}}, MNIST)
    assert found == {"kind": kind, "mean": mean, "std": std}


def test_preprocessing_in_words() -> None:
    digits = InputSpec("Digits", 1, 8, ("a",), (0.1,), (0.3,))
    assert export.preprocessing(digits) == (
        "take a grey picture of 8x8 pixels, 0..255; repeat each pixel 4 times along both axes; "
        "divide by 255: float32 [batch, 1, 32, 32] in [0, 1]. Any further scaling is part of the "
        "network."
    )


def test_figures_of_this_very_checkpoint() -> None:
    entry = {"checkpoint": "last.ckpt", "stage": "test", "data": "MNIST"}
    others = [
        entry | {"checkpoint": "other.ckpt", "acc": 0.1},
        entry | {"stage": "validate", "acc": 0.2},
        entry | {"acc": 0.3, "loss": 1.0},
        entry | {"acc": 0.4},
    ]
    manifest = Manifest(protocol="watch", data=Data("MNIST"), evaluations=others, test={"acc": 0.5})
    found = export.figures(Path("a/last.ckpt"), manifest)
    assert found == {"protocol": "watch", "data": "MNIST", "acc": 0.3, "loss": 1.0}
    assert export.figures(Path("best.ckpt"), manifest) == {"protocol": "watch", "acc": 0.5}
    assert export.figures(Path("epoch.ckpt"), manifest) is None
    assert export.figures(Path("best.ckpt"), Manifest(protocol="watch")) is None


def test_images_of_the_comparison() -> None:
    data = {"class_path": "lenet_lightning.Digits", "init_args": {}}
    spec = InputSpec("Digits", 1, 8, tuple("0123456789"), (0.3,), (0.4,))
    test = export.test_set(spec, {"data": data}, Path("a.ckpt"), None)
    images, origin = export.sample_images(spec, test)
    assert torch.equal(images, torch.cat([digits()[:128], 1 - digits()[:128]]))
    assert origin == "128 test images and their negatives"
    elsewhere = InputSpec("CIFAR10", 3, 32, ("a",), (0.3,) * 3, (0.4,) * 3)
    assert export.test_set(elsewhere, {"data": data}, Path("a.ckpt"), None) is None
    images, origin = export.sample_images(elsewhere, None)
    assert images.shape == (256, 3, 32, 32) and images.std() > 0.2
    assert torch.equal(images, export.sample_images(elsewhere, None)[0])
    assert origin == "256 images of noise (CIFAR10 is not on this disk)"


def test_the_comparison_is_with_the_file_and_not_the_network() -> None:
    torch.manual_seed(0)
    network, images = LeNet5(kernel="torch"), torch.rand(5, 1, 32, 32)
    content, exported = export.to_safetensors(network, {"title": "a"}, 1)
    expected = network(images).detach()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(exported(images).detach(), expected)
    stored = safetensors.torch.load(content)
    assert stored.keys() == network.state_dict().keys()
    Path("a.safetensors").write_bytes(content)
    assert safetensors_metadata(Path("a.safetensors")) == {"format": "pt", "title": "a"}


def test_the_largest_difference_of_a_probability() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    near, far = logits + torch.tensor([[0.9e-4, 0.0], [0.0, 0.0]]), logits.clone()
    far[1, 1] = 1.2e-4
    difference = export.compare(lambda _: logits, lambda _: near, torch.zeros(2), "onnx")
    assert difference == pytest.approx(0.9e-4 / 4, rel=0.01)
    with pytest.raises(UserError, match=r"^The onnx file does not agree .* up to 0.00012; nothing"):
        export.compare(lambda _: logits, lambda _: far, torch.zeros(2), "onnx")


def test_nothing_is_replaced(run: Run, trained: Path) -> None:
    command = f"export --ckpt_path {BEST} --format safetensors"
    for name in ("best.safetensors", "best_2.safetensors", "best_3.safetensors"):
        assert run(command).code == 0
        assert (trained / "checkpoints" / name).exists()
    Path("mine.safetensors").write_text("mine")
    refused = run(command, "--output mine.safetensors")
    assert refused.code == 2 and "mine.safetensors exists already" in refused.err
    assert Path("mine.safetensors").read_text() == "mine"
    assert run(command, "--output other.safetensors").code == 0


def test_scaling_is_in_the_file(run: Run) -> None:
    fit = "fit --data Digits --trainer.accelerator cpu --trainer.max_epochs 1 --name trained"
    activations = "--model.network.activation silu --model.network.conv_activation absolute"
    assert run(fit, f"--model.scaling standardized {activations}").code == 0
    done = run(f"export --ckpt_path {BEST} --format onnx")
    assert done.code == 0, done.err
    assert "Agrees with the network on 128 test images and their negatives" in done.out
    inside = json.loads(onnx_metadata(Path(BEST).with_suffix(".onnx"))["input"])
    scaling = inside["scaling_inside_the_network"]
    assert scaling["kind"] == "standardized" and 0.2 < scaling["mean"][0] < 0.4


def test_lone_checkpoint_of_a_dataset_that_is_not_here(run: Run, trained: Path) -> None:
    checkpoint = checkpoints.load(BEST)
    checkpoint["lenet_lightning_input"]["name"] = "MNIST"
    torch.save(checkpoint, "lone.ckpt")
    done = run("export --ckpt_path lone.ckpt --format safetensors")
    assert done.code == 0
    assert "256 images of noise (MNIST is not on this disk)" in done.out
    assert json.loads(safetensors_metadata(Path("lone.safetensors"))["figures"]) is None


def test_disagreement_is_refused(run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = export.to_safetensors

    def wrong(network: LeNet5, facts: dict[str, str], channels: int) -> tuple[bytes, Any]:
        content, _ = write(network, facts, channels)
        return content, lambda images: network(images) + 0.01

    monkeypatch.setattr(export, "to_safetensors", wrong)
    refused = run(f"export --ckpt_path {BEST} --format safetensors")
    assert refused.code == 2 and "does not agree with the network" in refused.err
    assert not list(trained.rglob("*.safetensors*"))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("", "required: --format"),
        ("--format onnx", "either --ckpt_path"),
        (f"--ckpt_path {BEST} --format pickle", "invalid choice: 'pickle'"),
        ("--ckpt_path nothing.ckpt --format onnx", "nothing.ckpt cannot be read"),
        (
            f"--ckpt_path {BEST} --format safetensors --output no/such/folder.st",
            "cannot be written",
        ),
        (f"--ckpt_path {BEST} --fromat onnx", "--format"),
    ],
)
def test_bad_arguments(run: Run, trained: Path, options: str, part: str) -> None:
    refused = run(f"export {options} ")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert part in refused.err


def test_weights_that_do_not_fit(run: Run, trained: Path) -> None:
    checkpoint = checkpoints.load(BEST)
    del checkpoint["state_dict"]["network.conv1.weight"]
    torch.save(checkpoint, "lone.ckpt")
    refused = run("export --ckpt_path lone.ckpt --format safetensors")
    assert refused.code == 2 and "does not fit the network that it describes" in refused.err


def test_missing_package(run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused = run(f"export --ckpt_path {BEST} --format onnx")
    assert refused.code == 2
    assert "needs the package onnxruntime: pip install -e '.[export]'" in refused.err


def test_help_names_it(run: Run) -> None:
    assert (
        "export       write a checkpoint's network as safetensors or ONNX, or a page"
        in run("--help").out
    )
