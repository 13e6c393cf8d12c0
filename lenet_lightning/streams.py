"""Standard streams that the caller has closed, and terminals that are gone."""

import os
import sys
from contextlib import suppress

from lenet_lightning.errors import printable


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


def print_error(*words: object) -> None:
    """Print a line to stderr, for as long as there is someone to read it."""
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
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
