"""What a command that trains or evaluates needs of the process around it."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores() -> int:
    """Return how many processor cores this process may use, ``OMP_NUM_THREADS`` at most."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(limit)) if limit.isdecimal() and int(limit) else cores()


def spare_gpu_checks() -> None:
    """Keep torch from looking for a GPU at every optimizer step where there is none.

    Lightning asks torch to look through the driver's library, which fails slowly without a driver.
    """
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def quiet() -> None:
    """Keep Lightning's remarks on its own doings from the terminal; warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Output of the callbacks and profilers that a configuration names.
    for name in ("lightning.pytorch.callbacks", "lightning.pytorch.profilers"):
        logging.getLogger(name).setLevel(logging.INFO)
    # Lightning 2.6 calls a function that torch 2.15 renames; nothing a user can do.
    warnings.filterwarnings("ignore", r".*LeafSpec.*is deprecated", FutureWarning)
    # A run's folder is its own: what lies there is its first checkpoint, or what it continues.
    warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty")
    # No layer is sharded here; and what it averages is what a checkpoint holds as its weights.
    warnings.filterwarnings("ignore", r"You're using the WeightAveraging callback")
    # For the same reason the test of the best checkpoint runs without it; of a training that goes
    # on without a callback, the printed changes of settings say so.
    warnings.filterwarnings("ignore", r"Be aware that when using `ckpt_path`, callbacks used")
    # A checkpoint after some steps holds the weights after them, as one expects.
    warnings.filterwarnings("ignore", r"Using ModelCheckpoint with manual optimization")
    # With max_steps Lightning counts calls of the training step; the epoch had ended.
    warnings.filterwarnings("ignore", r"You're resuming from a checkpoint that ended before")
    # The changed settings, which are printed, say the same.
    warnings.filterwarnings("ignore", r"The checkpoint was not created with WeightAveraging")
    # Where SLURM is installed, a command outside of a job is not a mistake.
    warnings.filterwarnings("ignore", r"The `srun` command is available on your system")
    # A moved run folder: a fit that resumes there follows it, an evaluation needs nothing of it.
    warnings.filterwarnings("ignore", r"The dirpath has changed from")


@contextmanager
def silent_writers() -> Iterator[None]:
    """Keep the traceback of a TensorBoard writer that cannot write from the terminal.

    Its thread hands the error to the main thread, which says it in one sentence.
    """
    before = threading.excepthook

    def silent(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, OSError):
            before(args)

    threading.excepthook = silent
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def denormals_are_zero() -> Iterator[None]:
    """Let numbers below 1e-38 be zero, as TensorFlow does, and leave the process as it was.

    The means that Adam keeps of gradients that have vanished become that small and stay so, and
    with a tenth of them its step takes several times as long.
    """
    smallest = sys.float_info.min
    before = smallest / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
