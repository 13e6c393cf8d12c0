"""An image's random numbers depend on the key, the call and its position, and nothing else."""

from __future__ import annotations

import pytest
import torch

from lenet_lightning.robustness.draws import Draws


@pytest.mark.parametrize("shape", [(), (1,), (3,), (8,), (2, 9), (1, 32, 32)])
def test_numbers_belong_to_positions(shape: tuple[int, ...]) -> None:
    whole = Draws((1, 2), 0, 50)
    expected = [whole.uniform(*shape), whole.normal(*shape), whole.uniform(*shape)]
    for first, count in ((0, 7), (7, 1), (8, 42)):
        part = Draws((1, 2), first, count)
        for numbers, again in zip(
            expected,
            (part.uniform(*shape), part.normal(*shape), part.uniform(*shape)),
            strict=True,
        ):
            assert torch.equal(numbers[first : first + count], again)
    assert expected[0].shape == (50, *shape)
    assert not torch.equal(expected[0], expected[2]), "each call gives other numbers"
    assert not torch.equal(expected[0], Draws((1, 3), 0, 50).uniform(*shape))


def test_distributions() -> None:
    draws = Draws((0,), 0, 400)
    uniform, normal, signs = draws.uniform(100), draws.normal(100), draws.signs()
    assert uniform.dtype == normal.dtype == signs.dtype == torch.float32
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(float(uniform.mean()) - 0.5) < 0.01
    assert abs(float(normal.mean())) < 0.02 and abs(float(normal.std()) - 1) < 0.02
    assert normal.isfinite().all()
    assert set(signs.tolist()) == {-1, 1} and abs(float(signs.mean())) < 0.2
