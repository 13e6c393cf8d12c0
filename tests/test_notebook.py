"""The classes without the command line, as in a notebook: the same objects, trained again."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from lenet_lightning.data.datasets import Digits
from lenet_lightning.errors import NonFiniteError
from lenet_lightning.process import denormals_are_zero
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.distillation import Distillation


def trainer_of(*callbacks: Callback) -> Trainer:
    return Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip


def fit(classifier: Classifier, *callbacks: Callback, subset: int = 128) -> dict[str, float]:
    """Train one epoch; return its metrics."""
    trainer = trainer_of(*callbacks)
    with warnings.catch_warnings():
        # Lightning's advice on worker processes; there are none.
        warnings.simplefilter("ignore")
        trainer.fit(classifier, Digits(subset=subset))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


class Stop(Callback):
    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("stopped")


class StopValidation(Callback):
    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if not trainer.sanity_checking:
            raise RuntimeError("stopped")


def restart(classifier: Classifier) -> None:
    """Put the weights back to where they began."""
    classifier.load_state_dict(Classifier(seed=classifier.seed).state_dict())


@pytest.mark.parametrize("stop", [Stop(), StopValidation()])
def test_metrics_of_a_training_that_was_stopped_are_forgotten(stop: Callback) -> None:
    expected = fit(Classifier())
    classifier = Classifier()
    with pytest.raises(RuntimeError, match="stopped"):
        fit(classifier, stop, subset=64)
    restart(classifier)
    assert fit(classifier) == expected


def test_a_loss_that_was_not_finite_is_forgotten() -> None:
    classifier = Classifier(optimizer=partial(torch.optim.SGD, lr=1e30))
    with pytest.raises(NonFiniteError):
        fit(classifier)
    classifier.optimizer = partial(torch.optim.SGD, lr=0.01)
    restart(classifier)
    assert fit(classifier)["train/loss"] < 10


@pytest.mark.parametrize("stop", [[], [Stop()]])
def test_distillation_ends_with_the_training(
    monkeypatch: pytest.MonkeyPatch, stop: list[Callback]
) -> None:
    monkeypatch.setattr("lenet_lightning.training.distillation.find", lambda _: [])
    classifier = Classifier()
    distillation = Distillation("none", temperature=2.0)
    distillation.target = lambda _, labels: torch.full((len(labels), 10), 0.1)  # type: ignore[method-assign]
    if stop:
        with pytest.raises(RuntimeError, match="stopped"):
            fit(classifier, distillation, *stop)
    else:
        fit(classifier, distillation)
    assert classifier.teacher is None and classifier.temperature == 1.0


def test_weights_do_not_depend_on_torchs_default_device() -> None:
    """Lightning sets it to the device that trains."""
    networks = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            networks.append(Classifier().network)
    one, other = (network.state_dict() for network in networks)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_denormals_are_zero_within_a_command_only() -> None:
    tiny = torch.tensor(1e-40)
    for _ in range(2):
        with denormals_are_zero():
            assert not (2 * tiny).item()
            with denormals_are_zero():
                pass
            assert not (2 * tiny).item()
        assert (2 * tiny).item()
