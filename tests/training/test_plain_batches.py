"""A plain DataLoader of (image, label) pairs trains and tests, or is refused in one sentence."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lenet_lightning import Classifier, Digits
from lenet_lightning.data import fetch
from lenet_lightning.data.batches import EvaluationBatch
from lenet_lightning.errors import UserError
from lenet_lightning.training import plain_batches
from tests.test_notebook import trainer_of


def quietly(method: Any, *arguments: Any) -> Any:
    """Call a method of a Trainer without Lightning's advice on worker processes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(*arguments)


def digits(batch_size: int = 64) -> DataLoader:
    """Scikit-learn's test images, as anyone would wrap them."""
    split = fetch.load("Digits", "unused").test
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    return DataLoader(TensorDataset(images / 255, labels), batch_size)


def test_fit_validate_test_and_predict() -> None:
    classifier, loader, trainer = Classifier(), digits(), trainer_of()
    quietly(trainer.fit, classifier, loader, loader)
    (validated,) = quietly(trainer.validate, classifier, loader)
    (tested,) = quietly(trainer.test, classifier, loader)
    assert validated["val/acc"] == tested["test/acc"] > 0.3
    assert validated["val/acc_negative"] == tested["test/acc_negative"]
    predicted = torch.cat(quietly(trainer.predict, classifier, loader), 1)
    assert predicted.shape == (2, 360, 10)
    labels = loader.dataset.tensors[1]
    assert float((predicted[0].argmax(1) == labels).float().mean()) == pytest.approx(
        tested["test/acc"]
    )


def test_metrics_are_those_of_the_datamodule() -> None:
    """The same test images, as this package delivers them and as a DataLoader does."""
    classifier = Classifier()
    (ours,) = quietly(trainer_of().test, classifier, Digits())
    logits = classifier.test_logits.clone()
    (theirs,) = quietly(trainer_of().test, Classifier(), digits(50))
    assert theirs == pytest.approx(ours, abs=1e-5)
    (again,) = quietly(trainer_of().test, classifier, digits(50))
    assert again == pytest.approx(ours, abs=1e-5)
    torch.testing.assert_close(classifier.test_logits, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 8, 28, 31, 32])
def test_input_size(size: int) -> None:
    images = torch.rand(2, 3, size, size)
    seen = plain_batches.as_input(images, 3)
    assert seen.shape == (2, 3, 32, 32) and float(seen.max()) == float(images.max())
    byte = plain_batches.as_input((images * 255).to(torch.uint8), 3)
    torch.testing.assert_close(byte, seen, atol=1 / 255, rtol=0)


@pytest.mark.parametrize(
    ("batch", "part"),
    [
        ((torch.rand(2, 1, 33, 33), torch.zeros(2)), r"\[2, 1, 33, 33\]"),
        ((torch.rand(2, 3, 28, 28), torch.zeros(2)), r"\[2, 3, 28, 28\]"),
        ((torch.rand(2, 28, 28), torch.zeros(2)), r"\[2, 28, 28\]"),
        ((torch.randn(9, 1, 28, 28), torch.zeros(9)), "Leave transforms.Normalize out"),
        ((torch.full((1, 1, 8, 8), torch.nan), torch.zeros(1)), "Leave transforms.Normalize out"),
        (torch.rand(2, 1, 28, 28), "not understood"),
        ((torch.rand(2, 1, 28, 28), torch.zeros(2, 10)), "not understood"),
    ],
)
def test_refused(batch: Any, part: str) -> None:
    with pytest.raises(UserError, match=part):
        plain_batches.evaluation(batch, 1, 0)


def test_a_mean_that_nothing_tells() -> None:
    with pytest.raises(UserError, match="scaling='centered'"):
        quietly(trainer_of().test, Classifier(scaling="standardized"), digits())


def test_batches_of_this_package_are_left_alone() -> None:
    batch = EvaluationBatch(*[torch.zeros(1)] * 4)
    assert plain_batches.evaluation(batch, 1, 0) is batch
