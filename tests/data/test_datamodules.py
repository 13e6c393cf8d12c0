"""What every datamodule owes to training, whatever the dataset."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from lenet_lightning import files
from lenet_lightning.cli import lightning_cli, messages
from lenet_lightning.data.augmentation import Augmentation
from lenet_lightning.data.class_folders import ImageFolder
from lenet_lightning.data.datamodule import ImageDataModule, InputSpec
from lenet_lightning.data.datasets import CIFAR10, DATAMODULES, MNIST, Digits, FashionMNIST
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.errors import UserError
from tests.conftest import Run
from tests.data import fakes


def epoch(data: ImageDataModule, number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels of a training epoch, in the order of training."""
    batches = data.train_dataloader()
    batches.set_epoch(number)
    chunks = list(batches)
    return torch.cat([e.images for e in chunks]), torch.cat([e.labels for e in chunks])


class Contract:
    """Inherited by the tests of each dataset."""

    module: ClassVar[type[ImageDataModule]]
    train_count: ClassVar[int] = 200
    test_count: ClassVar[int] = 100
    channels: ClassVar[int] = 1
    size: ClassVar[int] = 28
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.install_tiny(monkeypatch, Path("datasets"))

    def make(self, **options: object) -> ImageDataModule:
        options = {"batch_size": 20, "download": False, **self.options, **options}
        data = self.module(**options)
        data.prepare_data()
        data.setup("fit")
        return data

    def test_named_on_the_command_line(self) -> None:
        given = [f"--data.{key}={value}" for key, value in self.options.items()]
        config = lightning_cli.parse(["fit", "--data", self.module.__name__, *given])
        keys = set(config["data"]["init_args"])
        assert keys == messages.parameters(self.module).keys() - {"seed"}
        augmentation = config["data"]["init_args"]["augmentation"]
        assert augmentation == dataclasses.asdict(Augmentation())

    def test_facts_are_known_before_the_data(self) -> None:
        data = self.module(**self.options)
        assert (data.channels, data.training_size) == (self.channels, self.train_count)
        assert len(data.classes) == 10 and len(set(data.classes)) == 10

    def test_images(self) -> None:
        data = self.make()
        for images, count in (
            (data.train_images, self.train_count),
            (data.test_images, self.test_count),
        ):
            assert images.pixels.shape == (count, self.channels, 32, 32)
            assert (images.pixels.dtype, images.labels.dtype) == (torch.uint8, torch.int64)
            assert images.pixels.max() > 200 and images.pixels.min() == 0
        dataset = data.load_dataset()
        expected = to_input_size(dataset.test.images)
        np.testing.assert_array_equal(data.test_images.pixels.numpy(), expected)
        assert data.digests == dataset.digests

    def test_setup_again_changes_nothing(self) -> None:
        data = self.make()
        before = data.train_images, data.train_index
        data.setup("test")
        assert data.train_images is before[0] and data.train_index is before[1]

    def test_split(self) -> None:
        data = self.make()
        train, val = set(data.train_index.tolist()), set(data.val_index.tolist())
        assert not train & val and train | val == set(range(self.train_count))
        assert len(val) == self.train_count // 10
        shares = np.bincount(data.train_images.labels[data.val_index], minlength=10)
        whole = np.bincount(data.train_images.labels, minlength=10) / 10
        assert np.abs(shares - whole).max() < 2  # stratified
        assert torch.equal(self.make(seed=5).val_index, data.val_index)
        assert not torch.equal(self.make(split_seed=1).val_index, data.val_index)

    def test_folds(self) -> None:
        folds = [self.make(num_folds=4, fold=i) for i in range(4)]
        held = torch.cat([data.val_index for data in folds])
        assert sorted(held.tolist()) == list(range(self.train_count))
        for data in folds:
            assert not set(data.train_index.tolist()) & set(data.val_index.tolist())
            assert len(data.train_index) + len(data.val_index) == self.train_count

    def test_protocols(self) -> None:
        report = self.make(protocol="report")
        assert len(report.train_index) == self.train_count and len(report.val_index) == 0
        batches = report.val_dataloader()
        assert batches.size == self.test_count
        assert torch.equal(batches.data.pixels, report.test_images.pixels)
        watched = self.make(protocol="watch").val_dataloader()
        assert [b.size for b in watched] == [self.train_count // 10, self.test_count]

    def test_subset(self) -> None:
        data, whole = self.make(subset=50), self.make()
        assert len(data.train_index) == 50 and torch.equal(data.val_index, whole.val_index)
        assert set(data.train_index.tolist()) <= set(whole.train_index.tolist())
        assert np.bincount(data.train_images.labels[data.train_index], minlength=10).min() >= 3

    def test_epoch(self) -> None:
        data = self.make()
        images, labels = epoch(data)
        assert images.dtype == torch.float32 and images.shape[1:] == (self.channels, 32, 32)
        assert images.min() >= 0 and images.max() <= 1
        expected = data.train_images.labels[data.train_index]
        assert Counter(labels.tolist()) == Counter(expected.tolist())
        sums = sorted(images.double().sum((1, 2, 3)).tolist())
        pixels = data.train_images.pixels[data.train_index].double().sum((1, 2, 3)) / 255
        assert sums == pytest.approx(sorted(pixels.tolist()), rel=1e-6)

    def test_order_depends_on_seed_and_epoch_alone(self) -> None:
        data = self.make(**ALL)
        first = epoch(data, 1)
        for other in (epoch(data, 1), epoch(self.make(**ALL), 1)):
            assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
        assert not torch.equal(epoch(data, 2)[0], first[0])
        assert not torch.equal(epoch(self.make(**ALL, seed=1), 1)[0], first[0])

    @pytest.mark.parametrize("batch_size", [1, 7, 64, "full"])
    def test_last_partial_batch_is_kept(self, batch_size: int | str) -> None:
        data = self.make(batch_size=batch_size, subset=150)
        batches = data.train_dataloader()
        totals = [total for chunk in batches for total in chunk.totals]
        size = 150 if batch_size == "full" else int(batch_size)
        assert sum(totals) == 150 and len(totals) == batches.steps == -(-150 // size)
        assert set(totals[:-1]) <= {size} and 0 < totals[-1] <= size
        assert len(list(batches)) == len(batches)

    @pytest.mark.parametrize(
        ("polarity", "share"), [("original", 0), ("negative", 1), ("half", 0.5)]
    )
    def test_polarity(self, polarity: str, share: float) -> None:
        plain, _ = epoch(self.make())
        images, _ = epoch(self.make(train_polarity=polarity))
        kept, reversed_ = (
            (images == plain).flatten(1).all(1),
            (images == 1 - plain).flatten(1).all(1),
        )
        assert (kept ^ reversed_).all()
        assert reversed_.sum() == int(share * len(images))

    def test_evaluation(self) -> None:
        data = self.make(eval_batch_size=30, **ALL)
        for batches, images, index in (
            (data.val_dataloader(), data.train_images, data.val_index),
            (data.test_dataloader(), data.test_images, data.test_index),
            (data.predict_dataloader(), data.test_images, data.test_index),
        ):
            seen = list(batches)
            assert len(seen) == len(batches) == -(-len(index) // 30)
            positions = torch.cat([b.position for b in seen])
            assert torch.equal(positions, torch.arange(len(index)))
            assert torch.equal(torch.cat([b.labels for b in seen]), images.labels[index])
            pixels = torch.cat([b.images for b in seen])
            assert torch.equal(pixels, images.pixels[index].float() / 255)
            assert torch.equal(torch.cat([b.negatives for b in seen]), 1 - pixels)

    def test_border(self) -> None:
        """The padding is reversed with the image, unless the options say otherwise."""
        whole = next(iter(self.make().test_dataloader()))
        inner = next(iter(self.make(negate_border=False).test_dataloader()))
        border = (32 - self.size) // 2 if self.size > 16 else 0
        frame = torch.ones(32, 32, dtype=torch.bool)
        frame[border : 32 - border, border : 32 - border] = False
        assert (whole.negatives[..., frame] == 1).all()
        assert (inner.negatives[..., frame] == 0).all()
        assert torch.equal(inner.negatives[..., ~frame], whole.negatives[..., ~frame])

    def test_spec(self) -> None:
        data = self.make()
        spec = data.spec
        assert (spec.name, spec.channels, spec.size) == (data.dataset, self.channels, self.size)
        assert spec.classes == data.classes
        pixels = data.train_images.pixels.double() / 255
        assert spec.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
        assert spec.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
        assert InputSpec.from_dict(spec.to_dict()) == spec

    @pytest.mark.parametrize("key", ["subset", "val_size", "batch_size", "num_folds"])
    def test_too_large(self, key: str) -> None:
        with pytest.raises(UserError, match=rf"data.{key} is 100000, but \w+ allows at most"):
            self.make(**{key: 100_000})

    def test_contradictions(self) -> None:
        for options in ({"fold": 1}, {"num_folds": 3, "fold": 3}, {"num_folds": 3, "val_size": 5}):
            with pytest.raises(UserError, match=r"data\.(fold|num_folds)"):
                self.module(**self.options | options)


ALL = {"augmentation": Augmentation(rotation=10.0, invert=0.5), "train_polarity": "random"}


class TestMNIST(Contract):
    module = MNIST


class TestFashionMNIST(Contract):
    module = FashionMNIST


class TestCIFAR10(Contract):
    module = CIFAR10
    channels = 3
    size = 32


class TestDigits(Contract):
    module = Digits
    train_count = 1437
    test_count = 360
    size = 8


class TestKMNIST(Contract):
    module = DATAMODULES["KMNIST"]


class TestImageFolder(Contract):
    module = ImageFolder
    size = 32
    options: ClassVar[dict[str, object]] = {"root": "own", "test_size": 100}

    @pytest.fixture(autouse=True)
    def files(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(files, "user_cache", lambda: tmp_path / "cache")
        fakes.write_pictures(Path("own"), 300)


@pytest.mark.parametrize("module", [MNIST, FashionMNIST, CIFAR10])
def test_absent_files_are_refused_without_download(module: type[ImageDataModule]) -> None:
    with pytest.raises(UserError, match=module.__name__):
        module(download=False).prepare_data()


@pytest.mark.parametrize(("name", "classes"), [("EMNISTLetters", 26), ("EMNISTBalanced", 47)])
def test_more_than_ten_classes(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, classes: int
) -> None:
    fakes.install_tiny(monkeypatch, Path("datasets"), [name])
    done = run(f"fit --data {name} --trainer.max_epochs 1 --trainer.accelerator cpu")
    assert done.code == 0, done.err
    assert f"{name} test set, 100 images" in done.out
    record = json.loads(Path(f"lightning_logs/{name.lower()}/version_0/run.json").read_text())
    assert len(record["data"]["classes"]) == classes
