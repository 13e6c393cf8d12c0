"""``ImageFolder``: the user's own pictures, one folder for each class, as a dataset."""

import hashlib
import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jsonargparse.typing import PositiveInt
from tqdm import tqdm

from lenet_lightning import files
from lenet_lightning.data import splits
from lenet_lightning.data.datamodule import ImageDataModule
from lenet_lightning.data.downloads import say
from lenet_lightning.data.fetch import Dataset, Split
from lenet_lightning.data.input_size import INPUT_SIZE
from lenet_lightning.data.pictures import SUFFIXES, prepare
from lenet_lightning.data.readers import Pixels, is_grey_file, read_picture
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError

PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names that mean a part of the data instead of a class."""

MOST_CHARACTERS = 200
"""Of the name of a class or a dataset."""

MOST_BYTES = 1 << 30
"""Of a picture's file."""

MOST_NAMED = 20
"""Unreadable pictures that an error names; it counts the others."""

PREPARATION = "1"
"""Change it whenever a picture is prepared differently: caches of before are not used then."""


Samples = list[tuple[Path, int]]
"""Pictures and their labels."""


class ImageFolder(ImageDataModule):
    """Pictures in one folder for each class, which gives the class its name.

    ``root`` holds the class folders, or the folders ``train``, ``test`` and perhaps ``val``, each
    with class folders. A part that has no folder is split off the training pictures: a fifth for
    testing, the same for every ``split_seed``, and a tenth of the rest for validation, each class
    in its share.

    Every picture is laid out as ``Pictures`` does: square by padding with its own border colour,
    then 32x32. Decoded pictures are cached by digest in ``~/.cache/lenet_lightning``, or below
    ``XDG_CACHE_HOME``.

    Args:
        root: the folder.
        channels: 1 for grey, 3 for colour. By default 1 if every file is stored in grey, else 3.
        test_size: pictures of the test part, where ``root`` has no folder ``test``; a fifth when
            null.
        options: those of ``ImageDataModule``.

    Raises:
        UserError: the folder has no such layout, or the options contradict it. From
            ``prepare_data``: some pictures cannot be read; all of them are named.
    """

    def __init__(
        self,
        root: str,
        channels: Literal[1, 3] | None = None,
        test_size: PositiveInt | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root=root, **options)
        self.given_channels = channels
        self.test_size = test_size
        name = Path(root).resolve().name or "root"
        check_name(name, root)
        self.dataset = f"{name}_folder" if name in DATASETS else name
        self.class_names, parts, self.others = find_classes(root)
        self.splits_test, self.splits_val = "test" not in parts, "val" not in parts
        self.check_parts(len(parts["train"]))
        if self.splits_test:
            train = parts["train"]
            count = test_size or max(1, len(train) // 5)
            kept, held = splits.holdout(labels_of(train), count, seed=0)
            parts |= {"train": [train[i] for i in kept], "test": [train[i] for i in held]}
        self.training_count = len(parts["train"])
        self.train_samples = parts["train"] + parts.get("val", [])
        self.test_samples = parts["test"]

    def check_parts(self, count: int) -> None:
        """Refuse options for a part that has a folder of its own, and a test part of too many."""
        given = [] if self.splits_test else [("test_size", self.test_size, "test")]
        if not self.splits_val:
            given += [("val_size", self.val_size, "val"), ("num_folds", self.num_folds, "val")]
        for key, value, part in given:
            if value is not None:
                raise UserError(
                    f"data.{key} is {value}, but {self.root} has a folder for {part}: leave the "
                    "option out, or remove the folder."
                )
        if self.test_size is not None:
            self.check_size("test_size", self.test_size, count - 1)

    @cached_property
    def channels(self) -> int:
        """1 or 3; where it is not given, the head of every file is read."""
        if self.given_channels is not None:
            return self.given_channels
        return 1 if all(is_grey_file(path) for path, _ in self.samples) else 3

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.class_names

    @property
    def training_size(self) -> int:
        """Training and validation pictures."""
        return len(self.train_samples)

    @property
    def samples(self) -> Samples:
        """Training, validation and test pictures, in this order."""
        return self.train_samples + self.test_samples

    @property
    def picture_names(self) -> list[str]:
        """The files' names, in the order of the predictions."""
        return [str(path) for path, _ in self.test_samples]

    def held_out(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (train, validation) positions; those of the folder ``val`` where there is one."""
        if self.splits_val or self.protocol == "report":
            return super().held_out(labels)
        index = np.arange(len(labels))
        return index[: self.training_count], index[self.training_count :]

    @cached_property
    def contents(self) -> list[bytes]:
        """SHA-256 of each file, in the order of ``samples``."""
        try:
            read = (files.read(path, MOST_BYTES) for path, _ in self.samples)
            return [hashlib.sha256(content).digest() for content in read]
        except OSError as error:
            raise UserError(
                f"The picture {error.filename} cannot be read ({error.strerror}): make it "
                "readable, or remove it."
            ) from error

    @property
    def training_digest(self) -> str:
        """SHA-256, hexadecimal, of the training and validation pictures and their labels."""
        labels = labels_of(self.train_samples).astype("<i8").tobytes()
        return hashlib.sha256(b"".join(self.contents[: self.training_size]) + labels).hexdigest()

    def fetch_dataset(self) -> None:
        """Decode the pictures, unless a cache holds them, and say how many there are."""
        counts = np.bincount(labels_of(self.samples), minlength=len(self.classes))
        least, most = counts.argmin(), counts.argmax()
        ignored = f"; {self.others} other files are ignored" if self.others else ""
        say(
            f"{self.root}: {counts.sum():,} {'grey' if self.channels == 1 else 'colour'} pictures "
            f"of {len(self.classes)} classes, from {counts[least]:,} ({self.classes[least]}) to "
            f"{counts[most]:,} ({self.classes[most]}) a class{ignored}."
        )
        self.load_dataset()

    def load_dataset(self) -> Dataset:
        """Return the pictures as uint8 arrays ``[count, channels, 32, 32]``."""
        pixels, size = self.pixels, self.training_size
        train = Split(pixels[:size], labels_of(self.train_samples))
        test = Split(pixels[size:], labels_of(self.test_samples))
        digests = {
            part: f"sha256:{hashlib.sha256(b''.join(contents)).hexdigest()}"
            for part, contents in (("train", self.contents[:size]), ("test", self.contents[size:]))
        }
        return Dataset(self.dataset, self.classes, train, test, digests)

    @cached_property
    def pixels(self) -> Pixels:
        """Every picture, uint8 ``[count, channels, 32, 32]``, from the cache or decoded."""
        shape = (len(self.contents), self.channels, INPUT_SIZE, INPUT_SIZE)
        key = hashlib.sha256(f"{PREPARATION} {shape}".encode() + b"".join(self.contents))
        path = files.user_cache() / "pictures" / f"{key.hexdigest()}.bin"
        if (pixels := read_cache(path, shape)) is None:
            pixels = decode([path for path, _ in self.samples], self.channels, self.root)
            write_cache(path, pixels)
        return pixels


def labels_of(samples: Samples) -> np.ndarray:
    """Return the labels of pictures, int64 ``[count]``."""
    return np.array([label for _, label in samples], np.int64)


def find_classes(root: str) -> tuple[tuple[str, ...], dict[str, Samples], int]:
    """Find the pictures of each class, by the names of folders and files.

    Args:
        root: holds class folders, or ``train``, ``val`` and ``test`` folders that do.

    Returns:
        The class names, sorted; the pictures of ``train``, and of ``val`` and ``test`` where there
        are such folders; and how many files are not pictures.

    Raises:
        UserError: ``root`` is not a folder with this layout.
    """
    try:
        parts = find_parts(root)
        found = {part: class_files(folder) for part, folder in parts.items()}
    except OSError as error:
        raise UserError(f"data.root is {root}, which cannot be read: {error.strerror}.") from error
    classes = list(found["train"])
    if len(classes) < 2:
        raise UserError(
            f"data.root is {root}: expected a folder of pictures for each of at least two classes, "
            f"or train and test folders that hold such, but found {len(classes)}."
        )
    samples: dict[str, Samples] = {}
    for part, by_class in found.items():
        if unknown := by_class.keys() - set(classes):
            raise UserError(
                f"{parts[part]} has pictures of {min(unknown)}, which {parts['train']} has not: "
                "expected the same classes."
            )
        samples[part] = [
            (path, classes.index(name))
            for name, paths in by_class.items()
            for path in paths
            if path.suffix.lower() in SUFFIXES
        ]
        labels = {label for _, label in samples[part]}
        empty = [name for label, name in enumerate(classes) if label not in labels]
        if empty and (part == "train" or not labels):
            raise UserError(
                f"{parts[part]} has no picture of {', '.join(empty)}: add some, or remove the "
                "empty folders."
            )
    every = sum(len(paths) for by_class in found.values() for paths in by_class.values())
    return tuple(classes), samples, every - sum(map(len, samples.values()))


def find_parts(root: str) -> dict[str, Path]:
    """Return the folders that hold class folders: ``root``, or those of the parts of the data.

    Raises:
        OSError: ``root`` cannot be read.
        UserError: it holds folders of parts and others.
    """
    names = subfolders(Path(root))
    parts = {PARTS[name]: Path(root, name) for name in names if name in PARTS}
    others = [name for name in names if Path(root, name) not in parts.values()]
    if len(parts) > 1 and others:
        raise UserError(
            f"data.root is {root}, which holds {' and '.join(p.name for p in parts.values())} "
            f"beside {others[0]}: expected folders of classes, or only train, val and test."
        )
    return {"train": Path(root)} if others or "train" not in parts else parts


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones.

    Raises:
        UserError: a name cannot be that of a class.
    """
    names = sorted(p.name for p in folder.iterdir() if p.name[0] != "." and p.is_dir())
    for name in names:
        check_name(name, folder)
    return names


def check_name(name: str, folder: str | Path) -> None:
    """Refuse a folder's name that a checkpoint cannot hold as the name of a class or a dataset."""
    if not name.isprintable() or len(name) > MOST_CHARACTERS:
        raise UserError(
            f"The name of the folder {name[:50]!a} in {folder} does not print, or is longer than "
            f"{MOST_CHARACTERS} characters: rename it."
        )


def class_files(folder: Path) -> dict[str, list[Path]]:
    """Return every file below each class folder, without hidden ones, sorted."""
    found: dict[str, list[Path]] = {}
    for name in subfolders(folder):
        found[name] = []
        for parent, folders, names in os.walk(folder / name):
            folders[:] = sorted(f for f in folders if f[0] != ".")
            found[name] += [Path(parent, n) for n in sorted(names) if n[0] != "."]
    return found


def decode(paths: list[Path], channels: int, root: str) -> Pixels:
    """Return pictures as uint8 ``[count, channels, 32, 32]``, showing progress on a terminal.

    Raises:
        UserError: naming every picture that cannot be read.
    """
    pixels = np.empty((len(paths), channels, INPUT_SIZE, INPUT_SIZE), np.uint8)
    mode, errors = "L" if channels == 1 else "RGB", []
    for place, path in enumerate(
        tqdm(paths, desc=f"Reading {root}", unit="picture", delay=1, leave=False, disable=None)
    ):
        try:
            pixels[place] = prepare(read_picture(path).convert(mode), INPUT_SIZE)
        except UserError as error:
            errors.append(str(error))
    if errors:
        more = f" And {len(errors) - MOST_NAMED} more." * (len(errors) > MOST_NAMED)
        raise UserError(
            f"{len(errors)} of the {len(paths)} pictures in {root} cannot be used: repair or "
            f"remove them. {' '.join(errors[:MOST_NAMED])}{more}"
        )
    return pixels


def read_cache(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    """Return the pictures that a cache holds, None if it is absent or damaged.

    Its first 32 bytes are the SHA-256 of the rest, which are the pixels.
    """
    try:
        content = bytearray(files.read(path, 32 + math.prod(shape)))
    except (OSError, UserError):
        return None
    pixels = memoryview(content)[32:]
    if hashlib.sha256(pixels).digest() != content[:32]:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def write_cache(path: Path, pixels: Pixels) -> None:
    """Keep decoded pictures; where that is not possible, they are decoded again next time."""
    try:
        files.make_folder(path.parent)
        files.replace(path, hashlib.sha256(pixels.data).digest() + pixels.tobytes())
    except (OSError, UserError) as error:
        say(f"The decoded pictures are not cached: {error}")
