"""Ways to bring files here safely: bounded downloads, package clients, archives.

Nothing in this module knows what a dataset is. A source that cannot deliver raises `SourceError`,
whose message is a short phrase.
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
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

TIMEOUT = 10.0
"""Longest wait for a connection and for each piece of an answer, in seconds."""
CHUNK = 1 << 16
"""Bytes that are read at a time."""
CLIENT_STALL = 60.0
"""A package client that receives nothing for this many seconds is stopped."""

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, ValueError)
"""What a damaged archive raises."""


class SourceError(Exception):
    """A source cannot deliver a file; the message is a short phrase that says why."""


def say(line: str) -> None:
    """Print a line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def _bar(name: str, total: int | None = None) -> tqdm:
    """Return a progress bar, shown on terminals only, for what takes over a second."""
    return tqdm(
        desc=name, total=total, unit="B", unit_scale=True, delay=1, leave=False, disable=None
    )


class _Bounded:
    """A progress bar as pooch expects it; raises once more than `limit` bytes have arrived."""

    def __init__(self, bar: tqdm, limit: int) -> None:
        self.bar, self.limit, self.close = bar, limit, bar.close
        self.total = self.received = 0

    def update(self, count: int) -> None:
        self.received += count  # the size of a chunk, also for the last one
        if max(self.total, self.received - CHUNK) > self.limit:
            raise SourceError(f"sends more than the {self.limit:,} bytes expected")
        self.bar.total = self.total or None
        self.bar.update(count)

    def reset(self) -> None:
        self.received = 0
        self.bar.reset()


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
    with _bar(path.name) as bar:
        progress = _Bounded(bar, limit)
        downloader = pooch.HTTPDownloader(progress, CHUNK, timeout=TIMEOUT, headers=headers)
        try:
            pooch.retrieve(url, known_hash, path.name, path.parent, downloader=downloader)
        except (RequestException, HTTPError) as error:
            raise SourceError(_phrase(error)) from error
        except ValueError as error:  # pooch found another digest
            raise SourceError(f"its {path.name} is not the published file") from error


def _phrase(error: Exception) -> str:
    """Return in a few words why a request failed."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"answered HTTP {response.status_code}"
    words = f"{type(error).__name__} {error}"
    phrases = {
        "timed out": f"no answer within {TIMEOUT:g} s",
        "SSLError": "its certificate is not accepted",
        "resolve": "host not found",
        "IncompleteRead": "broke off",
        "refused": "connection refused",
    }
    return next((phrase for sign, phrase in phrases.items() if sign in words), "no connection")


def run_client(command: Sequence[str], folder: Path, size: int) -> None:
    """Run a package client in `folder`, showing how many of about `size` bytes have arrived.

    Raises:
        SourceError: the client is not installed, fails, or receives nothing for a long time.
    """
    if shutil.which(command[0]) is None:
        raise SourceError(f"{command[0]} is not installed")
    log = folder / "client.log"
    with log.open("wb") as output, _bar(command[0], size) as bar:
        try:
            process = subprocess.Popen(
                command,
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
                    bar.n, received, moved = min(now, size), now, time.monotonic()
                    bar.refresh()
                if time.monotonic() - moved > CLIENT_STALL:
                    raise SourceError(f"nothing received for {CLIENT_STALL:g} s")
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        said = re.search(
            r"^\s*(?:npm error|npm ERR!|E:|dpkg-deb: error:)\s+(.+)",
            log.read_text(errors="replace"),
            re.MULTILINE,
        )
        words = said[1] if said else "failed without saying why"
        line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
        raise SourceError(line if len(line) <= 160 else f"{line[:157]}...")


def _bytes_under(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # clients move their files about
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def archive_members(path: Path, names: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the named files of a zip archive, or of a tar archive in its order.

    Nothing is extracted to disk, so no member can escape from a folder.

    Raises:
        SourceError: the archive is damaged, a member exceeds `limit` bytes, or one is missing.
    """
    missing = set(names)
    try:
        for name, size, reader in _members(path, missing):
            if size > limit:
                raise SourceError(f"its archive holds a file of {size:,} bytes")
            if name in missing:
                missing.remove(name)
                with reader() as file:
                    content = file.read()
                yield name, content
            if not missing:
                return
    except DAMAGED as error:
        raise SourceError(f"its archive is damaged ({error})") from error
    raise SourceError(f"its archive holds no {min(missing)}")


def _members(path: Path, names: Collection[str]) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Yield name, size and reader of the named members of a zip or of each file of a tar."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:
            for name in sorted(set(names) & set(zipped.namelist())):
                yield name, zipped.getinfo(name).file_size, partial(zipped.open, name)
        return
    with tarfile.open(path) as archive:  # to reach a file, all before it are unpacked
        for member in archive:
            if member.isreg():
                yield member.name, member.size, partial(archive.extractfile, member)
