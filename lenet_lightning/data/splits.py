"""Stratified, seeded splits of a training set."""

import numpy as np
from jsonargparse.typing import restricted_number_type

from lenet_lightning.arguments import MAX_SEED

Seed = restricted_number_type("Seed", int, [(">=", 0), ("<=", MAX_SEED)])
"""Type of an option that is a seed."""


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return a shuffled order in which every prefix holds the classes in near-equal shares.

    Args:
        labels: int ``[count]``.
        seed: non-negative; the same seed gives the same order.

    Returns:
        int64 ``[count]``, a permutation.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        # Members of a class are spread evenly over the order, each class with its own offset.
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def default_val_size(count: int) -> int:
    """Return how many of ``count`` training images validate by default: a tenth, at least one."""
    return max(1, count // 10)


def holdout(labels: np.ndarray, val_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split into (train, validation) index arrays, the validation set of ``val_size`` images."""
    order = stratified_order(labels, seed)
    return np.sort(order[val_size:]), np.sort(order[:val_size])


def k_fold(
    labels: np.ndarray, num_folds: int, fold: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split into (train, validation) index arrays, holding out fold ``fold`` of ``num_folds``."""
    order = stratified_order(labels, seed)
    # A run of the order: every num_folds-th of it would pick the same few classes again and again.
    held = np.arange(len(labels)) * num_folds // len(labels) == fold
    return np.sort(order[~held]), np.sort(order[held])
