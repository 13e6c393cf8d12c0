"""The options of ``study`` and ``sweep`` that decide where runs train."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lenet_lightning import arguments
from lenet_lightning.arguments import Parser
from lenet_lightning.errors import UserError
from lenet_lightning.study.executors import Config, LocalExecutor, Make

MAX_AUTO_JOBS = 16
"""As many runs at a time as ``--jobs auto`` goes: each holds its dataset in memory."""


def add(parser: Parser) -> None:
    """Add what decides where runs train."""
    parser.add_argument(
        "--jobs",
        default="auto",
        metavar="N",
        help="runs at a time; auto (the default) is one a GPU, or one a processor core up to 16",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="where runs train: local (the default), or on the Ray cluster that RAY_ADDRESS names",
    )
    parser.add_argument(
        "--gpu_share",
        type=arguments.share,
        default=1.0,
        metavar="SHARE",
        help="how much of a GPU a run takes with --executor ray, such as 0.25",
    )


def add_logs(parser: Parser, command: str) -> None:
    """Add where the runs of a study or sweep are kept."""
    parser.add_argument(
        "--logs",
        type=Path,
        default=Path("lightning_logs"),
        metavar="FOLDER",
        help=f"folder of all runs; the {command}'s are in FOLDER/<its name>",
    )


def choose(options: argparse.Namespace) -> Make:
    """Return what makes the executor that the options ask for.

    Raises:
        UserError: A value does not fit.
    """
    jobs = options.jobs
    if jobs != "auto" and (not jobs.isdigit() or int(jobs) < 1):
        raise UserError(f"--jobs {jobs}: expected a whole number from 1, or auto")
    if options.executor == "ray" and jobs != "auto":
        raise UserError("--jobs is of this machine; a Ray cluster trains what its nodes can hold")
    if options.executor == "ray":
        from lenet_lightning.study.ray_executor import RayExecutor

        return lambda configs, paths, command: RayExecutor(
            configs, paths, command, options.gpu_share
        )
    return lambda configs, *_: local(configs, jobs)


def local(configs: Sequence[Config], jobs: str) -> LocalExecutor:
    """The processes of this machine; several GPUs go to the runs in turn."""
    # Imported here: `study --help` answers without torch.
    from lenet_lightning.process import cores

    devices = gpus(configs)
    number = len(devices) or min(cores(), MAX_AUTO_JOBS) if jobs == "auto" else int(jobs)
    number = max(1, min(number, len(configs)))
    threads = max(1, cores() // number)
    return LocalExecutor(number, threads, devices if number > 1 and len(devices) > 1 else ())


def gpus(configs: Iterable[Config]) -> tuple[str, ...]:
    """The CUDA devices that the runs may use; none if they all ask for the processor."""
    accelerators = {(config.get("trainer") or {}).get("accelerator") for config in configs}
    if accelerators <= {"cpu"}:
        return ()
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    return tuple(names[: torch.cuda.device_count()])
