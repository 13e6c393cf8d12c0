"""Real processes that run a command, quickly: each is forked from one that has torch loaded."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot
import torch
import torch.utils.tensorboard
import yaml
from jsonargparse import Namespace

import lenet_lightning.cli.lightning_cli
import lenet_lightning.plotting
from lenet_lightning.__main__ import main

LOADED = (matplotlib.pyplot, torch.utils.tensorboard, lenet_lightning, Namespace)

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])

# Everything that a resumed run could get wrong: order, augmentation, dropout, a schedule per step,
# early stopping, several steps per execution with a remainder.
CONFIG = {
    "seed_everything": 3,
    "trainer": {
        "max_epochs": 3,
        "accelerator": "cpu",
        "logger": False,
        "callbacks": [
            {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 50}}
        ],
    },
    "model": {
        "network": {"dropout": 0.2},
        "l2": 0.001,
        "scheduler": {
            "class_path": "torch.optim.lr_scheduler.CosineAnnealingLR",
            "init_args": {"T_max": 2000},
        },
        "scheduler_interval": "step",
    },
    "data": {
        "class_path": "Digits",
        "init_args": {
            "batch_size": 12,
            "steps_per_execution": 5,
            "augmentation": {"rotation": 10.0},
            "train_polarity": "random",
        },
    },
}


class Ended(NamedTuple):
    """How a process ended; ``code`` is negative after a signal, as subprocess has it."""

    code: int
    out: str
    err: str


class Command:
    """``python -m lenet_lightning`` in a process of its own.

    Args:
        args: the command line.
        folder: working directory; what is printed goes to files beside it.
        fault: called in the process before the command.
    """

    def __init__(
        self, args: list[str], folder: Path, fault: Callable[[], None] | None = None
    ) -> None:
        self.log = folder.parent / f"{folder.name}.{time.monotonic_ns()}"
        self.process: BaseProcess = CONTEXT.Process(
            target=work, args=(args, folder, self.log, fault)
        )
        self.process.start()

    def signal(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.process.is_alive():
            os.kill(self.process.pid or 0, number)

    def wait(self) -> Ended:
        """Wait for the end."""
        self.process.join()
        read = [
            self.log.with_name(f"{self.log.name}.{name}").read_text() for name in ("out", "err")
        ]
        return Ended(self.process.exitcode or 0, *read)


def work(args: list[str], folder: Path, log: Path, fault: Callable[[], None] | None) -> None:
    """Run a command in this process, which ends with it."""
    for name, number in (("out", 1), ("err", 2)):
        file = os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    os.chdir(folder)
    torch.set_num_threads(1)
    sys.argv[1:] = args
    if fault:
        fault()
    sys.exit(main(args))


def run(args: list[str], folder: Path, fault: Callable[[], None] | None = None) -> Ended:
    """Run a command to its end."""
    return Command(args, folder, fault).wait()


def fit(folder: Path, *more: str) -> list[str]:
    """Return the command line that trains ``CONFIG`` in ``folder``."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    return ["fit", "--config", str(config), "--logs", str(folder / "logs"), "--name", "run", *more]
