"""Worker processes that share the runs of a study."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from lenet_lightning.study import worker
from lenet_lightning.study.worker import Outcome, Task

GRACE = 60.0
"""Seconds that workers have to save their runs once they are told to stop."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    key: str = ""


@dataclass
class Pool:
    """Runs tasks in `jobs` processes; each pays torch's imports once.

    A worker that dies (out of memory, a crash in native code) fails its own run only: another
    takes its place.

    Attributes:
        jobs: How many runs at a time.
        threads: Processor threads of each worker.
        devices: ``CUDA_VISIBLE_DEVICES`` of each worker in turn; empty to leave it alone.
    """

    jobs: int
    threads: int
    devices: tuple[str, ...] = ()
    _workers: list[_Worker] = field(default_factory=list)

    def run(
        self,
        stages: Iterable[Iterable[tuple[str, Task]]],
        ended: Callable[[str, Outcome], None],
        tick: Callable[[list[str]], None],
    ) -> None:
        """Run every task.

        Args:
            stages: Keys and tasks, in the order in which they start; a stage waits for the end of
                the one before it.
            ended: Called with a key and its outcome when a run ends.
            tick: Called about once a second with the keys that are running.

        Raises:
            Interrupted: As it came in, once the workers have saved their runs.
        """
        slots: list[_Worker | None] = [None] * self.jobs
        try:
            for tasks in stages:
                self._run(list(tasks), slots, ended, tick)
        finally:
            self._stop(interrupted=any(w.key for w in self._workers))

    def _run(
        self,
        tasks: list[tuple[str, Task]],
        slots: list[_Worker | None],
        ended: Callable[[str, Outcome], None],
        tick: Callable[[list[str]], None],
    ) -> None:
        waiting = tasks[::-1]
        while waiting or any(slot and slot.key for slot in slots):
            for number, slot in enumerate(slots):
                if waiting and (slot is None or not slot.key):
                    if slot and not slot.process.is_alive():
                        slot = None
                    slots[number] = slot = slot or self._start(number)
                    slot.key, task = waiting.pop()
                    with suppress(BrokenPipeError):
                        slot.pipe.send(task)
            busy = [slot for slot in slots if slot and slot.key]
            tick([slot.key for slot in busy])
            ready = wait([slot.pipe for slot in busy], timeout=1.0)
            for number, slot in enumerate(slots):
                if slot and slot.pipe in ready:
                    key, slot.key = slot.key, ""
                    outcome = self._receive(slot)
                    if outcome is None:
                        slots[number] = None
                    ended(key, outcome or self._death(slot))

    def _start(self, number: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        environment = {"OMP_NUM_THREADS": str(self.threads)}
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = self.devices[number % len(self.devices)]
        arguments = (there, self.threads, environment)
        process = context.Process(target=worker.main, args=arguments, name=f"study-{number}")
        process.start()
        there.close()
        started = _Worker(process, here)
        self._workers.append(started)
        return started

    @staticmethod
    def _receive(slot: _Worker) -> Outcome | None:
        """The outcome, or None if the worker died."""
        try:
            outcome: Outcome = slot.pipe.recv()
            return outcome
        except (EOFError, OSError):
            return None

    @staticmethod
    def _death(slot: _Worker) -> Outcome:
        slot.process.join()
        code = slot.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -9 else ""
        return Outcome(f"Its process {how}{hint}.")

    def _stop(self, interrupted: bool) -> None:
        """Let idle workers go; ask busy ones to save their runs, and wait for them."""
        for each in self._workers:
            if interrupted:
                each.process.terminate()
            else:
                with suppress(BrokenPipeError, OSError):
                    each.pipe.send(None)
        if interrupted:
            print("Stopping; the current runs are being saved.", file=sys.stderr, flush=True)
        deadline = time.monotonic() + GRACE
        try:
            for each in self._workers:
                each.process.join(max(0.0, deadline - time.monotonic()))
        finally:
            for each in self._workers:
                if each.process.is_alive():
                    each.process.kill()
                    each.process.join()
                each.pipe.close()
            self._workers.clear()
