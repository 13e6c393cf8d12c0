"""A process that trains one run after another, as `fit` would, for the study that started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from lenet_lightning.errors import UserError


@dataclass(frozen=True)
class Task:
    """One run: the arguments of ``fit`` and the file that keeps what it prints."""

    arguments: list[str]
    log: Path


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``error`` is empty for a good end, else one sentence."""

    error: str = ""
    interrupted: bool = False


def main(tasks: Connection, threads: int, environment: dict[str, str]) -> None:
    """Train what comes through the pipe, and answer with an outcome, until None comes.

    Args:
        tasks: Where tasks come from and outcomes go to.
        threads: Processor threads that this worker may use.
        environment: Variables to set before torch is imported.
    """
    # Away from the terminal's group: a Ctrl-C reaches the study alone, which stops its workers.
    os.setpgid(0, 0)
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import torch

    from lenet_lightning.cli import lightning_cli

    torch.set_num_threads(threads)
    while (task := _next(tasks)) is not None:
        sys.argv[1:] = task.arguments
        with _printing_to(task.log):
            outcome = _fit(lightning_cli.main, task.arguments)
        with contextlib.suppress(BrokenPipeError):  # the study is gone; so is this worker soon
            tasks.send(outcome)
        if outcome.interrupted:
            return


def _next(tasks: Connection) -> Task | None:
    """The next task; None when there is none or the study is gone."""
    try:
        task: Task | None = tasks.recv()
    except EOFError:
        return None
    return task


def _fit(run: Callable[[list[str]], object], arguments: list[str]) -> Outcome:
    """Train one run; whatever goes wrong is its outcome and no more."""
    try:
        run(arguments)
    except (KeyboardInterrupt, SystemExit) as end:
        code = end.code if isinstance(end, SystemExit) else 130
        if code in (None, 0):
            return Outcome()
        text = code if isinstance(code, str) else f"exit code {code}"
        return Outcome(text, interrupted=code in (130, 143))
    except UserError as error:
        print(error, file=sys.stderr)
        return Outcome(str(error))
    except Exception as error:
        traceback.print_exc()
        return Outcome(f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Outcome()


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Send both standard streams, of C code too, to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, number in zip(saved, (1, 2), strict=True):
                os.dup2(stream, number)
                os.close(stream)


def _end_with_parent() -> None:
    """Stop the run, as Ctrl-C would, when the study is gone without a word."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
