"""Where the runs of a study train, as futures: in processes of this machine, or elsewhere."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from lenet_lightning.study.task import Outcome, Task

GRACE = 60.0
"""Seconds that runs have to save themselves once they are told to stop."""

PRELOADED = ("lenet_lightning.study.worker", "torch.utils.tensorboard")
"""What every run imports; one process imports it, of which the runs are forks."""


Config = Mapping[str, Any]


class Executor(Protocol):
    """Trains runs side by side; any thread may call it.

    Attributes:
        jobs: How many runs at a time, for an estimate of the time left.
    """

    jobs: int

    def submit(self, task: Task) -> Future[Outcome]:
        """Train a run as soon as there is room; runs start in the order in which they came."""

    def cancel(self, future: Future[Outcome]) -> None:
        """Ask a run to save itself and end, as Ctrl-C does; one that waits does not start."""

    def stop(self) -> None:
        """Cancel what still runs, wait for it, and release every resource."""


Make = Callable[[Sequence[Config], Sequence[Path], str], Executor]
"""Makes an executor of the configurations of its runs, the files and folders that each run reads
and writes, the last one the folder of all, and the command to repeat after a failure."""


class LocalExecutor:
    """Trains each run in a process of its own, forked from one that has paid the imports.

    A process that dies (out of memory, a crash in native code) fails its own run only.

    Args:
        jobs: How many runs at a time.
        threads: Processor threads of each run.
        devices: ``CUDA_VISIBLE_DEVICES`` of the runs in turn; empty to leave it alone.
    """

    def __init__(self, jobs: int, threads: int, devices: tuple[str, ...] = ()) -> None:
        self.jobs = jobs
        self._cores = threads
        self._devices: SimpleQueue[str] = SimpleQueue()
        for number in range(jobs):
            self._devices.put(devices[number % len(devices)] if devices else "")
        self._threads = ThreadPoolExecutor(jobs)
        self._processes: dict[Future[Outcome], BaseProcess] = {}
        self._cancelled: set[Future[Outcome]] = set()
        # multiprocessing reads an exit code once, from whichever thread asks for it first.
        self._lock = threading.Lock()

    def submit(self, task: Task) -> Future[Outcome]:
        """Train a run as soon as a slot is free."""
        future: Future[Outcome] = Future()
        waiting = self._threads.submit(self._train, future, task)
        waiting.add_done_callback(lambda waiting: _never_began(future, waiting))
        return future

    def cancel(self, future: Future[Outcome]) -> None:
        """Send SIGTERM to a run; one that waits does not start."""
        self._cancelled.add(future)
        future.cancel()
        if process := self._processes.get(future):
            process.terminate()

    def stop(self) -> None:
        """Cancel what still runs, and kill what has not saved itself after ``GRACE`` seconds."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        running = list(self._processes)
        if running:
            print("Stopping; the current runs are being saved.", file=sys.stderr, flush=True)
        for future in running:
            self.cancel(future)
        for future in wait(running, GRACE).not_done:
            if process := self._processes.get(future):
                process.kill()
        self._threads.shutdown()

    def _train(self, future: Future[Outcome], task: Task) -> None:
        if not future.set_running_or_notify_cancel():
            return
        device = self._devices.get()
        try:
            future.set_result(self._outcome(future, task, device))
        except BaseException as error:  # the future hands it to whoever waits
            future.set_exception(error)
        finally:
            self._devices.put(device)

    def _outcome(self, future: Future[Outcome], task: Task, device: str) -> Outcome:
        """Train a run in a process of its own, and wait for its end."""
        here, there = multiprocessing.Pipe(duplex=False)
        with self._lock:
            arguments = (there, task, self._cores, device)
            process = start_context().Process(target=_work, args=arguments)
            process.start()
        there.close()
        self._processes[future] = process
        if future in self._cancelled:  # before its process was known
            process.terminate()
        try:
            with here:
                outcome: Outcome = here.recv()
        except EOFError:
            with self._lock:
                process.join()
            outcome = _death(process.exitcode or 0)
            if future in self._cancelled:
                outcome = Outcome(outcome.error, interrupted=143)
        del self._processes[future]
        process.join()
        return outcome


def _never_began(future: Future[Outcome], waiting: Future[None]) -> None:
    """End a run that waited as the executor was stopped."""
    if waiting.cancelled() and future.set_running_or_notify_cancel():
        future.set_result(Outcome("cancelled", interrupted=143))


def start_context() -> Any:
    """How processes start: forked from one that has the imports, where forks are safe."""
    if sys.platform == "darwin":  # its system libraries do not survive a fork
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # nor do the threads that an import would start
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
    return context


def _work(outcome: Connection, task: Task, threads: int, device: str) -> None:
    """Train one run in a process of its own."""
    # Away from the terminal's group: a Ctrl-C reaches the study alone, which stops its runs.
    os.setpgid(0, 0)
    if device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from lenet_lightning.study import worker

    outcome.send(worker.fit(task, threads))


def _end_with_parent() -> None:
    """Stop the run, as Ctrl-C would, when the study is gone without a word."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _death(code: int) -> Outcome:
    """Say how a process died."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -9 else ""
    return Outcome(f"Its process {how}{hint}.")
