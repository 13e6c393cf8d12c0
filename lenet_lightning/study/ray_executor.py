"""The runs of a study as tasks of a Ray cluster, which the user has started."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from contextlib import ExitStack, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from lenet_lightning import files
from lenet_lightning.errors import UserError
from lenet_lightning.study.executors import GRACE, Config
from lenet_lightning.study.task import Outcome, Task

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    ray = None

CANCELLED = Outcome("cancelled", interrupted=130)
RETRIES = 5
"""How often a run is started again whose node or process died."""

START = (
    "start a cluster with ray start --head, and name it: export RAY_ADDRESS=ADDRESS:6379 "
    "(docs/cluster.md)"
)


class RayExecutor:
    """Trains runs as Ray tasks; one whose node dies resumes elsewhere from its last epoch.

    Args:
        configs: The configurations of all runs.
        paths: Files and folders that every node must see; the last one is written to.
        command: What to repeat once the head of a cluster that died is back.
        gpu_share: How much of each GPU a run takes.

    Raises:
        UserError: There is no such cluster, or none of its nodes has what a run needs.
    """

    def __init__(
        self, configs: Sequence[Config], paths: Sequence[Path], command: str, gpu_share: float = 1
    ) -> None:
        self._configs = configs
        self._paths = [Path.cwd(), *(path.absolute() for path in paths)]
        self._checked = False
        self._checking = threading.Lock()
        self._command = command
        self._refs: dict[Future[Outcome], Any] = {}
        self._gpu_share = gpu_share
        self._lost = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # no run is handed over after either
        with ExitStack() as entered:
            # What Ray says of nodes that die, until its threads have ended; the standard output is
            # for results.
            entered.enter_context(redirect_stdout(sys.stderr))
            self._address = connect()
            entered.callback(ray.shutdown)
            self.jobs = self._slots()
            self._entered = entered.pop_all()
        self._fit = ray.remote(max_retries=RETRIES)(_fit)
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, task: Task) -> Future[Outcome]:
        """Hand a run to the cluster, with what its configuration needs.

        Raises:
            UserError: A node cannot train; told before the first run.
        """
        with self._checking:
            if not self._checked and not self._stopped.is_set():
                self._check_nodes(self._paths)
                self._checked = True
        future: Future[Outcome] = Future()
        with self._lock:
            if self._stopped.is_set() or self._lost.is_set():
                future.set_result(CANCELLED)
                return future
            cpus, gpus = self._resources(task.config)
            fit = self._fit.options(num_cpus=cpus, num_gpus=gpus)
            ref = self._refs[future] = fit.remote(task, _threads(task.config), os.getcwd())
        ref.future().add_done_callback(lambda done: self._ended(future, done))
        return future

    def cancel(self, future: Future[Outcome]) -> None:
        """Send SIGINT to a run; one that waits does not start."""
        if not self._lost.is_set() and not future.done():
            ray.cancel(self._refs[future], force=False)

    def stop(self) -> None:
        """Cancel what still runs, wait until it is saved, and leave the cluster."""
        with self._lock:
            self._stopped.set()
        left = [future for future in self._refs if not future.done()]
        if left and not self._lost.is_set():
            print("Stopping; the current runs are being saved.", file=sys.stderr, flush=True)
            for future in left:
                self.cancel(future)
            wait(left, GRACE)
        if not self._lost.is_set():  # without its head, it would be waited for
            self._entered.close()
        for future in left:
            with suppress(InvalidStateError):
                future.set_result(CANCELLED)

    def _ended(self, future: Future[Outcome], done: Future[Outcome]) -> None:
        """Turn what Ray says of a task into an outcome."""
        try:
            outcome = done.result()
        except (ray.exceptions.TaskCancelledError, CancelledError):
            outcome = CANCELLED
        except ray.exceptions.RayError as error:
            outcome = Outcome(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        with suppress(InvalidStateError):  # the head is gone, and was said to be
            future.set_result(outcome)

    def _resources(self, config: Config) -> tuple[int, float]:
        """The processor cores and GPUs of a run."""
        trainer = config.get("trainer") or {}
        devices, accelerator = trainer.get("devices"), trainer.get("accelerator")
        devices = len(devices) if isinstance(devices, list) else devices
        count = max(1, devices) if isinstance(devices, int) else 1  # auto: what a run is given
        on_gpu = accelerator in ("gpu", "cuda") or (
            accelerator in (None, "auto") and "GPU" in ray.cluster_resources()
        )
        cpus = _threads(config) * count
        return cpus, self._gpu_share * count if on_gpu else 0

    def _slots(self) -> int:
        """How many of the runs fit on the cluster at a time.

        Raises:
            UserError: One fits on no node.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        slots = []
        for cpus, gpus in {self._resources(config) for config in self._configs}:
            fits = [
                min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else 1e9)
                for node in nodes
            ]
            slots.append(int(sum(fits)))
            if not slots[-1]:
                raise UserError(
                    f"No node of the Ray cluster has the {cpus} processor cores and {gpus:g} GPUs "
                    "that a run needs: add one with ray start --address, or change threads, "
                    "trainer.accelerator or --gpu_share."
                )
        return min(slots, default=1)

    def _check_nodes(self, paths: list[Path]) -> None:
        """Let every node say whether it can train, and whether strangers can use it.

        Raises:
            UserError: One cannot; the sentence of the first.
        """
        from lenet_lightning.store.code_version import code_version
        from lenet_lightning.study.report import data_figures

        nodes = [node for node in ray.nodes() if node["Alive"]]
        wanted = data_figures.datasets_of(self._configs)
        probe = paths[-1] / f".probe_{os.getpid()}"
        files.replace(probe, "seen")
        try:
            answers = []
            for node in nodes:
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ask = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(
                    _examination()
                )
                needed = [*map(str, paths), str(probe)] if node["Resources"].get("CPU") else []
                answers.append(ask.remote(needed, code_version(), wanted))
            for node, answer in zip(nodes, answers, strict=True):
                try:
                    problem = ray.get(answer)
                except ray.exceptions.RayError as error:
                    alive = {each["NodeID"] for each in ray.nodes() if each["Alive"]}
                    if node["NodeID"] not in alive:  # it has died, and will train nothing
                        continue
                    problem = f"cannot be asked: {' '.join(str(error).split())[:300]}"
                if problem:
                    name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                    raise UserError(f"The node {name} of the Ray cluster {problem}.")
        finally:
            probe.unlink()

    def _watch(self) -> None:
        """End the study when the head is gone; Ray itself would end the process after a minute."""
        misses = 0
        while not self._stopped.wait(2):
            misses = 0 if answers(self._address) else misses + 1
            if misses == 3:
                with self._lock:
                    self._lost.set()
                error = UserError(
                    f"The head of the Ray cluster at {self._address} is gone: start the cluster "
                    f"again; to resume:\n  {self._command}"
                )
                for future in list(self._refs):
                    with suppress(InvalidStateError):  # it has ended
                        future.set_exception(error)
                return


def connect() -> str:
    """Connect to the cluster that ``RAY_ADDRESS`` names; return the address of its head.

    Raises:
        UserError: Ray is not installed, there is no cluster, or it has no or another token.
    """
    if ray is None:
        raise UserError("--executor ray needs the package ray: pip install 'lenet-lightning[ray]'.")
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise UserError(
            "--executor ray: RAY_AUTH_MODE is not token: whoever reaches a cluster without a token "
            "can run code on it, and Ray listens on every address of a machine: ray get-auth-token "
            "--generate, and export RAY_AUTH_MODE=token on every node and here (docs/cluster.md)."
        )
    address = os.environ.get("RAY_ADDRESS", "")
    if not address or "://" in address:
        given = f"RAY_ADDRESS is {address}" if address else "RAY_ADDRESS is not set"
        raise UserError(f"--executor ray: {given}: {START}.")
    if address != "auto" and not answers(address):
        raise UserError(f"--executor ray: nothing answers at RAY_ADDRESS {address}: {START}.")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of changes in Ray to come
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        text = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"--executor ray: RAY_ADDRESS {address}: {text}. The cluster must have the token, the "
            "Python and the Ray of this command (docs/cluster.md)."
        ) from error
    finally:
        for number, handler in handlers.items():  # which Ray replaces
            signal.signal(number, handler)
    return str(ray.get_runtime_context().gcs_address)


def answers(address: str) -> bool:
    """Whether something listens at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _threads(config: Config) -> int:
    """The threads that a configuration asks for; one if it leaves them open."""
    threads = config.get("threads")
    return threads if isinstance(threads, int) else 1


def _fit(task: Task, threads: int, folder: str) -> Outcome:
    """Train one run on a node."""
    from lenet_lightning.study import worker

    os.chdir(folder)
    outcome = worker.fit(task, threads)
    if outcome.interrupted == 143:  # its node is stopped; Ray starts it elsewhere
        os._exit(1)
    return outcome


def _examination() -> Any:
    """What a node is asked; a closure, which nodes without this package can unpickle."""

    def examine(paths: list[str], code: str, wanted: list[tuple[str, str, bool]]) -> str:
        import os

        if os.environ.get("RAY_AUTH_MODE") != "token":
            return "asks nobody for a token: start it with RAY_AUTH_MODE=token"
        if not paths:  # without a processor, it trains nothing
            return ""
        try:
            from lenet_lightning.data import fetch
            from lenet_lightning.errors import UserError
            from lenet_lightning.store.code_version import code_version
        except ImportError as error:
            return f"cannot import lenet_lightning ({error}): install it there"
        for path in paths:
            if not os.path.exists(path):
                return f"does not see {path}: put it on a file system that every node shares"
        if code_version() != code:
            return "has another version of lenet_lightning: install the same on every node"
        os.chdir(paths[0])
        for name, root, download in wanted:
            try:
                fetch.fetch(name, root, download)
            except UserError as error:
                return f"has no {name}: {str(error).rstrip('.')}"
        return ""

    return examine
