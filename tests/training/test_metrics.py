"""Running sums of loss and accuracy."""

import pytest
import torch

from lenet_lightning.training.metrics import Sums, mean_of


def test_mean_weighs_every_image_the_same():
    sums = Sums(1)
    sums.update(torch.tensor([6.0]), torch.tensor([2]), 3)
    sums.update(torch.tensor([1.0]), torch.tensor([1]), 1)
    values = sums.compute()
    assert set(values) == {"loss", "acc"}
    assert values["loss"].item() == pytest.approx(7 / 4)
    assert values["acc"].item() == pytest.approx(3 / 4)


def test_originals_and_negatives_are_apart():
    sums = Sums(2)
    sums.update(torch.tensor([2.0, 8.0]), torch.tensor([4, 1]), 4)
    values = {key: value.item() for key, value in sums.compute().items()}
    assert values == {"loss": 0.5, "loss_negative": 2.0, "acc": 1.0, "acc_negative": 0.25}


def test_reset_starts_afresh():
    sums = Sums(1)
    sums.update(torch.tensor([6.0]), torch.tensor([2]), 3)
    assert sums.update_called
    sums.reset()
    assert not sums.update_called
    sums.update(torch.tensor([1.0]), torch.tensor([0]), 2)
    assert sums.compute()["loss"].item() == 0.5


def test_counts_are_exact_beyond_what_a_float_holds():
    sums = Sums(1)
    sums.update(torch.tensor([0.0]), torch.tensor([2**24]), 2**24)
    for _ in range(3):
        sums.update(torch.tensor([0.0]), torch.tensor([1]), 1)
    assert int(sums.correct) == int(sums.count) == 2**24 + 3


def test_a_loss_that_is_not_finite_shows():
    sums = Sums(2)
    sums.update(torch.tensor([1.0, float("nan")]), torch.tensor([1, 0]), 1)
    values = sums.compute()
    assert values["loss"].item() == 1
    assert values["loss_negative"].isnan()


def test_processes_add_up():
    here, there = Sums(1), Sums(1)
    here.update(torch.tensor([6.0]), torch.tensor([2]), 3)
    there.update(torch.tensor([1.0]), torch.tensor([1]), 1)
    here.merge_state(there)
    values = here.compute()
    assert values["loss"].item() == pytest.approx(7 / 4)
    assert values["acc"].item() == pytest.approx(3 / 4)


def test_mean_of_tensors():
    outputs = [torch.tensor([1.0, 2.0]), torch.tensor([4.0, -2.0]), torch.tensor([4.0, 3.0])]
    assert torch.equal(mean_of(outputs), torch.tensor([3.0, 1.0]))
    assert torch.equal(mean_of(outputs[:1]), outputs[0])


def test_mean_does_not_depend_on_the_batch():
    outputs = torch.rand(9, 70, 10).unbind()
    whole = mean_of(outputs)
    for size in (1, 3, 7, 33):
        parts = zip(*(each.split(size) for each in outputs), strict=True)
        assert torch.equal(torch.cat([mean_of(part) for part in parts]), whole)
