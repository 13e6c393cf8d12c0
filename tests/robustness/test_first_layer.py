"""``first_layer`` draws the maps of two networks and measures how far polarities differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lenet_lightning.data import fetch
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.networks.build import with_scaling
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.robustness import first_layer
from lenet_lightning.store import checkpoints
from lenet_lightning.training import pretrained
from tests.conftest import Run

BEST = "lightning_logs/trained/version_0/checkpoints/best.ckpt"


def save_blind(path: str) -> None:
    """The trained network with a first layer that answers 0.5 to everything."""
    checkpoint = checkpoints.load(BEST)
    checkpoint["state_dict"]["network.conv1.weight"].zero_()
    checkpoint["state_dict"]["network.conv1.bias"].fill_(0.5)
    torch.save(checkpoint, path)


def test_maps_are_those_of_the_network(trained: Path) -> None:
    save_blind("blind.ckpt")
    plain, blind = first_layer.look([Path(BEST), Path("blind.ckpt")], None, 7)
    pixels = to_input_size(fetch.load("Digits", "datasets").test.images[7:8])
    image = torch.from_numpy(pixels).float() / 255
    assert torch.equal(plain.images, torch.cat([image, 1 - image]))
    network = pretrained.load(BEST).network
    with torch.inference_mode():
        expected = [
            torch.relu(torch.max_pool2d(network.conv1(x), 2))[0] for x in (image, 1 - image)
        ]
    assert plain.maps.shape == (2, 6, 14, 14)
    assert torch.allclose(plain.maps, torch.stack(expected), atol=1e-6)
    assert plain.difference == pytest.approx(float((expected[1] - expected[0]).abs().max()))
    assert plain.difference > 0.1 and blind.difference == 0
    assert plain.title == "trained"


def test_scaling_comes_first() -> None:
    network = with_scaling(LeNet5(3, 10), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scaled = (images - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
            [0.1, 0.2, 0.3]
        ).view(3, 1, 1)
        expected = torch.relu(torch.max_pool2d(network.conv1(scaled), 2))
    assert torch.allclose(first_layer.first_stage(network, images), expected, atol=1e-5)


def test_picture_is_written_and_nothing_replaced(run: Run, trained: Path) -> None:
    save_blind("blind.ckpt")
    command = f"first_layer --ckpt_path {BEST} blind.ckpt --image 3"
    for name in ("first_layer.png", "first_layer_2.png"):
        done = run(command)
        assert (done.code, done.out) == (0, f"{name}\n"), done.err
        assert Path(name).read_bytes().startswith(b"\x89PNG")
    refused = run(command, "--output first_layer.png")
    assert refused.code == 2 and "first_layer.png exists already" in refused.err
    assert run(command, "--output other.png").out == "other.png\n"


def test_colour(trained: Path) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = first_layer.first_stage(LeNet5(3), images)
    assert first_layer.figure([first_layer.Panels("colour", images, maps)])


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("", "first_layer: the following arguments are required: --ckpt_path"),
        (f"--ckpt_path {BEST}", "--ckpt_path"),
        (f"--ckpt_path {BEST} nothing.ckpt", "nothing.ckpt cannot be read"),
        (f"--ckpt_path {BEST} {BEST} --image 360", "--image is 360, but Digits has 360 test"),
        (f"--ckpt_path {BEST} {BEST} --image -1", "--image"),
        (f"--ckpt_path {BEST} {BEST} --output no/such/x.png", "no/such/x.png cannot be written"),
    ],
)
def test_bad_arguments(run: Run, trained: Path, options: str, part: str) -> None:
    refused = run(f"first_layer {options} ")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert part in refused.err


def test_checkpoints_of_two_datasets(run: Run, trained: Path) -> None:
    checkpoint = checkpoints.load(BEST)
    checkpoint["lenet_lightning_input"]["name"] = "MNIST"
    torch.save(checkpoint, "other.ckpt")
    refused = run(f"first_layer --ckpt_path {BEST} other.ckpt")
    assert refused.code == 2 and "other.ckpt was trained on MNIST" in refused.err
