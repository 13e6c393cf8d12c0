"""Standard streams that are closed or cannot be written, readers and terminals that are gone."""

import io
import os
import stat
import sys
from contextlib import suppress
from typing import Any

from lenet_lightning.errors import printable, what_stopped


def open_closed() -> None:
    """Direct standard streams that are closed to the null device.

    The next file that is opened would otherwise take the stream's number, and receive what C code
    prints; Python's own stream would be None.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = os.fdopen(number, mode, encoding="utf-8", errors="replace", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


class Pipe(io.FileIO):
    """An output whose reader may stop reading, as ``head`` does: what follows is dropped."""

    def write(self, data: Any) -> int:
        """Write bytes, to the null device once the reader is gone."""
        try:
            return super().write(data)
        except BrokenPipeError:
            to_null(self.fileno())
            return super().write(data)


def outlive_readers() -> None:
    """Let the command finish where the reader of its output stops reading."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and stat.S_ISFIFO(os.fstat(number).st_mode):
            buffer = io.BufferedWriter(Pipe(number, "w", closefd=False))
            text = io.TextIOWrapper(
                buffer, stream.encoding, stream.errors, line_buffering=stream.line_buffering
            )
            setattr(sys, name, text)


def to_null(number: int) -> None:
    """Direct a stream to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def flush(code: int) -> int:
    """Write out what was printed; return the exit code, 2 where it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        print_error(what_stopped(error))
        to_null(sys.stdout.fileno())
        return code or 2
    return code


def print_error(*words: object) -> None:
    """Print a line to stderr, unless it is closed."""
    with suppress(OSError):
        said = printable(" ".join(map(str, words)))
        print("lenet_lightning:", said, file=sys.stderr, flush=True)


def drop_unwritable() -> None:
    """Direct output that can no longer be written, as after a hangup, to the null device.

    The interpreter would otherwise fail at its end, and lose the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            to_null(stream.fileno())
