"""Distributed training: variables of launchers, and decisions that rank 0 makes for all ranks."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lenet_lightning.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

Decision = TypeVar("Decision")

# What torchrun, Lightning or a user who starts each process by hand sets beside MASTER_PORT.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE")


def drop_stray_variables() -> None:
    """Remove from the environment the rank that a launcher gave to another process.

    Call it before Lightning is imported: it reads these variables at import, and starts no
    processes of its own where it finds ``LOCAL_RANK``. Without ``MASTER_PORT`` processes cannot
    find each other, and without ``SLURM_NTASKS`` ``srun`` did not start this one.
    """
    stray = () if "MASTER_PORT" in os.environ else RANK_VARIABLES
    for name in (*stray, *(() if "SLURM_NTASKS" in os.environ else ("SLURM_PROCID",))):
        os.environ.pop(name, None)
    if not stray:  # a process that loses another one says so itself, in one line
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def count_tasks_per_node() -> None:
    """Let Lightning take ``srun -n N``, which sets no ``SLURM_NTASKS_PER_NODE``.

    Raises:
        ValueError: SLURM's variables hold no whole numbers.
    """
    tasks, nodes = (int(os.environ.get(f"SLURM_{name}", "1")) for name in ("NTASKS", "NNODES"))
    if tasks > 1 and tasks % nodes == 0:
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(tasks // nodes))


def has_lost_peer(error: RuntimeError) -> bool:
    """Tell whether another process, which has said why, has left the group of processes."""
    from torch.distributed import DistNetworkError

    lost = re.search(r"(closed|reset) by peer|Broken pipe", str(error))
    return lost is not None or isinstance(error, DistNetworkError)


def decide_once(strategy: Strategy, decide: Callable[[], Decision]) -> Decision:
    """Call ``decide`` on global rank 0, and return its result on every rank.

    The other processes are started and the process group is set up here, unless that is done.
    On one device, ``decide`` is simply called.

    Args:
        strategy: the trainer's.
        decide: its result must be picklable.

    Raises:
        UserError: ``decide`` refused, on rank 0.
        OSError: the system refused a file to ``decide``, on rank 0.
        SystemExit: ``decide`` refused, on the other ranks: code 2, so that it is said once.
    """
    decision: Decision | None = None
    error: UserError | OSError | None = None
    if strategy.is_global_zero:
        try:
            decision = decide()
        except (UserError, OSError) as refusal:
            error = refusal
    refused = error is not None
    if launcher := strategy.launcher:
        environment = getattr(strategy, "cluster_environment", None)
        if not refused or (environment and environment.creates_processes_externally):
            try:
                launcher.launch(strategy.setup_environment)
                decision, refused = strategy.broadcast((decision, refused))
            except BaseException:
                launcher.kill(signal.SIGKILL)
                raise
    if error:
        raise error
    if refused:
        raise SystemExit(2)
    return decision  # type: ignore[return-value]
