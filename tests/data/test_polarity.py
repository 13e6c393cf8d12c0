"""Negatives, and which training images become one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_lightning.data.polarity import negate, reversed_images


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_negative_is_255_minus_x():
    x = pixels(5, 3, 32, 32)
    negative = negate(x.float() / 255)
    torch.testing.assert_close(negative, (255 - x).float() / 255, rtol=0, atol=1e-7)
    assert negative.min() >= 0 and negative.max() <= 1


@settings(max_examples=20, deadline=None)
@given(
    border=st.integers(0, 5),
    height=st.integers(11, 16),
    width=st.integers(11, 16),
    lead=st.lists(st.integers(0, 3), max_size=3),
)
def test_border_keeps_its_values(border, height, width, lead):
    x = torch.rand(*lead, height, width, generator=generator())
    before = x.clone()
    negative = negate(x, border)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[border : height - border, border : width - border] = True
    assert negative.shape == x.shape and negative.dtype == x.dtype
    assert torch.equal(negative[..., inside], 1 - x[..., inside])
    assert torch.equal(negative[..., ~inside], x[..., ~inside])
    assert torch.equal(x, before)


@pytest.mark.parametrize("border", [0, 2])
def test_negative_of_the_negative(border):
    x = torch.rand(2, 1, 32, 32, generator=generator())
    torch.testing.assert_close(negate(negate(x, border), border), x, rtol=0, atol=1e-7)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_half_is_exactly_half(count):
    mask = reversed_images("half", count, generator())
    assert mask.shape == (count,) and mask.dtype == torch.bool
    assert int(mask.sum()) == count // 2


def test_half_is_drawn_by_the_generator():
    first, again = (reversed_images("half", 1000, generator(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, reversed_images("half", 1000, generator(2)))
    # Not the first half, nor every other image.
    assert 200 < int(first[:500].sum()) < 300 and 200 < int(first[::2].sum()) < 300


def test_random_is_about_half():
    masks = torch.stack([reversed_images("random", 1000, generator(seed)) for seed in range(20)])
    sums = masks.sum(1)
    assert sums.unique().numel() > 1
    assert abs(float(sums.float().mean()) - 500) < 30


def test_all_or_none():
    assert not reversed_images("original", 10, generator()).any()
    assert reversed_images("negative", 10, generator()).all()
