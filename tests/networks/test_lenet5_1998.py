"""LeNet-5 of 1998: the paper's sizes and connections, and the way of every network."""

from pathlib import Path

import pytest
import torch

from lenet_lightning import OriginalLeNet5, load
from lenet_lightning.networks.lenet5_1998 import C3_INPUTS, PartialConv2d, Subsampling, squash
from tests.conftest import PLAIN, Run

LAYERS = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}
"""Trained parameters of the paper's layers (section II.B)."""


@pytest.fixture
def network() -> OriginalLeNet5:
    torch.manual_seed(0)
    return OriginalLeNet5()


def trained(layer: torch.nn.Module) -> int:
    unused = int((layer.connected == 0).sum()) * 25 if isinstance(layer, PartialConv2d) else 0
    return sum(parameter.numel() for parameter in layer.parameters()) - unused


def test_parameters_are_those_of_the_paper(network: OriginalLeNet5) -> None:
    assert {name: trained(getattr(network, name)) for name in LAYERS} == LAYERS
    assert sum(LAYERS.values()) == 60_000


def test_connections_are_those_of_the_paper() -> None:
    # Table I: the maps of C3, counted from 0, that see each map of S2.
    table = [
        {0, 4, 5, 6, 9, 10, 11, 12, 14, 15}, {0, 1, 5, 6, 7, 10, 11, 12, 13, 15},
        {0, 1, 2, 6, 7, 8, 11, 13, 14, 15}, {1, 2, 3, 6, 7, 8, 9, 12, 14, 15},
        {2, 3, 4, 7, 8, 9, 10, 12, 13, 15}, {3, 4, 5, 8, 9, 10, 11, 13, 14, 15},
    ]  # fmt: skip
    assert table == [{n for n, seen in enumerate(C3_INPUTS) if i in seen} for i in range(6)]


def test_a_map_does_not_see_the_others(network: OriginalLeNet5) -> None:
    torch.nn.init.normal_(network.c3.weight)
    images = torch.randn(1, 6, 14, 14, requires_grad=True)
    for number, seen in enumerate(C3_INPUTS):
        (gradient,) = torch.autograd.grad(network.c3(images)[0, number].sum(), images)
        assert {i for i in range(6) if gradient[0, i].any()} == set(seen)


def test_subsampling_is_a_scaled_sum() -> None:
    layer = Subsampling(2)
    with torch.no_grad():
        layer.weight[0], layer.bias[1] = 3.0, 7.0
    images = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 2, 4, 4)
    sums = torch.tensor([[10.0, 18.0], [42.0, 50.0]])
    assert torch.equal(layer(images), torch.stack([3 * sums, sums / 4 + 7])[None])


def test_squash_fixes_one() -> None:
    assert torch.allclose(squash(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([-1.0, 0, 1]), 1e-4)


def test_first_weights_are_within_the_papers_bounds(network: OriginalLeNet5) -> None:
    for layer, fan_in in (("c1", 25), ("c5", 400), ("f6", 120), ("output", 84)):
        largest = float(getattr(network, layer).weight.detach().abs().max())
        assert 0.9 * 2.4 / fan_in < largest <= 2.4 / fan_in
    for number, seen in enumerate(C3_INPUTS):
        largest = float(network.c3.weight[number].detach().abs().max())
        assert 0.8 * 2.4 / (25 * len(seen)) < largest <= 2.4 / (25 * len(seen))


def test_is_trained_resumed_tested_and_exported(run: Run) -> None:
    fit = f"{PLAIN} --model.network OriginalLeNet5"
    done = run(f"{fit} --name part --trainer.max_epochs 1")
    assert done.code == 0, done.err
    folder = Path("lightning_logs/part/version_0/checkpoints")
    resumed = run(f"{fit} --name rest --ckpt_path {folder / 'last.ckpt'}")
    assert resumed.code == 0, resumed.err
    best = folder / "best.ckpt"
    for line in (f"test --ckpt_path {best}", f"export --ckpt_path {best} --format safetensors"):
        assert run(line).code == 0, line
    with torch.inference_mode():
        assert load(best).network(torch.ones(1, 1, 32, 32)).shape == (1, 10)
