"""Networks that cannot tell an image from its negative: f(1 - x) = f(x), border included."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lenet_lightning.errors import UserError
from lenet_lightning.networks.build import with_scaling
from lenet_lightning.networks.lenet5 import ACTIVATIONS, Invariance, LeNet5
from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.training import pretrained
from lenet_lightning.training.classifier import Classifier
from tests.conftest import Run
from tests.data import fakes

EXACT: list[Invariance] = ["absolute", "averaged"]
# Rounding of 1 - x and of the layers behind it, relative to the logits' size.
NEAR = {"rtol": 1e-4, "atol": 1e-5}


def network(invariance: Invariance, channels: int = 1, **options) -> LeNet5:
    torch.manual_seed(0)
    made = LeNet5(channels, initializer="default", invariance=invariance, **options)
    return with_scaling(made, (0.5,) * channels, (1.0,) * channels)


def pictures(channels: int) -> st.SearchStrategy[np.ndarray]:
    values = st.floats(0, 1, width=32)
    return arrays(np.float32, (2, channels, 32, 32), elements=values, fill=values)


@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("polarity", EXACT)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_image_and_its_negative_have_the_same_logits(polarity, channels, kernel, data):
    activations = {
        "activation": data.draw(st.sampled_from(list(ACTIVATIONS))),
        "conv_activation": data.draw(st.sampled_from([None, "absolute", *ACTIVATIONS])),
    }
    net = network(polarity, channels, kernel=kernel, **activations)
    x = torch.from_numpy(data.draw(pictures(channels)))
    torch.testing.assert_close(net(1 - x), net(x), **NEAR)


def test_the_plain_network_sees_the_difference():
    x = torch.rand(4, 1, 32, 32)
    net = network("none")
    assert (net(x) - net(1 - x)).abs().max() > 1e-3


@pytest.mark.parametrize("statistics", [(), ((0.13,), (0.3,))])
def test_averaged_is_exact_for_any_scaling(statistics):
    net = LeNet5(initializer="default", invariance="averaged")
    net = with_scaling(net, *statistics) if statistics else net
    x = torch.rand(4, 1, 32, 32)
    torch.testing.assert_close(net(1 - x), net(x), **NEAR)


def test_averaged_is_the_mean_of_the_plain_network():
    plain, averaged = network("none"), network("averaged")
    x = torch.rand(4, 1, 32, 32)
    torch.testing.assert_close(averaged(x), (plain(x) + plain(1 - x)) / 2)


def test_absolute_by_hand():
    net = network("absolute", 3, kernel="torch")
    x = torch.rand(4, 3, 32, 32)
    maps = torch.nn.functional.conv2d(x - 0.5, net.conv1.weight).abs()
    expected = torch.nn.functional.max_pool2d(maps, 2)
    torch.testing.assert_close(net.first_stage(x), expected)
    torch.testing.assert_close(net.first_stage(1 - x), expected)


@pytest.mark.parametrize(("channels", "expected"), [(1, 61_700), (3, 62_000)])
def test_absolute_has_six_parameters_less(channels, expected):
    net = network("absolute", channels)
    assert net.conv1.bias is None
    assert sum(p.numel() for p in net.parameters()) == expected


def test_the_fused_kernel_gives_the_same_gradients():
    results = []
    for kernel in ("torch", "auto"):
        net = network("absolute", 3, kernel=kernel)
        logits = net(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in net.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaling", ["unit", "standardized"])
def test_absolute_needs_the_middle_of_the_range(scaling):
    absolute = partial(LeNet5, invariance="absolute")
    with pytest.raises(UserError, match=r"invariance is absolute.* use model\.scaling centered"):
        Classifier(absolute, scaling)


def test_absolute_alone_subtracts_the_middle_of_the_range():
    net, x = LeNet5(3, invariance="absolute"), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(net(1 - x), net(x), **NEAR)


def test_absolute_without_centering_is_one_sentence(run: Run):
    refused = run("fit --data Digits --model.network.invariance absolute")
    assert refused.code == 2
    assert refused.err.count("\n") == 1 and "model.scaling" in refused.err
    assert not Path("lightning_logs").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # onnx's exporter
@pytest.mark.parametrize("polarity", EXACT)
@pytest.mark.parametrize("dataset", ["MNIST", "FashionMNIST", "CIFAR10", "Digits"])
def test_after_training_and_after_export(dataset, polarity, run: Run, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    fakes.install_tiny(monkeypatch, Path("datasets"))
    trained = run(
        f"fit --data {dataset} --data.batch_size 20 --trainer.max_epochs 2 --name even "
        "--trainer.accelerator cpu --trainer.logger false --model.scaling centered "
        f"--model.network.invariance {polarity}"
    )
    assert trained.code == 0, trained.err
    folder = Path("lightning_logs/even/version_0")
    test = run_folder.read(folder).manifest.test
    assert test["acc"] == test["acc_negative"]
    with np.load(folder / "test_predictions.npz") as predictions:
        assert np.array_equal(predictions["original"], predictions["negative"])

    best = folder / "checkpoints/best.ckpt"
    checkpoint = checkpoints.load(best)
    net = pretrained.rebuild(checkpoint, checkpoints.config_of(best, checkpoint))
    channels = net.conv1.in_channels
    x = torch.rand(3, channels, 32, 32)
    torch.testing.assert_close(net(1 - x), net(x), **NEAR)
    assert run(f"export --ckpt_path {best} --format onnx").code == 0
    session = onnxruntime.InferenceSession(best.with_suffix(".onnx"))
    logits = [session.run(None, {"images": images.numpy()})[0] for images in (x, 1 - x)]
    np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-5)


def test_another_polarity_than_the_checkpoints_is_refused(run: Run, trained: Path):
    best = trained / "checkpoints/best.ckpt"
    config = f"--config {trained / 'config.yaml'} --model.scaling unit"
    refused = run(f"test --ckpt_path {best} {config} --model.network.invariance averaged")
    assert refused.code == 2 and "model.network.invariance is averaged" in refused.err


def test_a_checkpoint_that_knows_no_polarity_is_plain(run: Run, trained: Path):
    folder = Path("lightning_logs/old/version_0")
    shutil.copytree(trained, folder)
    best = folder / "checkpoints/best.ckpt"
    checkpoint = checkpoints.load(best)
    config = checkpoints.config_of(best, checkpoint)
    del config["model"]["network"]["init_args"]["invariance"]
    assert pretrained.rebuild(checkpoint, config).invariance == "none"
