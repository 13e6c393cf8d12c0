"""Ours and Keras's, on the same weights and the same batches.

Keras runs on its torch backend. Its networks are channels-last, as in the report; `load` carries
our weights over.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from scipy import stats
from torch import Tensor

from lenet_lightning.data.datasets import Digits
from lenet_lightning.networks.initializers import KERNEL_INITIALIZERS
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.losses import Penalty, class_loss, kernels
from lenet_lightning.training.optimizers import KerasAdam
from tests.networks.compiler import needs_kernel

L1, L2 = 0.0003, 0.001
STEPS = 20
KERNELS = [
    "torch",
    pytest.param("fused", marks=needs_kernel),
]


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Keras with its torch backend on the CPU, which writes its settings to a folder of ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_TORCH_DEVICE", "cpu")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras

        assert keras.backend.backend() == "torch"
        yield keras


@pytest.fixture
def double_precision(keras: Any) -> Iterator[None]:
    for precision in ("float64", "float32"):
        keras.config.set_floatx(precision)
        keras.config.set_dtype_policy(precision)
        if precision == "float64":
            yield


def report_network(
    keras: Any, channels: int, activation: Any, l1: float, l2: float, output: str = "softmax"
) -> Any:
    """Build the report's network as a Keras user writes it."""
    layers = keras.layers
    options = {"kernel_regularizer": keras.regularizers.L1L2(l1, l2)} if l1 or l2 else {}
    return keras.Sequential(
        [
            keras.Input((32, 32, channels)),
            layers.Conv2D(6, 5, activation=activation, **options),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation=activation, **options),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation=activation, **options),
            layers.Dense(84, activation=activation, **options),
            layers.Dense(10, activation=output, **options),
        ]
    )


def to_keras(name: str, value: Tensor) -> np.ndarray:
    """Arrange one of our weights, or its gradient, as Keras does."""
    array = value.detach().numpy()
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if name == "dense1.weight":  # the flattened features: ours channels first, Keras's last
        return array.reshape(120, 16, 5, 5).transpose(2, 3, 1, 0).reshape(400, 120)
    return array.T


def weights(network: LeNet5) -> list[np.ndarray]:
    return [to_keras(name, value) for name, value in network.named_parameters()]


def load(model: Any, network: LeNet5) -> None:
    """Give Keras's model our weights."""
    model.set_weights(weights(network))


def values(variables: list[Any]) -> list[np.ndarray]:
    """Copy Keras's variables."""
    return [variable.value.detach().numpy().copy() for variable in variables]


def last_channels(images: Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def one_hot(labels: Tensor) -> np.ndarray:
    return np.eye(10, dtype=np.float32)[labels.numpy()]


def random_batch(channels: int, count: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, channels, 32, 32, generator=generator)
    return images, torch.randint(10, (count,), generator=generator)


def assert_near(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """Compare two tensors in norm, relative to Keras's."""
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("channels", "activation"),
    [(1, "relu"), (3, "relu"), (1, "leaky_relu"), (1, "elu"), (1, "tanh"), (3, "silu")],
)
def test_logits(keras, channels, activation, kernel):
    torch.manual_seed(0)
    network = LeNet5(channels, activation=activation, initializer="default", kernel=kernel)
    # Keras's leaky ReLU has another slope by default.
    same = keras.layers.LeakyReLU(negative_slope=0.01) if activation == "leaky_relu" else activation
    model = report_network(keras, channels, same, 0, 0, output="linear")
    load(model, network)
    assert model.count_params() == sum(p.numel() for p in network.parameters())
    images, _ = random_batch(channels)
    with torch.no_grad():
        ours = network(images).numpy()
        theirs = model(last_channels(images)).numpy()
    assert_near(ours, theirs, 1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "mse", "l1"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_losses_and_their_gradients(keras, loss, label_smoothing):
    function = {
        "cross_entropy": keras.losses.categorical_crossentropy,
        "bce": keras.losses.binary_crossentropy,
        "mse": keras.losses.mean_squared_error,
        "l1": keras.losses.mean_absolute_error,
    }[loss]
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(50, 10, generator=generator)
    labels = torch.randint(10, (50,), generator=generator)
    target = one_hot(labels) * (1 - label_smoothing) + np.float32(label_smoothing / 10)
    ours_input, theirs_input = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours = class_loss(ours_input, labels, loss, label_smoothing)
    theirs = function(target, keras.ops.softmax(theirs_input)).sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    ours.backward()
    theirs.backward()
    assert_near(ours_input.grad.numpy(), theirs_input.grad.numpy(), 1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.0, L2), (L1, 0.0), (L1, L2)])
def test_loss_and_gradients_with_penalties(keras, l1, l2, kernel):
    torch.manual_seed(0)
    network = LeNet5(kernel=kernel)
    model = report_network(keras, 1, "relu", l1, l2)
    load(model, network)
    model.compile(loss="categorical_crossentropy")
    images, labels = random_batch(1)

    ours = class_loss(network(images), labels, "cross_entropy") / len(labels)
    ours.backward()
    penalty = Penalty(l1, l2)
    penalty.add_gradients(kernels(network))
    inputs, target = torch.from_numpy(last_channels(images)), torch.from_numpy(one_hot(labels))
    theirs = model.compute_loss(inputs, target, model(inputs, training=True))
    theirs.backward()

    total = ours.detach() + penalty.value(kernels(network))
    torch.testing.assert_close(total, theirs.detach(), rtol=1e-5, atol=0)
    for (name, parameter), variable in zip(
        network.named_parameters(), model.trainable_variables, strict=True
    ):
        assert_near(to_keras(name, parameter.grad), variable.value.grad.numpy(), 1e-5)


class Watch(Checkpoint):
    """Note what a run starts from and reports: a checkpoint callback sees an epoch's metrics."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.history: list[dict[str, float]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        load(self.model, pl_module.network)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.history.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def run_ours(classifier: Classifier, data: Digits, model: Any, precision: Any) -> list[Any]:
    """Train for `STEPS` steps; `model` receives the weights from which training starts."""
    watch = Watch(model)
    trainer = Trainer(
        max_epochs=STEPS // data.steps_an_epoch,
        callbacks=[watch],
        logger=False,
        accelerator="cpu",
        devices=1,
        precision=precision,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(classifier, datamodule=data)
    assert trainer.global_step == STEPS
    return watch.history


class FewDigits(Digits):
    """5 steps an epoch, the last on 10 images instead of 64."""

    steps_an_epoch = 5

    def __init__(self) -> None:
        super().__init__(batch_size=64, subset=266, val_size=150, steps_per_execution=3)


def run_keras(keras: Any, model: Any, data: Digits) -> dict[str, list[float]]:
    """Train the compiled model on the same batches in the same order; return Keras's history."""

    class Batches(keras.utils.PyDataset):
        def load(self, epoch: int) -> None:
            loader = data.train_dataloader()
            loader.set_epoch(epoch)
            self.batches = [batch for chunk in loader for batch in chunk.batches()]

        def __len__(self) -> int:
            return len(self.batches)

        def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
            images, labels, _ = self.batches[position]
            return last_channels(images), one_hot(labels)

    batches = Batches()
    batches.load(0)
    follow = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: batches.load(epoch))
    (val,) = data.val_dataloader()
    return model.fit(
        batches,
        epochs=STEPS // data.steps_an_epoch,
        validation_data=(last_channels(val.images), one_hot(val.labels)),
        callbacks=[follow],
        shuffle=False,
        verbose=0,
    ).history


FIGURES = {
    "train/loss": "loss",
    "train/acc": "accuracy",
    "val/loss": "val_loss",
    "val/acc": "val_accuracy",
}
OPTIMIZERS = {"Adam": KerasAdam, "SGD": torch.optim.SGD}
# Lightning 2.6 builds a class of torch's that newer torch deprecates.
uses_trainer = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"
)


@uses_trainer
@pytest.mark.parametrize(
    ("name", "lr", "l1", "l2"),
    [
        ("Adam", 0.0005, 0.0, L2),
        ("Adam", 0.001, L1, L2),
        ("SGD", 0.0005, L1, L2),
        ("SGD", 0.01, L1, 0.0),
    ],
)
def test_training_in_double_precision(keras, double_precision, name, lr, l1, l2):
    """Twenty steps of the real training: every weight, and every figure that both report.

    In double precision (which Keras's dense layers lack) no unit comes to lie on the other side of
    0 by rounding, so that what training changed agrees closely in every layer.
    """
    model = report_network(keras, 1, "relu", l1, l2, output="linear")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(getattr(keras.optimizers, name)(lr), loss, metrics=["accuracy"])
    optimizer = OPTIMIZERS[name]
    classifier = Classifier(l1=l1, l2=l2, optimizer=lambda parameters: optimizer(parameters, lr=lr))
    data = FewDigits()
    reported = run_ours(classifier, data, model, "64-true")
    started = values(model.weights)
    history = run_keras(keras, model, data)

    for epoch, row in enumerate(reported):
        for ours, theirs in FIGURES.items():
            assert row[ours] == pytest.approx(float(history[theirs][epoch]), rel=1e-6), ours
    assert len({row["train/acc"] for row in reported}) > 1
    for ours, theirs, before in zip(
        weights(classifier.network), values(model.weights), started, strict=True
    ):
        assert_near(ours, theirs, 1e-4)
        assert_near(ours - before, theirs - before, 1e-4)


@uses_trainer
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_training_as_in_the_report(keras, name, kernel):
    """Twenty steps in single precision, with softmax, L2 and learning rate of the report."""
    model = report_network(keras, 1, "relu", 0, L2)
    optimizer = getattr(keras.optimizers, name)(0.0005)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    ours = OPTIMIZERS[name]
    classifier = Classifier(
        partial(LeNet5, kernel=kernel),
        l2=L2,
        optimizer=lambda parameters: ours(parameters, lr=0.0005),
    )
    data = FewDigits()
    reported = run_ours(classifier, data, model, "32-true")
    history = run_keras(keras, model, data)
    for epoch, row in enumerate(reported):
        for figure, theirs in FIGURES.items():
            # One image may be decided differently.
            tolerance = {"abs": 1 / 150} if figure.endswith("acc") else {"rel": 1e-4}
            assert row[figure] == pytest.approx(float(history[theirs][epoch]), **tolerance), figure
    flat = [np.concatenate([w.ravel() for w in weights(classifier.network)])]
    flat += [np.concatenate([w.ravel() for w in values(model.weights)])]
    assert_near(*flat, 1e-4)


@pytest.mark.parametrize("fused_adam", [True, False])
def test_adam_places_epsilon_as_keras_does(keras, fused_adam):
    """Gradients around epsilon, where its place matters; torch's own Adam fails this."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(200, generator=generator)
    scale = torch.logspace(-9, 1, 200)
    gradients = [torch.randn(200, generator=generator) * scale for _ in range(STEPS)]

    variable = keras.Variable(start.numpy())
    optimizer = keras.optimizers.Adam(0.01)
    for gradient in gradients:
        optimizer.apply([gradient.clone()], [variable])
    theirs = values([variable])[0] - start.numpy()

    def moved(make: Any) -> np.ndarray:
        parameter = torch.nn.Parameter(start.clone())
        optimizer = make([parameter])
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        return (parameter.detach() - start).numpy()

    assert_near(moved(lambda p: KerasAdam(p, lr=0.01, fused=fused_adam)), theirs, 1e-4)
    torch_adam = moved(lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-7))
    assert np.linalg.norm(torch_adam - theirs) > 0.1 * np.linalg.norm(theirs)


def test_adam_has_keras_defaults(keras):
    theirs = keras.optimizers.Adam()
    ours = KerasAdam([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert ours["lr"] == pytest.approx(theirs.learning_rate.value.item())
    assert ours["betas"] == (theirs.beta_1, theirs.beta_2)
    assert ours["epsilon"] == theirs.epsilon


@pytest.mark.parametrize("shape", [(84, 120), (16, 6, 5, 5)])
@pytest.mark.parametrize(
    ("ours", "theirs"), [("he_normal", "HeNormal"), ("glorot_normal", "GlorotNormal")]
)
def test_initializers_have_keras_distribution(keras, ours, theirs, shape):
    torch.manual_seed(0)
    sample = KERNEL_INITIALIZERS[ours](torch.empty(shape)).numpy()
    layout = (*shape[2:], shape[1], shape[0])
    reference = getattr(keras.initializers, theirs)(seed=0)(layout).numpy()
    assert sample.size == reference.size
    assert stats.ks_2samp(sample.ravel(), reference.ravel()).pvalue > 0.001
    assert np.abs(sample).max() == pytest.approx(np.abs(reference).max(), rel=0.01)
    assert sample.std() == pytest.approx(reference.std(), rel=0.05)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("he_normal", "he_normal"), ("glorot_normal", "glorot_normal"), ("ones", "ones")],
)
def test_a_new_network_is_as_keras_makes_it(keras, ours, theirs):
    """Every layer: zero biases, and kernels of Keras's deviation and range."""
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    model = report_network(keras, 3, "relu", 0, 0)
    for layer, array in zip(model.weights, weights(LeNet5(3, initializer=ours)), strict=True):
        if array.ndim == 1:
            assert not array.any() and not values([layer])[0].any()
            continue
        reference = keras.initializers.get(theirs)(layer.shape).numpy()
        assert array.shape == reference.shape
        assert array.std() == pytest.approx(reference.std(), rel=0.15)
        assert np.abs(array).max() == pytest.approx(np.abs(reference).max(), rel=0.15)
