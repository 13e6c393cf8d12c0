"""``ImageFolder``: the user's own pictures, one folder for each class, as a dataset."""

import hashlib
import os
from dataclasses import dataclass
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

MOST_NAMED = 20
"""Unreadable pictures that an error names; it counts the others."""

PREPARATION = "1"
"""Change it whenever a picture is prepared differently: caches of before are not used then."""


@dataclass(frozen=True)
class Part:
    """The training, validation or test pictures: files, and labels, int64 ``[count]``."""

    files: list[Path]
    labels: np.ndarray

    def choose(self, index: np.ndarray) -> "Part":
        """Return the pictures at these positions."""
        return Part([self.files[i] for i in index], self.labels[index])

    def __add__(self, other: "Part") -> "Part":
        return Part(self.files + other.files, np.concatenate([self.labels, other.labels]))


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
        self.has_part = {part: part in parts for part in ("val", "test")}
        self.check_parts(len(parts["train"].files))
        if "test" not in parts:
            train = parts["train"]
            count = test_size or max(1, len(train.files) // 5)
            kept, held = splits.holdout(train.labels, count, seed=0)
            parts |= {"train": train.choose(kept), "test": train.choose(held)}
        self.training_count = len(parts["train"].files)
        self.train_pictures, self.test_pictures = parts["train"], parts["test"]
        if "val" in parts:
            self.train_pictures += parts["val"]

    def check_parts(self, count: int) -> None:
        """Refuse options for a part that has a folder of its own, and a test part of too many."""
        options = {"val": {"val_size": self.val_size, "num_folds": self.num_folds}}
        options["test"] = {"test_size": self.test_size}
        for part, given in options.items():
            for key, value in given.items():
                if self.has_part[part] and value is not None:
                    raise UserError(
                        f"data.{key} is {value}, but {self.root} has a folder for {part}: leave "
                        "the option out, or remove the folder."
                    )
        if self.test_size is not None:
            self.check_size("test_size", self.test_size, count - 1)

    @cached_property
    def channels(self) -> int:
        """1 or 3; where it is not given, the head of every file is read."""
        if self.given_channels is not None:
            return self.given_channels
        return 1 if all(map(is_grey_file, self.every_picture.files)) else 3

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.class_names

    @property
    def training_size(self) -> int:
        """Training and validation pictures."""
        return len(self.train_pictures.files)

    @property
    def every_picture(self) -> Part:
        """Training, validation and test pictures, in this order."""
        return self.train_pictures + self.test_pictures

    @property
    def picture_names(self) -> list[str]:
        """The files' names, in the order of the predictions."""
        return [str(path) for path in self.test_pictures.files]

    @property
    def splits_test(self) -> bool:
        """Whether the test part is split off here."""
        return not self.has_part["test"]

    def held_out(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (train, validation) positions; those of the folder ``val`` where there is one."""
        if not self.has_part["val"] or self.protocol == "report":
            return super().held_out(labels)
        index = np.arange(len(labels))
        return index[: self.training_count], index[self.training_count :]

    @cached_property
    def contents(self) -> list[bytes]:
        """SHA-256 of each file, in the order of ``every_picture``."""
        try:
            return [file_digest(path) for path in self.every_picture.files]
        except OSError as error:
            raise UserError(
                f"The picture {error.filename} cannot be read ({error.strerror}): make it "
                "readable, or remove it."
            ) from error

    @property
    def training_digest(self) -> str:
        """SHA-256, hexadecimal, of the training and validation pictures and their labels."""
        labels = self.train_pictures.labels.astype("<i8").tobytes()
        return hashlib.sha256(b"".join(self.contents[: self.training_size]) + labels).hexdigest()

    def fetch_dataset(self) -> None:
        """Decode the pictures, unless a cache holds them, and say how many there are."""
        counts = np.bincount(self.every_picture.labels, minlength=len(self.classes))
        least, most = counts.argmin(), counts.argmax()
        passed = f"; {self.others} other files are passed over" if self.others else ""
        say(
            f"{self.root}: {counts.sum():,} {'grey' if self.channels == 1 else 'colour'} pictures "
            f"of {len(self.classes)} classes, from {counts[least]:,} ({self.classes[least]}) to "
            f"{counts[most]:,} ({self.classes[most]}) a class{passed}."
        )
        self.load_dataset()

    def load_dataset(self) -> Dataset:
        """Return the pictures as uint8 arrays ``[count, channels, 32, 32]``."""
        everything, size = self.pixels, self.training_size
        labels = self.train_pictures.labels, self.test_pictures.labels
        train = Split(everything[:size], labels[0])
        test = Split(everything[size:], labels[1])
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
        if (cached := read_cache(path, shape)) is not None:
            return cached
        pixels = decode(self.every_picture.files, self.channels, self.root)
        write_cache(path, pixels)
        return pixels


def find_classes(root: str) -> tuple[tuple[str, ...], dict[str, Part], int]:
    """Find the pictures of each class, by the names of folders and files alone.

    Args:
        root: holds class folders, or ``train``, ``val`` and ``test`` folders that do.

    Returns:
        The class names, sorted; the pictures of ``train``, and of ``val`` and ``test`` where there
        are such folders; and how many files are no pictures.

    Raises:
        UserError: ``root`` is not a folder with this layout.
    """
    try:
        names = subfolders(Path(root))
        parts = {PARTS[name]: Path(root, name) for name in names if name in PARTS}
        if len(parts) > 1 and len(parts) < len(names):
            mixed = next(name for name in names if name not in PARTS)
            raise UserError(
                f"data.root is {root}, which holds {' and '.join(parts)} beside {mixed}: expected "
                "folders of classes, or nothing but train, val and test."
            )
        if len(parts) < len(names) or "train" not in parts:
            parts = {"train": Path(root)}
        found = {part: class_pictures(folder) for part, folder in parts.items()}
    except OSError as error:
        raise UserError(f"data.root is {root}, which cannot be read: {error.strerror}.") from error
    classes = tuple(found["train"])
    if len(classes) < 2:
        raise UserError(
            f"data.root is {root}: expected a folder of pictures for each of at least two classes, "
            f"or train and test folders that hold such, but found {len(classes)}."
        )
    pictures, others = {}, 0
    for part, by_class in found.items():
        if unknown := by_class.keys() - set(classes):
            raise UserError(
                f"{parts[part]} has pictures of {min(unknown)}, which {parts['train']} has not: "
                "expected the same classes."
            )
        paths = {name: [p for p in every if is_picture(p)] for name, every in by_class.items()}
        others += sum(map(len, by_class.values())) - sum(map(len, paths.values()))
        if empty := [name for name in paths if not paths[name] and part == "train"]:
            raise UserError(
                f"{parts[part]} has no picture of {', '.join(empty)}: add some, or remove the "
                "empty folders."
            )
        labeled = [(path, classes.index(name)) for name in paths for path in paths[name]]
        labels = np.array([label for _, label in labeled], np.int64)
        pictures[part] = Part([path for path, _ in labeled], labels)
        if not labeled:
            raise UserError(f"{parts[part]} has no pictures: add some, or remove the folder.")
    return classes, pictures, others


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


def class_pictures(folder: Path) -> dict[str, list[Path]]:
    """Return every file below each class folder, without hidden ones, sorted."""
    found: dict[str, list[Path]] = {}
    for name in subfolders(folder):
        found[name] = []
        for parent, folders, names in os.walk(folder / name):
            folders[:] = sorted(f for f in folders if f[0] != ".")
            found[name] += [Path(parent, n) for n in sorted(names) if n[0] != "."]
    return found


def is_picture(path: Path) -> bool:
    """Whether a file's name is that of a picture."""
    return path.suffix.lower() in SUFFIXES


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


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
            f"{len(errors)} of the {len(paths)} pictures in {root} cannot be used: mend or remove "
            f"them. {' '.join(errors[:MOST_NAMED])}{more}"
        )
    return pixels


def read_cache(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    """Return the pictures that a cache holds, None if it is absent or damaged.

    Its first 32 bytes are the SHA-256 of the rest, which are the pixels.
    """
    try:
        content = bytearray(files.read(path, 32 + int(np.prod(shape))))
    except (OSError, UserError):
        return None
    payload = memoryview(content)[32:]
    whole = len(payload) == np.prod(shape) and hashlib.sha256(payload).digest() == content[:32]
    return np.frombuffer(payload, np.uint8).reshape(shape) if whole else None


def write_cache(path: Path, pixels: Pixels) -> None:
    """Keep decoded pictures; where that is not possible, they are decoded again next time."""
    try:
        files.make_folder(path.parent)
        files.replace(path, hashlib.sha256(pixels.data).digest() + pixels.tobytes())
    except (OSError, UserError) as error:
        say(f"The decoded pictures are not cached: {error}")
