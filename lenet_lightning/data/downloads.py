"""Ways to bring files here safely: bounded downloads, package clients, a lock.

Nothing in this module knows what a dataset is. A source that cannot give is told by
`SourceError`, whose message is a short phrase; a folder that cannot be written by `OSError`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from lenet_lightning import files

TIMEOUT = 10.0
"""Longest wait for a connection and for each piece of an answer, in seconds."""
CHUNK = 1 << 16
"""Bytes that are read at a time."""
CLIENT_STALL = 60.0
"""A package client that receives nothing for this many seconds is given up."""


DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, ValueError)
"""What a damaged archive raises."""


class SourceError(Exception):
    """A source cannot deliver a file; the message is a short phrase that says why."""


def say(line: str) -> None:
    """Print a line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def download(url: str, path: Path, known_hash: str, limit: int) -> None:
    """Download `url` into the file `path`, showing progress on a terminal.

    Args:
        url: an http or https address; the proxies of the environment are used.
        path: file to write; it appears only with the right content.
        known_hash: digest of the content, such as ``"md5:<hexadecimal>"``.
        limit: most bytes to accept.

    Raises:
        SourceError: no connection, an error answer, an incomplete or overlong body, no data for
            `TIMEOUT` seconds, or content of another digest.
    """
    import pooch  # here, because most commands download nothing
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    pooch.get_logger().setLevel("WARNING")
    headers = {"User-Agent": "lenet_lightning", "Accept-Encoding": "identity"}
    with _bar(path.name, None) as bar:
        progress = _Bounded(bar, limit)
        downloader = pooch.HTTPDownloader(progress, CHUNK, timeout=TIMEOUT, headers=headers)
        try:
            pooch.retrieve(url, known_hash, path.name, path.parent, downloader=downloader)
        except (RequestException, HTTPError) as error:
            raise SourceError(_phrase(error)) from error
        except ValueError as error:  # pooch found another digest
            raise SourceError(f"its {path.name} is not the published file") from error


class _Bounded:
    """A progress bar as pooch expects it; raises once more than `limit` bytes have arrived."""

    def __init__(self, bar: Any, limit: int) -> None:
        self.bar, self.limit = bar, limit
        self.total = self.chunks = 0

    def update(self, count: int) -> None:
        self.chunks += 1  # `count` is the size of a chunk, also of the last one
        if max(self.total, (self.chunks - 1) * CHUNK) > self.limit:
            raise SourceError(f"sends more than the {self.limit:,} bytes expected")
        self.bar.total = self.total or None
        self.bar.update(count)

    def reset(self) -> None:
        self.chunks = 0
        self.bar.reset()

    def close(self) -> None:
        self.bar.close()


def _phrase(error: Exception) -> str:
    """Return in a few words why a request failed."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answered HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if "resolve" in str(error):
        return "host not found"
    if "IncompleteRead" in str(error):
        return "broke off"
    return "connection refused" if "refused" in str(error) else "no connection"


def _shortened(words: str) -> str:
    """Return the words of others as one printable line of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return line if len(line) <= 160 else f"{line[:157]}..."


def _bar(name: str, total: int | None) -> Any:
    from tqdm import tqdm

    # Shown on terminals only, and only when the download lasts over a second.
    return tqdm(
        desc=name, total=total, unit="B", unit_scale=True, delay=1, leave=False, disable=None
    )


def run_client(command: Sequence[str], folder: Path, size: int) -> None:
    """Run a package client in `folder`, showing how many of about `size` bytes have arrived.

    Raises:
        SourceError: the client is not installed, fails, or receives nothing for a long time.
    """
    program = shutil.which(command[0])
    if program is None:
        raise SourceError(f"{command[0]} is not installed")
    log = folder / "client.log"
    with log.open("wb") as output, _bar(command[0], size) as bar:
        try:
            process = subprocess.Popen(
                [program, *command[1:]],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError as error:
            raise SourceError(f"{command[0]} does not start ({error.strerror})") from error
        try:
            received, moved = 0, time.monotonic()
            while process.poll() is None:
                if (now := _bytes_under(folder)) != received:
                    bar.update(max(0, min(now, size) - bar.n))
                    received, moved = now, time.monotonic()
                if time.monotonic() - moved > CLIENT_STALL:
                    raise SourceError(f"nothing received for {CLIENT_STALL:g} s")
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise SourceError(_complaint(log.read_text(errors="replace")))


def _bytes_under(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # clients move their files about
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _complaint(log: str) -> str:
    """Return the first error line of a client's output."""
    for line in log.splitlines():
        if match := re.match(r"(?:npm error|npm ERR!|E:|dpkg-deb: error:)\s+(.+)", line.strip()):
            return _shortened(match[1])
    return "failed without saying why"


def archive_members(path: Path, names: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the named files of a zip archive, or of a tar archive in its order.

    Nothing is extracted to disk, so no member can escape from a folder.

    Raises:
        SourceError: the archive is damaged, a member exceeds `limit` bytes, or one is missing.
    """
    missing = set(names)
    members = _zip_members if zipfile.is_zipfile(path) else _tar_members
    try:
        for name, content in members(path, set(names), limit):
            missing.remove(name)
            yield name, content
    except DAMAGED as error:
        raise SourceError(f"its archive is damaged ({error})") from error
    if missing:
        raise SourceError(f"its archive holds no {min(missing)}")


def _tar_members(path: Path, names: set[str], limit: int) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        while names and (member := archive.next()):
            if member.size > limit:
                raise SourceError(f"its archive holds a file of {member.size:,} bytes")
            if member.name in names and member.isreg():
                content = archive.extractfile(member)
                assert content is not None
                names.remove(member.name)
                yield member.name, content.read()


def _zip_members(path: Path, names: set[str], limit: int) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(names & set(archive.namelist())):
            with archive.open(name) as member:
                content = member.read(limit + 1)
            if len(content) > limit:
                raise SourceError(f"its archive holds a file of more than {limit:,} bytes")
            yield name, content


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[bool]:
    """Hold the lock file `path`, so that one process at a time does the work in the block.

    While another process holds it, `waiting` is printed once. Yields whether the lock is real:
    file systems without locks are worked on without.
    """
    told = False
    while (held := files.lock(path)) is None:
        if not told:
            say(waiting)
        told = True
        time.sleep(0.1)
    file, real = held
    with file:
        yield real
