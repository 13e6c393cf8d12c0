"""Gradients in one call against autograd's."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast, get_args

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lenet_lightning.data.datasets import Digits
from lenet_lightning.networks import fused
from lenet_lightning.networks.build import with_scaling
from lenet_lightning.networks.lenet5 import Activation, Invariance, LeNet5
from lenet_lightning.training import gradient_step
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.gradient_step import DirectLoss
from lenet_lightning.training.losses import Objective, Penalty, class_loss, kernels
from tests.networks.compiler import needs_kernel

pytestmark = needs_kernel

SCALE = 0.25


def network(seed: int = 0, **options: Any) -> LeNet5:
    torch.manual_seed(seed)
    return LeNet5(**{"in_channels": 3, "initializer": "default", "kernel": "fused"} | options)


def centred(invariance: Invariance, **options: Any) -> LeNet5:
    made = network(invariance=invariance, **options)
    return cast(LeNet5, with_scaling(made, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)))


def batch(size: int, soft: bool = False) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(size)
    images = torch.rand(size, 3, 32, 32, generator=draws)
    if soft:
        return images, torch.rand(size, 10, generator=draws).softmax(-1)
    return images, torch.randint(10, (size,), generator=draws)


def by_autograd(
    module: nn.Module,
    images: Tensor,
    target: Tensor,
    *options: float,
    penalty: Penalty = Penalty(0, 0),  # noqa: B008
) -> list[Tensor]:
    """Return loss, logits and gradients."""
    logits = module(images)
    loss = class_loss(logits, target, "cross_entropy", *options)
    module.zero_grad()
    (SCALE * loss).backward()
    penalty.add_gradients(kernels(module))
    loss = loss.detach() + len(images) * penalty.value(kernels(module))
    return [loss, logits.detach(), *(p.grad.clone() for p in module.parameters())]


def directly(
    module: LeNet5,
    images: Tensor,
    target: Tensor,
    *options: float,
    penalty: Penalty = Penalty(0, 0),  # noqa: B008
) -> list[Tensor]:
    """Likewise."""
    objective = Objective("cross_entropy", *options[:1], penalty=penalty)
    objective = replace(objective, temperature=options[1] if options[1:] else 1.0)
    done = DirectLoss(module, objective)(images, target, SCALE)
    assert done is not None
    loss, logits = done
    assert not loss.requires_grad and not logits.requires_grad
    return [loss, logits, *(p.grad.clone() for p in module.parameters() if p.grad is not None)]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= 2e-6 * other.norm()


@pytest.mark.parametrize("polarity", get_args(Invariance))
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 16, 64, 101])
def test_any_batch_gives_what_autograd_gives(size, polarity):
    module = centred(polarity)
    assert_close(directly(module, *batch(size)), by_autograd(module, *batch(size)))


@pytest.mark.parametrize("polarity", get_args(Invariance))
@pytest.mark.parametrize("conv_activation", [None, "relu", "silu", "absolute"])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_any_activations(activation, conv_activation, polarity):
    options = {"activation": activation, "conv_activation": conv_activation}
    module = centred(polarity, **options)
    with torch.no_grad():
        for layer in (module.conv1, module.conv2, module.dense1, module.dense2):
            layer.weight *= 3  # so that activations are used to their ends
    assert_close(directly(module, *batch(21)), by_autograd(module, *batch(21)))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("classes", [1, 2, 10, 47, 200])
def test_any_number_of_channels_and_classes(classes, channels):
    module = network(in_channels=channels, num_classes=classes)
    images, labels = batch(13)
    images, labels = images[:, :channels], labels % classes
    assert_close(directly(module, images, labels), by_autograd(module, images, labels))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_kernel_standardizes_as_torch_does_to_the_bit(channels):
    mean, std = (0.1307, 0.4, 0.21)[:channels], (0.3081, 0.2, 0.7)[:channels]
    module = with_scaling(network(in_channels=channels), mean, std)
    plain = network(in_channels=channels)
    images, labels = batch(9)
    images = images.transpose(2, 3)[:, :channels]  # of any layout
    with torch.no_grad():
        standardized = module.standardize(images)
    for one, other in zip(
        directly(module, images, labels), directly(plain, standardized, labels), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("smoothing", "temperature"), [(0.0, 1.0), (0.1, 1.0), (0.2, 3.0)])
def test_targets(smoothing, temperature, soft):
    module, given = network(), (*batch(19, soft=soft), smoothing, temperature)
    assert_close(directly(module, *given), by_autograd(module, *given))


def test_a_target_that_does_not_sum_to_one():
    module, (images, target) = network(), batch(5, soft=True)
    target *= torch.tensor([0, 0.5, 1, 1.5, 3]).unsqueeze(1)
    assert_close(directly(module, images, target), by_autograd(module, images, target))


@pytest.mark.parametrize(("l1", "l2"), [(0, 0.01), (0.002, 0), (0.001, 0.02)])
def test_penalties(l1, l2):
    penalty = Penalty(l1, l2)
    module = network()
    with torch.no_grad():
        for layer in (module.conv1, module.conv2, module.output):  # of neither sign
            layer.weight[-1] = 0.0
    expected = by_autograd(module, *batch(9), penalty=penalty)
    assert_close(directly(module, *batch(9), penalty=penalty), expected)


def test_against_float64():
    module, given = network(), batch(50)
    double = network(kernel="torch").double()
    double.load_state_dict(module.state_dict())
    expected = by_autograd(double, given[0].double(), given[1])
    for one, other in zip(directly(module, *given), expected, strict=True):
        assert (one - other).norm() <= 1e-6 * other.norm()


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_any_number_of_threads_gives_the_same_bits(activation):
    module, before, results = network(activation=activation), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(directly(module, *batch(41)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_earlier_gradients_are_replaced():
    module = network()
    first = directly(module, *batch(8))
    directly(module, *batch(9))
    assert all(map(torch.equal, directly(module, *batch(8)), first))


def test_an_empty_batch_has_no_loss():
    loss, logits, *gradients = directly(network(), *batch(0))
    assert loss == 0 and logits.shape == (0, 10)
    assert not any(gradient.any() for gradient in gradients)


def test_any_memory_layout():
    module, (images, target) = network(), batch(6, soft=True)
    expected = directly(module, images, target)
    layouts = images.to(memory_format=torch.channels_last), images.mT.contiguous().mT
    for layout in layouts:
        found = directly(module, layout, target.T.contiguous().T)
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "silu"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(bad, activation):
    module, (images, labels) = network(activation=activation), batch(3)
    images[1, 2, 7, 9] = bad
    loss, logits, *gradients = directly(module, images, labels)
    assert not loss.isfinite() and not logits[1].isfinite().all()
    assert logits[[0, 2]].isfinite().all()
    assert not any(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_each_value_and_slope_of_an_activation(activation):
    """At zero, near it, and far beyond where its exponential ends."""
    module, given = network(activation=activation), batch(2)
    ends = torch.tensor(
        [0.0, 1e-6, 1e-3, 0.1, 1, 9, 15, 30, 86, 87, 88, 89, 90, 100, 127, 130, 200]
    )
    with torch.no_grad():
        module.dense1.weight.zero_()  # so that the biases are what is activated
        module.dense1.bias.copy_(torch.cat([ends, -ends, torch.linspace(-8, 8, 86)]))
        module.dense2.bias[:9] = 0.0
        module.dense2.weight[:9] = 0.0
    found, expected = directly(module, *given), by_autograd(module, *given)
    assert_close(found, expected)
    names = [name for name, _ in module.named_parameters()]
    for name in ("dense1.bias", "dense2.bias", "dense2.weight"):
        one, other = (each[2 + names.index(name)] for each in (found, expected))
        torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-6 * float(other.abs().max()))


@pytest.mark.parametrize("conv_activation", [None, "relu"])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_a_loss_that_is_not_finite_spoils_what_it_spoils_by_autograd(activation, conv_activation):
    """As a teacher's answer that is NaN: no more than torch does, and no less."""
    module = network(activation=activation, conv_activation=conv_activation)
    with torch.no_grad():
        for layer in (module.conv2, module.dense1, module.dense2):
            layer.weight *= 40  # to where slopes are zero
    images, target = batch(3, soft=True)
    target[1] = float("nan")
    found, expected = (way(module, images, target) for way in (directly, by_autograd))
    assert found[0].isnan() and found[1].isfinite().all()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.isnan(), other.isnan())


def test_images_of_another_size_are_refused():
    images, labels = batch(2)
    with pytest.raises(ValueError, match="takes 400 numbers, but there are 144"):
        directly(network(), images[..., :24, :24], labels)


def test_targets_of_another_shape_are_refused():
    images, labels = batch(8)
    for target in (labels[:2], labels.unsqueeze(1), torch.rand(8, 9)):
        with pytest.raises(ValueError, match=r"the target's shape is .*: expected \(8,"):
            directly(network(), images, target)


def test_targets_of_another_type_are_converted():
    module, (images, labels), (_, soft) = network(), batch(8), batch(8, soft=True)
    for target, other in ((labels, labels.int()), (soft, soft.double())):
        expected = directly(module, images, target)
        assert all(map(torch.equal, directly(module, images, other), expected))


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class_is_not_hidden(label):
    images, labels = batch(4)
    labels[2] = label
    assert directly(network(), images, labels)[0].isnan()


class TestLeavesToAutograd:
    def check(self, module: LeNet5, images: Tensor, labels: Tensor) -> None:
        assert DirectLoss(module, Objective())(images, labels, SCALE) is None
        assert all(p.grad is None for p in module.parameters())

    def test_large_batches(self, monkeypatch):
        monkeypatch.setattr(gradient_step, "MOST_IMAGES", 8)
        self.check(network(), *batch(9))
        self.check(network(invariance="averaged"), *batch(5))

    def test_frozen_parameters(self):
        module = network()
        module.conv1.requires_grad_(False)
        self.check(module, *batch(2))

    def test_other_images(self):
        images, labels = batch(2)
        self.check(network(), images.double(), labels)

    def test_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            self.check(network(), *batch(2))

    def test_anomaly_detection(self):
        with torch.autograd.set_detect_anomaly(True):
            self.check(network(), *batch(2))


def test_without_memory_nothing_is_trained(monkeypatch):
    class Full:
        @staticmethod
        def lenet5_gradients(*_: Any) -> int:
            return 1

    monkeypatch.setattr(fused, "_library", Full)
    with pytest.raises(MemoryError):
        directly(network(kernel="torch"), *batch(2))


class TestTakes:
    @pytest.mark.parametrize("polarity", get_args(Invariance))
    def test_what_the_kernel_knows(self, polarity):
        known = centred(polarity)
        assert gradient_step.takes(known, "cross_entropy")

    @pytest.mark.parametrize("options", [{"dropout": 0.1}, {"kernel": "torch"}])
    def test_and_nothing_else(self, options):
        assert not gradient_step.takes(network(**options), "cross_entropy")

    def test_no_other_type_or_layout(self):
        assert not gradient_step.takes(network().half(), "cross_entropy")
        layout = network().to(memory_format=torch.channels_last)
        assert not gradient_step.takes(layout, "cross_entropy")

    def test_no_other_loss_or_network(self):
        assert not gradient_step.takes(network(), "mse")
        assert not gradient_step.takes(nn.Linear(2, 2), "cross_entropy")


def plain_trainer(
    steps: int, precision: Literal["32-true", "64-true"] = "32-true", **options: Any
) -> Trainer:
    return Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        precision=precision, **options,
    )  # fmt: skip


def train(
    steps: int = 10, precision: Literal["32-true", "64-true"] = "32-true", **options: Any
) -> Classifier:
    """Take some steps, in batches of which every ninth is smaller."""
    optimizer = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.01)
    classifier = Classifier(optimizer=optimizer, **options)
    trainer = plain_trainer(steps, precision)
    with warnings.catch_warnings():
        # Lightning's advice on worker processes; there are none.
        warnings.simplefilter("ignore")
        trainer.fit(classifier, Digits(batch_size=32, subset=266, val_size=150))
    assert classifier.trainer.global_step == steps
    return classifier


def assert_same_weights(one: Classifier, other: Classifier) -> None:
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


class TestInTraining:
    def test_weights_are_those_of_autograd(self, monkeypatch):
        options = {"l2": 0.001, "label_smoothing": 0.1}
        found = train(**options)
        assert found.gradient_step is not None and found.gradient_step.direct is not None
        monkeypatch.setattr(gradient_step, "takes", lambda *_: False)
        expected = train(**options)
        assert expected.gradient_step is not None and expected.gradient_step.direct is None
        assert_same_weights(found, expected)

    def test_what_is_left_to_autograd_is_trained_by_it(self, monkeypatch):
        monkeypatch.setattr(gradient_step, "MOST_IMAGES", 31)  # of 32, but for every ninth batch
        found = train()
        monkeypatch.setattr(gradient_step, "takes", lambda *_: False)
        expected = train()
        assert_same_weights(found, expected)

    def test_not_in_double_precision(self):
        found = train(steps=1, precision="64-true").gradient_step
        assert found is not None and found.direct is None


@pytest.mark.parametrize(("algorithm", "largest"), [(None, 0.5), ("norm", 0.5), ("value", 0.01)])
@pytest.mark.filterwarnings("ignore")  # Lightning's advice on worker processes; there are none
def test_gradients_are_clipped(algorithm: Any, largest: float) -> None:
    """Plain SGD with learning rate 1 moves the weights by the clipped gradient."""
    options = {"gradient_clip_val": largest, "gradient_clip_algorithm": algorithm}
    before = [p.clone() for p in Classifier().network.parameters()]
    moved = Classifier(optimizer=partial(torch.optim.SGD, lr=1.0))
    plain_trainer(1, **options).fit(moved, Digits(batch_size=32, subset=266, val_size=150))
    steps = [
        (p.detach() - q.detach()).flatten()
        for p, q in zip(moved.network.parameters(), before, strict=True)
    ]
    step = torch.cat(steps)
    size = step.abs().max() if algorithm == "value" else step.norm()
    assert float(size) == pytest.approx(largest, rel=1e-4)
