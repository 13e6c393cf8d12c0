"""The classifier as a Lightning module: constructed, loaded and evaluated."""

import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lenet_lightning.data.batches import EvaluationBatch
from lenet_lightning.data.datasets import Digits
from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.store import checkpoints
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.distillation import Share
from lenet_lightning.training.metrics import Sums


def test_logits_are_averaged_over_test_time_augmentation() -> None:
    """Three shifts along each axis and the mirror image of each: 18 views of equal weight."""
    classifier = Classifier(tta_shift=1, tta_flip=True)
    classifier.sums.update({"test": Sums(2), "tta": Sums(1)})
    classifier.test_logits = torch.zeros(2, 20, 10)
    images, labels = torch.rand(20, 1, 32, 32), torch.arange(20) % 10
    padded = torch.cat([images[..., :1], images, images[..., -1:]], 3)  # mirrored at its edge
    padded = torch.cat([padded[..., :1, :], padded, padded[..., -1:, :]], 2)
    shifts = [padded[..., y : y + 32, x : x + 32] for y in range(3) for x in range(3)]
    seen = torch.stack([*shifts, *(shift.flip(3) for shift in shifts)])
    with torch.no_grad():
        each = classifier.network(seen.flatten(0, 1)).view(18, 20, 10).double()
        classifier.test_step(EvaluationBatch(images, 1 - images, labels, torch.arange(20)), 0)
    measured, mean = classifier.sums["tta"].compute(), each.mean(0)  # type: ignore[operator]
    torch.testing.assert_close(measured["loss"], F.cross_entropy(mean, labels).float())
    assert measured["acc"] == (mean.argmax(1) == labels).float().mean()
    losses = torch.stack([F.cross_entropy(view, labels) for view in each])
    assert ((losses - measured["loss"]).abs() > 1e-4).all(), "no view alone gives the same"


def trainer_of(folder: Path) -> Trainer:
    return Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_advice_on_workers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 7)])
def test_network_exists_once_constructed(channels: int, classes: int) -> None:
    images, state = torch.rand(2, channels, 32, 32), torch.get_rng_state()
    classifier = Classifier(channels=channels, classes=classes, scaling="standardized")
    assert classifier(images).shape == (2, classes)
    assert torch.equal(torch.get_rng_state(), state), "the seed of others is left alone"
    again = Classifier(channels=channels, classes=classes, scaling="standardized").network
    other = Classifier(channels=channels, classes=classes, seed=1).network
    assert torch.equal(classifier.network.conv1.weight, again.conv1.weight)
    assert not torch.equal(classifier.network.conv1.weight, other.conv1.weight)


def test_fit_save_load_and_evaluate(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "scaling": "standardized", "label_smoothing": Share(0.1), "tta_shift": 1,
    }  # fmt: skip
    network = {"activation": "tanh", "dropout": Share(0.1), "kernel": "torch"}
    data, classifier = Digits(subset=128), Classifier(partial(LeNet5, **network), **options)
    trainer = trainer_of(tmp_path)
    trainer.fit(classifier, data)
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (data.spec.mean, data.spec.std))
    standardize = classifier.network.standardize
    assert torch.equal(standardize.scale, 1 / std)  # type: ignore[arg-type]
    assert torch.equal(standardize.shift, -mean * (1 / std))  # type: ignore[arg-type]
    trainer.test(classifier, data, verbose=False)
    expected = trainer.callback_metrics
    path = tmp_path / "x.ckpt"
    trainer.save_checkpoint(path)

    loaded = Classifier.load_from_checkpoint(path)
    assert {name: loaded.hparams[name] for name in options} == options
    assert network.items() <= loaded.network.arguments.items()
    assert loaded.spec == data.spec
    images = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), classifier.eval()(images))
    tester = trainer_of(tmp_path)
    tester.test(loaded, Digits(subset=128), verbose=False)
    names = "test/acc", "test/loss", "test/acc_negative", "test/acc_views"
    assert [tester.callback_metrics[n] for n in names] == [expected[n] for n in names]
    batches = trainer_of(tmp_path).predict(loaded, Digits(subset=128))
    assert batches is not None and batches[0].shape[0] == 2  # type: ignore[union-attr]

    checkpoint = checkpoints.load(path)
    assert "hyper_parameters" not in checkpoint  # LightningCLI would prefer these to options
    del checkpoint[Classifier.CHECKPOINT_HYPER_PARAMS_KEY]
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"pretrained\.load"):
        Classifier.load_from_checkpoint(path)


def test_an_untrained_network_can_be_tested(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.test(Classifier(), Digits(), verbose=False)
    assert trainer.callback_metrics["test/loss"] > 1


def test_data_with_other_channels_are_refused() -> None:
    classifier = Classifier(channels=3)
    data = Digits()
    data.setup()
    classifier.trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"Classifier\(channels=1, classes=10\)"):
        classifier.configure_model()


def test_checkpoints_with_old_arguments_are_loaded(tmp_path: Path) -> None:
    classifier, path = Classifier(partial(LeNet5, activation="elu")), tmp_path / "x.ckpt"
    trainer = trainer_of(tmp_path)
    trainer.fit(classifier, Digits(subset=128))
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[Classifier.CHECKPOINT_HYPER_PARAMS_KEY] = {
        "activation": "elu", "polarity": "plain", "dropout": 0.2, "view_shift": 1, "l2": 0.5,
    }  # fmt: skip
    torch.save(checkpoint, path)
    loaded = Classifier.load_from_checkpoint(path, l2=0.25)
    assert (loaded.tta_shift, loaded.objective.penalty.l2) == (1, 0.25)
    found = loaded.network.arguments
    assert (found["activation"], found["invariance"], found["dropout"]) == ("elu", "none", 0.2)


class Own(nn.Module):
    """One dense layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * 32 * 32, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    classifier, path = Classifier(Own, "centered"), tmp_path / "x.ckpt"
    trainer = trainer_of(tmp_path)
    trainer.fit(classifier, Digits(subset=128))
    trainer.save_checkpoint(path)
    with pytest.raises(UserError, match=r"of the network .*Own: give .*network="):
        Classifier.load_from_checkpoint(path)
    loaded, images = Classifier.load_from_checkpoint(path, network=Own), torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), classifier(images))
        layer = classifier.network.layers.layer  # type: ignore[union-attr]
        torch.testing.assert_close(classifier(images), layer((images - 0.5).flatten(1)))
