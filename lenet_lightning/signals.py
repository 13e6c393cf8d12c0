"""Ctrl-C and the system's requests to stop, as one exception with the conventional exit code."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Interrupted(SystemExit):
    """A signal asked the program to stop; its code is 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)

    def __str__(self) -> str:
        return f"Stopped by {self.signal.name}."


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise ``Interrupted``; further signals are ignored while the program shuts down."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the signals into ``Interrupted`` within the block (main thread only).

    A SIGHUP that is ignored stays so: ``nohup`` asked for it.
    """
    numbers = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
