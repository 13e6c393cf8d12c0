"""The trials of a sweep: asked of Optuna, trained by an executor, pruned, told."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from lenet_lightning.cli import lightning_cli
from lenet_lightning.errors import UserError
from lenet_lightning.signals import Interrupted
from lenet_lightning.store import run_folder
from lenet_lightning.study.executors import Executor
from lenet_lightning.study.sweep.plan import Interval, Sweep
from lenet_lightning.study.task import Outcome, Task

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState
except ImportError:
    optuna = None

JOURNAL = "optuna.log"
INDEX = "index"
ERROR = "error"


class Trials:
    """The trials of a sweep in its folder, which holds Optuna's journal.

    Args:
        sweep: The sweep.
        logs: The root of all run folders.

    Attributes:
        config: The configuration of a trial.
        monitor: The metric that they are compared by.
        minimised: Whether less of it is better.

    Raises:
        UserError: Optuna is not installed, or a value of the space is not valid.
    """

    def __init__(self, sweep: Sweep, logs: Path) -> None:
        if optuna is None:
            raise UserError("sweep needs the package optuna: pip install 'lenet-lightning[sweep]'.")
        self.sweep, self.logs = sweep, logs
        self.config = self.check()
        self.monitor = str(self.config["monitor"])
        self.minimised = "loss" in self.monitor
        # Of the parser, the executor, Optuna's sampler and warnings, which are not for threads.
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.logs / self.sweep.name

    def arguments(self, index: int, run: int, values: dict[str, Any]) -> list[str]:
        """The command line of a run, which does not use the test set."""
        sweep = self.sweep
        changes = {"data.protocol": "holdout"} | values | sweep.repeats[run]
        seed = changes.pop("seed_everything", 0)
        name = f"{sweep.name}/trial_{index:04}/run_{run}"
        place = [f"--name={name}", f"--logs={self.logs}", f"--seed_everything={seed}"]
        return ["fit", *sweep.setting(name, changes).arguments(), *place, "--skip_test=true"]

    def check(self) -> dict[str, Any]:
        """Parse a trial with every listed value and end of an interval; return a configuration.

        Raises:
            UserError: One is not valid.
        """
        ends = {
            key: (values.low, values.high) if isinstance(values, Interval) else values
            for key, values in self.sweep.space.items()
        }
        first = {key: values[0] for key, values in ends.items()}
        config = lightning_cli.parse(self.arguments(0, 0, first))
        for key, values in ends.items():
            for value in values[1:]:
                lightning_cli.parse(self.arguments(0, 0, first | {key: value}))
        return config

    def open(self) -> None:
        """Open the journal, and let what an earlier session left unfinished wait again."""
        sweep = self.sweep
        backend = JournalFileBackend(str(self.folder / JOURNAL))
        with quiet():
            pruners = {
                "none": optuna.pruners.NopPruner(),
                "median": optuna.pruners.MedianPruner(n_warmup_steps=2),
                "wilcoxon": optuna.pruners.WilcoxonPruner(),
            }
            self.study = optuna.create_study(
                study_name=sweep.name,
                storage=JournalStorage(backend),
                direction="minimize" if self.minimised else "maximize",
                pruner=pruners[sweep.prune],
                load_if_exists=True,
            )
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)

    def ended(self) -> dict[int, Any]:
        """Optuna's trials that are over, by their number in the sweep."""
        found = {}
        for trial in self.study.get_trials(deepcopy=False):
            failed = trial.state == TrialState.FAIL and ERROR in trial.user_attrs
            if failed or trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                found[trial.user_attrs[INDEX]] = trial
        return found

    def waiting(self) -> dict[int, dict[str, Any]]:
        """The values of each trial that is to be trained; empty where the sampler chooses."""
        over = self.ended()
        grid = self.sweep.grid() if self.sweep.sampler == "grid" else []
        values = {
            index: grid[index] if grid else {}
            for index in range(self.sweep.trials)
            if index not in over
        }
        for trial in self.study.get_trials(deepcopy=False):
            index = trial.user_attrs.get(INDEX)
            if index in values and trial.params.keys() == self.sweep.space.keys():
                values[index] = trial.params  # it was begun
        return values

    def run(self, executor: Executor) -> None:
        """Train every trial that waits, as many at a time as the executor has room for.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; once the executor has stopped, runs are saved and can be
                resumed.
        """
        self._stopping.clear()
        pool = ThreadPoolExecutor(executor.jobs)
        try:
            trials = [pool.submit(self._trial, executor, *each) for each in self.waiting().items()]
            for trial in as_completed(trials):
                trial.result()
        finally:
            self._stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _trial(self, executor: Executor, index: int, values: dict[str, Any]) -> None:
        """Train a trial, and tell Optuna how it ended."""
        if self._stopping.is_set():
            return
        trial = self._ask(index, values)
        state, value = TrialState.FAIL, None
        try:
            state, value = self._train(executor, trial, index)
        except BaseException:
            self._stopping.set()
            raise
        finally:  # none stays "running" for ever
            self.study.tell(trial, value, state=state)
        shown = f"{self.monitor} {value:.4f}" if value is not None else state.name.lower()
        over = f"[{len(self.ended())}/{self.sweep.trials}]"
        params = ", ".join(f"{key} {text(param)}" for key, param in trial.params.items())
        print(f"{over} trial {index}: {shown} ({params})", file=sys.stderr, flush=True)

    def _train(self, executor: Executor, trial: Any, index: int) -> tuple[Any, float | None]:
        """Train the runs of a trial one after another; return its state and its value.

        Raises:
            Interrupted: A run was told to stop, and not by this trial.
        """
        values: list[float] = []
        for run in range(len(self.sweep.repeats)):
            arguments = self.arguments(index, run, trial.params)
            with self._lock:
                config = lightning_cli.parse(arguments)
                log = self.logs / config["name"] / "output.log"
                future = executor.submit(Task([*arguments, "--resume=auto"], log, config))
            reported, pruned = 0, False
            while not wait([future], None if pruned else 0.5).done:
                reported = self._report(trial, config, reported)
                if pruned := self._should_prune(trial, "median"):
                    executor.cancel(future)
            try:
                outcome = future.result()
            except CancelledError:
                outcome = Outcome("cancelled", interrupted=130)
            if outcome.interrupted and pruned:
                for found in run_folder.read_all(self.logs / config["name"]):
                    if found.manifest.status == "interrupted":
                        changed = replace(found.manifest, status="pruned")
                        run_folder.write_manifest(found.folder, changed)
                return TrialState.PRUNED, None
            if outcome.interrupted:
                raise Interrupted(signal.SIGTERM)
            self._report(trial, config, reported)
            epochs = self._values(config)
            if outcome.error or not np.isfinite(epochs).any():
                error = outcome.error or f"{self.monitor} was never finite"
                trial.set_user_attr(ERROR, error)
                return TrialState.FAIL, None
            values.append(float(np.nanmin(epochs) if self.minimised else np.nanmax(epochs)))
            if self.sweep.prune == "wilcoxon":
                trial.report(values[-1], run)
            if len(values) < len(self.sweep.repeats) and self._should_prune(trial, "wilcoxon"):
                return TrialState.PRUNED, None
        return TrialState.COMPLETE, fmean(values)

    def _ask(self, index: int, values: dict[str, Any]) -> Any:
        """Ask Optuna for the values of a trial, or tell it those that it has."""
        sweep = self.sweep
        # A sampler of its own for each, so that a sweep that is started again draws the same.
        seed = int(np.random.SeedSequence([sweep.seed, index]).generate_state(1)[0])
        with self._lock, quiet():
            samplers = {
                "tpe": optuna.samplers.TPESampler,
                "cmaes": optuna.samplers.CmaEsSampler,
            }
            self.study.sampler = samplers.get(sweep.sampler, optuna.samplers.RandomSampler)(
                seed=seed
            )
            if values:
                self.study.enqueue_trial(values)
            trial = self.study.ask()
            trial.set_user_attr(INDEX, index)
            for key, choices in sweep.space.items():
                if not isinstance(choices, Interval):
                    trial.suggest_categorical(key, choices)
                elif type(choices.low) is type(choices.high) is int:
                    step = int(choices.step or 1)
                    trial.suggest_int(key, choices.low, choices.high, log=choices.log, step=step)
                else:
                    trial.suggest_float(
                        key, choices.low, choices.high, log=choices.log, step=choices.step
                    )
        return trial

    def _report(self, trial: Any, config: dict[str, Any], reported: int) -> int:
        """Report further epochs of a run, if trials are compared by them; return how many it has.

        Args:
            trial: Optuna's.
            config: The run's configuration.
            reported: How many epochs have been reported.
        """
        values = self._values(config)
        if self.sweep.prune == "median":
            for epoch in range(reported, len(values)):
                trial.report(float(values[epoch]), epoch)
        return len(values)

    def _should_prune(self, trial: Any, pruner: str) -> bool:
        """Whether a pruner, if the sweep has it, would stop a trial."""
        with self._lock, quiet():
            return bool(self.sweep.prune == pruner and trial.should_prune())

    def _values(self, config: dict[str, Any]) -> np.ndarray:
        """The monitored metric of a run by epoch, [E]."""
        folders = (self.logs / config["name"]).glob("version_*")
        newest = max(folders, key=run_folder.version, default=None)
        metrics = run_folder.read_metrics(newest / run_folder.METRICS) if newest else {}
        return metrics.get(self.monitor, np.empty(0))


def text(value: Any) -> str:
    """A value of an option, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's remarks on its own doings from the terminal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
