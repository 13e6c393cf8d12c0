"""Files in folders that others may have made: bounded reads, atomic writes, locks.

Nothing here writes through a link, waits for a pipe or reads without a limit.
"""

import fcntl
import os
import re
import secrets
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lenet_lightning.errors import UserError

# Seconds to wait for what a pipe brings next.
SILENCE = 10.0

# Files that writes stopped by SIGKILL left: a dot, the name, and a number.
LEFTOVER = re.compile(r"\..+\.(ckpt|csv|json|npz|png|sha256|yaml)\.[0-9a-f]+")


def read(path: Path, limit: int, pipes: bool = False) -> bytes:
    """Return the content of a regular file, or what a pipe brings, in bounded time.

    Args:
        path: the file.
        limit: the most bytes that it may have.
        pipes: take a pipe too, such as bash's ``<(...)``; it is read once.

    Raises:
        OSError: it cannot be opened or read.
        UserError: it is a device or a folder, larger than ``limit``, or a pipe that is not taken or
            that nothing writes to.
    """
    # Without O_NONBLOCK, opening a pipe waits until someone writes.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    kind = os.fstat(handle).st_mode
    pipe = pipes and stat.S_ISFIFO(kind)
    if not pipe and not stat.S_ISREG(kind):
        os.close(handle)
        raise UserError(f"{path} is not a regular file: remove it, or name another.")
    content, part = b"", None
    with open(handle, "rb", buffering=0) as stream:
        while part != b"" and len(content) <= limit:
            if pipe and not select.select([handle], [], [], SILENCE)[0]:
                raise UserError(f"{path} is a pipe that nothing writes to: name a file.")
            part = stream.read(limit + 1 - len(content))
            content += part or b""
    if len(content) > limit:
        raise UserError(f"{path} has more than {limit:,} bytes: it is damaged, or another file.")
    return content


def check_kind(option: str, value: str | os.PathLike[str]) -> None:
    """Refuse a pipe, a socket or a device as the value of an option, whatever the option means.

    Raises:
        UserError: naming the option.
    """
    try:
        mode = os.stat(value).st_mode
    except (OSError, ValueError):  # no path, or none that can be read
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{option} is {value}, a pipe or device: expected a file or a folder.")


@contextmanager
def written(path: Path, content: str | bytes | memoryview) -> Iterator[None]:
    """Write a file beside its destination, flush it to disk, and rename it after the block.

    A link in its place is replaced, not followed.

    Raises:
        OSError: the file cannot be written; what was there is still there.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")  # file names may not be UTF-8
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def replace(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file so that it is complete or not there; see :func:`written`.

    Raises:
        UserError: the file cannot be written; what was there is still there.
    """
    try:
        with written(path, content):
            pass
    except OSError as error:
        raise UserError(unwritable(path, error)) from error


def unwritable(path: Path, error: OSError) -> str:
    """Return the sentence for a file that the system refuses to write."""
    return (
        f"{path} cannot be written ({error.strerror}): make room, or make its folder writable; "
        "what was saved before is still valid."
    )


def user_cache() -> Path:
    """Return the folder of this package in the user's cache folder; it may not be there yet."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return Path(home if os.path.isabs(home) else os.path.expanduser("~/.cache"), "lenet_lightning")


def make_folder(path: Path, parents: bool = True) -> Path:
    """Make a folder, or take the one that is there; return it.

    Raises:
        OSError: it cannot be made.
        UserError: it is a link, through which files would be written elsewhere.
    """
    if path.is_symlink():
        raise UserError(f"{path} is a link: replace it with a folder, or name the one it leads to.")
    path.mkdir(parents=parents, exist_ok=True)
    return path


def check_links(folder: Path) -> None:
    """Refuse a folder in which a link leads out of it.

    Raises:
        UserError: naming the link.
    """
    inside = folder.resolve()
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *names)):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise UserError(f"{path} is a link that leads out of {folder}: remove it.")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left; only while the folder is locked."""
    for path in (*folder.glob(".*"), *folder.glob("*/.*")):
        if LEFTOVER.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def lock(path: Path) -> tuple[IO[bytes], bool] | None:
    """Lock a file until the returned one, or the process, is closed; make it if need be.

    Returns:
        The open file, and whether its file system has locks; None while another process holds it.

    Raises:
        OSError: the file cannot be opened; a link is not followed.
    """
    # Not filelock: versions of it that torch accepts truncate the file.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.fdopen(os.open(path, flags, 0o666), "rb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        return file, False
    return file, True
