"""On the real datasets: the digests, what one epoch reaches, and that runs agree.

They lie in ``datasets`` of the repository, or are fetched there by the first of these tests.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lenet_lightning.data import fetch
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.store import run_folder
from tests.cli.test_lightning_cli import metrics
from tests.conftest import REPOSITORY, Run
from tests.data.test_fetch import PUBLISHED_MD5

pytestmark = pytest.mark.real_data

ROOT = REPOSITORY / "datasets"

COUNTS = {"MNIST": (60_000, 10_000), "FashionMNIST": (60_000, 10_000), "CIFAR10": (50_000, 10_000)}


@pytest.fixture(scope="session")
def root() -> Path:
    for name in COUNTS:
        fetch.fetch(name, ROOT)
    return ROOT


@pytest.mark.parametrize("name", PUBLISHED_MD5)
def test_published_digests(root: Path, name: str) -> None:
    for file, md5 in PUBLISHED_MD5[name].items():
        assert hashlib.md5((root / name / file).read_bytes()).hexdigest() == md5, file
    assert {f.name for f in DATASETS[name].files} == PUBLISHED_MD5[name].keys()
    assert not any(check.problem for check in fetch.verify(name, root))


@pytest.mark.parametrize("name", COUNTS)
def test_images(root: Path, name: str) -> None:
    dataset = fetch.load(name, root, download=False)
    for split, count in zip((dataset.train, dataset.test), COUNTS[name], strict=True):
        assert len(split.images) == len(split.labels) == count
        assert (split.images.min(), split.images.max()) == (0, 255)
        shares = np.bincount(split.labels, minlength=10) / count
        assert shares.min() > 0.085 and shares.max() < 0.115
        negatives = 255 - split.images.astype(int)
        assert np.abs(split.images + negatives - 255).max() == 0


def fit(run: Run, root: Path, name: str, *options: str) -> run_folder.Run:
    """Train one epoch with the optimiser's defaults."""
    outcome = run(
        f"fit --data {name} --data.root {root} --data.download false --trainer.accelerator cpu "
        f"--trainer.max_epochs 1 --name {name} --trainer.logger false",
        *options,
    )
    assert outcome.code == 0, outcome.err
    return run_folder.read(max(Path("lightning_logs", name).iterdir()))


def test_one_epoch_of_mnist(run: Run, root: Path) -> None:
    """Far above chance on originals, far below them on negatives, and reproducible."""
    first = fit(run, root, "MNIST")
    assert first.manifest.test["acc"] > 0.95
    assert first.manifest.test["acc_negative"] < 0.6
    sizes = first.manifest.data
    assert (sizes.train_size, sizes.val_size, sizes.test_size) == (54_000, 6_000, 10_000)
    assert first.metrics["step"].tolist() == [844]
    second = fit(run, root, "MNIST")
    assert metrics(second.folder) == metrics(first.folder)


def test_half_negative_mnist_learns_both(run: Run, root: Path) -> None:
    test = fit(run, root, "MNIST", "--data.train_polarity", "half").manifest.test
    assert test["acc"] > 0.92 and test["acc_negative"] > 0.92


@pytest.mark.parametrize(("name", "least"), [("FashionMNIST", 0.75), ("CIFAR10", 0.35)])
def test_one_epoch(run: Run, root: Path, name: str, least: float) -> None:
    result = fit(run, root, name)
    assert result.manifest.test["acc"] > least
    assert result.manifest.parameters == (62_006 if name == "CIFAR10" else 61_706)
