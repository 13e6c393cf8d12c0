"""One run of ``fit`` within a process of an executor."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from lenet_lightning.cli import lightning_cli
from lenet_lightning.errors import UserError
from lenet_lightning.store.code_version import code_version
from lenet_lightning.study.results import complete
from lenet_lightning.study.task import Outcome, Task

code_version()  # reads every file of the package: once, before the runs are forked


def fit(task: Task, threads: int) -> Outcome:
    """Train one run in the main thread of this process; whatever goes wrong is its outcome.

    One that is complete is left alone: a task that is started again may have lost its outcome only.

    Args:
        task: The run.
        threads: Processor threads that it may use.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    if complete(task.config):
        return Outcome()
    sys.argv[1:] = task.arguments
    with _printing_to(task.log):
        return _fit(task.arguments)


def _fit(arguments: list[str]) -> Outcome:
    try:
        lightning_cli.main(arguments)
    except (KeyboardInterrupt, SystemExit) as end:
        code = end.code if isinstance(end, SystemExit) else 130
        if code in (None, 0):
            return Outcome()
        text = code if isinstance(code, str) else f"exit code {code}"
        return Outcome(text, interrupted=int(code) if code in (130, 143) else 0)
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
