"""Splits: stratified, seeded, and complete."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_lightning.data.splits import default_val_size, holdout, k_fold, stratified_order

SEEDS = st.integers(0, 2**32)


@st.composite
def label_arrays(draw) -> np.ndarray:
    """Labels of up to ten classes of any sizes, shuffled."""
    counts = draw(st.lists(st.integers(0, 60), min_size=1, max_size=10).filter(any))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(SEEDS)).permutation(labels)


def balanced(per_class: int = 60, classes: int = 10) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(classes), per_class))


def is_stratified(labels: np.ndarray, chosen: np.ndarray) -> bool:
    """Whether each class's share is right to one image, and its part in the others' rounding.

    That part is one image more for a class of average size, two for one twice as large.
    """
    sizes = np.bincount(labels)
    fair = sizes * len(chosen) / len(labels)
    counts = np.bincount(labels[chosen], minlength=len(sizes))
    return bool((np.abs(counts - fair) <= 1 + sizes / sizes[sizes > 0].mean()).all())


@settings(max_examples=50, deadline=None)
@given(labels=label_arrays(), seed=SEEDS)
def test_order_is_a_permutation_with_stratified_prefixes(labels, seed):
    order = stratified_order(labels, seed)
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    assert all(is_stratified(labels, order[:n]) for n in range(len(labels) + 1))


@pytest.mark.parametrize("size", [1, 10, 55, 60, 137, 300, 599])
def test_balanced_classes_differ_by_one_at_most(size):
    labels = balanced()
    for seed in range(5):
        _, val = holdout(labels, size, seed)
        counts = np.bincount(labels[val], minlength=10)
        assert counts.max() - counts.min() <= 1


@settings(max_examples=50, deadline=None)
@given(labels=label_arrays(), seed=SEEDS, share=st.floats(0, 1))
def test_holdout_partitions(labels, seed, share):
    size = int(share * (len(labels) - 1))
    train, val = holdout(labels, size, seed)
    assert len(val) == size
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(labels)))
    assert np.array_equal(train, np.sort(train)) and np.array_equal(val, np.sort(val))
    assert is_stratified(labels, val)


@settings(max_examples=50, deadline=None)
@given(labels=label_arrays(), seed=SEEDS, num_folds=st.integers(2, 12))
def test_folds_partition(labels, seed, num_folds):
    held = []
    for fold in range(num_folds):
        train, val = k_fold(labels, num_folds, fold, seed)
        assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(labels)))
        assert len(val) in (len(labels) // num_folds, -(-len(labels) // num_folds))
        assert is_stratified(labels, val)
        held.append(val)
    assert np.array_equal(np.sort(np.concatenate(held)), np.arange(len(labels)))


@pytest.mark.parametrize("num_folds", [2, 3, 5, 7, 10, 20])
def test_every_fold_of_balanced_classes_holds_all_of_them_equally(num_folds):
    labels = balanced()
    for fold in range(num_folds):
        _, val = k_fold(labels, num_folds, fold, seed=0)
        counts = np.bincount(labels[val], minlength=10)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_holdout_of_nearly_balanced_classes(seed):
    """Sizes as unequal as MNIST's: each class has its share to within one image."""
    sizes = [592, 674, 596, 613, 584, 542, 592, 627, 585, 595]
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(10), sizes))
    _, val = holdout(labels, 600, seed)
    fair = np.array(sizes) / 10
    assert np.abs(np.bincount(labels[val]) - fair).max() <= 1


def test_a_tenth_validates_by_default():
    assert [default_val_size(count) for count in (60_000, 109, 9)] == [6_000, 10, 1]


def test_the_seed_decides():
    labels = balanced()
    assert np.array_equal(stratified_order(labels, 1), stratified_order(labels, 1))
    assert not np.array_equal(stratified_order(labels, 1), stratified_order(labels, 2))
    for split in (lambda seed: holdout(labels, 60, seed), lambda seed: k_fold(labels, 5, 1, seed)):
        assert all(map(np.array_equal, split(1), split(1)))
        assert not np.array_equal(split(1)[1], split(2)[1])


def test_images_of_a_class_are_drawn_from_all_of_it():
    labels = np.zeros(1000, dtype=np.int64)
    _, val = holdout(labels, 500, seed=0)
    assert 200 < (val < 500).sum() < 300
