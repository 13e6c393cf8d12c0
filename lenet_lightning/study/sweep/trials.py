"""The trials of a sweep: asked of Optuna, trained by an executor, pruned, told."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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


@dataclass
class Attempt:
    """A trial that is being trained.

    Attributes:
        trial: Optuna's.
        index: Its number in the sweep; a trial that is started again keeps it.
        run: Which of its runs trains, from 0.
        config: The complete configuration of that run.
        epochs: How many of its epochs have been reported.
        values: The best value of each run that has ended.
        pruned: Whether it has been told to stop.
    """

    trial: Any
    index: int
    run: int = -1
    config: dict[str, Any] = field(default_factory=dict)
    epochs: int = 0
    values: list[float] = field(default_factory=list)
    pruned: bool = False


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

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.logs / self.sweep.name

    def arguments(self, index: int, run: int, values: dict[str, Any]) -> list[str]:
        """The command line of a run, which leaves the test set alone."""
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
        """Train every trial that waits.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; runs are saved and go on later.
        """
        waiting = self.waiting()
        running: dict[Future[Outcome], Attempt] = {}
        try:
            while waiting or running:
                while waiting and len(running) < executor.jobs:
                    index = next(iter(waiting))
                    self._next_run(executor, running, self._ask(index, waiting.pop(index)))
                done = wait(running, 0.5, FIRST_COMPLETED).done
                for future, attempt in list(running.items()):
                    self._report(attempt)
                    if future in done:
                        del running[future]
                        self._end(executor, running, future, attempt)
                    elif not attempt.pruned and self._should_prune(attempt):
                        attempt.pruned = True
                        executor.cancel(future)
        finally:
            for attempt in running.values():  # none stays "running" for ever
                self.study.tell(attempt.trial, state=TrialState.FAIL)

    def _ask(self, index: int, values: dict[str, Any]) -> Attempt:
        """Ask Optuna for the values of a trial, or tell it those that it has."""
        sweep = self.sweep
        # A sampler of its own for each, so that a sweep that is started again draws the same.
        seed = int(np.random.SeedSequence([sweep.seed, index]).generate_state(1)[0])
        with quiet():
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
        return Attempt(trial, index)

    def _next_run(
        self, executor: Executor, running: dict[Future[Outcome], Attempt], attempt: Attempt
    ) -> None:
        """Submit the next run of a trial."""
        attempt.run += 1
        attempt.epochs = 0
        arguments = self.arguments(attempt.index, attempt.run, attempt.trial.params)
        attempt.config = lightning_cli.parse(arguments)
        log = self.logs / attempt.config["name"] / "output.log"
        task = Task([*arguments, "--resume=auto"], log, attempt.config)
        running[executor.submit(task)] = attempt

    def _report(self, attempt: Attempt) -> None:
        """Report the epochs that a run has finished, if trials are compared by them."""
        if self.sweep.prune != "median" or attempt.pruned:
            return
        values = self._values(attempt)
        for epoch in range(attempt.epochs, len(values)):
            attempt.trial.report(float(values[epoch]), epoch)
        attempt.epochs = len(values)

    def _should_prune(self, attempt: Attempt) -> bool:
        with quiet():
            return bool(self.sweep.prune != "none" and attempt.trial.should_prune())

    def _values(self, attempt: Attempt) -> np.ndarray:
        """The monitored metric of the run by epoch, [E]."""
        folders = (self.logs / attempt.config["name"]).glob("version_*")
        newest = max(folders, key=run_folder.version, default=None)
        metrics = run_folder.read_metrics(newest / run_folder.METRICS) if newest else {}
        return metrics.get(self.monitor, np.empty(0))

    def _end(
        self,
        executor: Executor,
        running: dict[Future[Outcome], Attempt],
        future: Future[Outcome],
        attempt: Attempt,
    ) -> None:
        """Tell Optuna how a trial ended, or go on with its next run."""
        try:
            outcome = future.result()
        except CancelledError:
            outcome = Outcome("cancelled", interrupted=130)
        if outcome.interrupted and not attempt.pruned:
            running[future] = attempt  # to be told that it was not finished
            raise Interrupted(signal.SIGTERM)
        values = self._values(attempt)
        if outcome.interrupted:
            self._prune(attempt)
        elif outcome.error or not np.isfinite(values).any():
            error = outcome.error or f"{self.monitor} was never finite"
            attempt.trial.set_user_attr(ERROR, error)
            self._tell(attempt, TrialState.FAIL)
        else:
            attempt.values.append(float(np.nanmin(values) if self.minimised else np.nanmax(values)))
            if self.sweep.prune == "wilcoxon":
                attempt.trial.report(attempt.values[-1], attempt.run)
            if len(attempt.values) == len(self.sweep.repeats):
                self._tell(attempt, TrialState.COMPLETE, fmean(attempt.values))
            elif self.sweep.prune == "wilcoxon" and self._should_prune(attempt):
                self._prune(attempt)
            else:
                self._next_run(executor, running, attempt)

    def _prune(self, attempt: Attempt) -> None:
        for run in run_folder.read_all(self.logs / attempt.config["name"]):
            if run.manifest.status == "interrupted":
                run_folder.write_manifest(run.folder, replace(run.manifest, status="pruned"))
        self._tell(attempt, TrialState.PRUNED)

    def _tell(self, attempt: Attempt, state: Any, value: float | None = None) -> None:
        self.study.tell(attempt.trial, value, state=state)
        shown = f"{self.monitor} {value:.4f}" if value is not None else state.name.lower()
        over = len(self.ended())
        values = ", ".join(f"{k} {text(v)}" for k, v in attempt.trial.params.items())
        print(
            f"[{over}/{self.sweep.trials}] trial {attempt.index}: {shown} ({values})",
            file=sys.stderr,
            flush=True,
        )


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
