"""Run a study: what is missing of it, several runs at a time, and its report."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_lightning import files, formatting, strict_yaml
from lenet_lightning.errors import UserError
from lenet_lightning.signals import Interrupted
from lenet_lightning.store import run_folder
from lenet_lightning.study import estimate, plan, reading, results
from lenet_lightning.study.executors import Executor, Make
from lenet_lightning.study.progress import Progress
from lenet_lightning.study.report import build, data_figures
from lenet_lightning.study.results import INDEX, PLAN
from lenet_lightning.study.task import Outcome, Task


@dataclass
class Session:
    """One call of ``study`` on its folder.

    Attributes:
        study: The study.
        file: Its YAML file.
        logs: The root of all run folders.
        trials: The requested runs, in order.
        configs: The complete configuration of every run of the study, by key.
        command: What was typed, for the report.
        text: The study as YAML, which its folder keeps.
        of_config: Whether it repeats the configuration of a fit.
        imports: What a configuration may name beside the classes of this package.
    """

    study: plan.Study
    file: Path
    logs: Path
    trials: list[plan.Trial]
    configs: dict[str, dict[str, Any]]
    command: str
    text: str
    of_config: bool = False
    imports: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.logs / self.study.name

    def task(self, trial: plan.Trial) -> Task:
        """One run, which is resumed where it was stopped."""
        own = trial_arguments(self.study, trial, self.logs, self.imports)
        arguments = [*own, "--resume", "auto"]
        return Task(arguments, self.log(trial.key), self.configs[trial.key])

    def log(self, key: str) -> Path:
        """The file that keeps what a run prints."""
        return self.folder / key / "output.log"

    def check_needs(self) -> None:
        """Refuse a setting that needs the runs of another, of which none is there or requested.

        Raises:
            UserError: Naming both.
        """
        requested = {trial.setting.name for trial in self.trials}
        for trial in self.trials:
            needed = trial.setting.after
            if needed and needed not in requested and not self.finished(needed):
                raise UserError(
                    f"{self.file}: setting '{trial.setting.name}' needs finished runs of "
                    f"'{needed}': run --only {needed} first, or add it to --only"
                )

    def finished(self, setting: str) -> bool:
        """Whether any run of a setting has finished, whatever the code it ran with."""
        folders = (self.folder / setting).glob("seed_*")
        found = (run for folder in folders for run in run_folder.read_all(folder))
        return any(run.manifest.status == "finished" for run in found)

    def complete(self, key: str) -> run_folder.Run | None:
        """The finished run of a key with the same full configuration and code, if any."""
        return results.complete(self.configs[key])

    def executor(self, make: Make, trials: Iterable[plan.Trial]) -> Executor:
        """What trains some of the runs."""
        configs = [self.configs[trial.key] for trial in trials]
        bases = {setting.base for setting in self.study.settings.values()}
        return make(configs, [*bases, self.folder], self.command)


def trial_arguments(
    study: plan.Study, trial: plan.Trial, logs: Path, imports: Sequence[str] = ()
) -> list[str]:
    """The command line of one run, but for resuming."""
    name = f"{study.name}/{trial.key}"
    place = ["--seed_everything", str(trial.seed), "--name", name, "--logs", str(logs)]
    allowed = [f"--allow_imports=[{','.join(imports)}]"] if imports else []
    return ["fit", *trial.setting.arguments(), *allowed, *place]


def open_session(
    file: Path,
    logs: Path,
    only: Sequence[str],
    command: str,
    seeds: Sequence[int] = (),
    options: Sequence[str] = (),
    imports: Sequence[str] = (),
) -> Session:
    """Read a study and check every run of it before anything starts.

    Args:
        file: A study's YAML file; with ``seeds`` also the configuration of a fit.
        logs: The root of all run folders.
        only: Patterns of the settings to run; all if empty.
        command: What was typed, for the report.
        seeds: In place of those in a study's file; empty to keep them.
        options: Options of ``fit`` that change the configuration of a fit.
        imports: What a configuration may name beside the classes of this package.

    Raises:
        UserError: The study cannot be run; says which setting and why.
    """
    from lenet_lightning import process
    from lenet_lightning.cli import lightning_cli

    content = plan.read_file(file)
    of_config = bool(seeds) and plan.is_config(content)
    overrides = fit_options(options, of_config)
    if of_config:
        given = [f"--{key}={value}" for key, value in overrides.items()]
        given += [f"--allow_imports=[{','.join(imports)}]"] if imports else []
        name = lightning_cli.parse(["fit", f"--config={file}", *given])["name"]
        overrides.pop("name", None)
        content = plan.repeats(file, name, seeds, overrides)
    elif seeds:
        content |= {"seeds": list(seeds)}
    text = strict_yaml.dumps(content) if seeds else strict_yaml.read_text(file)
    study = plan.parse(content, file)
    trials = study.trials(only)
    process.quiet()
    by_setting: dict[str, dict[str, Any]] = {}
    configs = {}
    for trial in study.trials():
        name = trial.setting.name
        try:
            if name not in by_setting:
                described = lightning_cli.describe(trial_arguments(study, trial, logs, imports))
                by_setting[name], remarks = described
                for remark in remarks:
                    print(f"{name}: {remark}")
        except UserError as error:
            raise UserError(f"{file}: setting '{name}': {error}") from None
        # Seeds differ in nothing else; parsing each again would only take time. Nodes of a cluster
        # read plain numbers, not the types of jsonargparse.
        own = {"seed_everything": int(trial.seed), "name": f"{study.name}/{trial.key}"}
        configs[trial.key] = by_setting[name] | own
    session = Session(study, file, logs, trials, configs, command, text, of_config, imports)
    session.check_needs()
    return session


def fit_options(words: Sequence[str], of_config: bool) -> dict[str, str]:
    """Options of ``fit`` by their keys.

    Args:
        words: ``--key value`` or ``--key=value``.
        of_config: Whether there is the configuration of a fit, which they change.

    Raises:
        UserError: A word is not such an option, has no value, or is given twice.
    """
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        flag, attached, value = word.partition("=")
        key = flag.removeprefix("--")
        known = key.split(".")[0] in reading.OVERRIDES or key == "name"
        if not flag.startswith("--") or not known:
            raise UserError(f"{word} is not an option of study; --help lists them.")
        if not of_config:
            raise UserError(
                f"{flag} changes the configuration of a fit, given with --seeds; a study's "
                "settings are in its file."
            )
        if not attached and (value := next(rest, "--")).startswith("--"):
            raise UserError(f"{flag} is given without a value.")
        if key in found:
            raise UserError(f"{flag} is given twice.")
        found[key] = value
    return found


def dry_run(session: Session, make: Make) -> Iterator[str]:
    """The plan in lines: every setting, what is complete, how long the rest may take."""
    yield from plan.describe(session.trials)
    todo = [trial for trial in session.trials if not session.complete(trial.key)]
    executor = session.executor(make, todo or session.trials)
    jobs = max(1, min(executor.jobs, len(todo)))
    executor.stop()
    settings = len({trial.setting.name for trial in session.trials})
    yield (
        f"{len(session.trials)} runs of {settings} settings; {len(session.trials) - len(todo)} "
        f"complete, {len(todo)} to run, {jobs} at a time, into {session.folder}"
    )
    if todo:
        seconds = estimate.seconds(session.logs, [session.configs[trial.key] for trial in todo])
        yield (
            f"no finished run in {session.logs} tells how long that takes"
            if seconds is None
            else f"about {formatting.duration(seconds / jobs)}, from finished runs"
        )


def execute(session: Session, make: Make) -> dict[str, str]:
    """Run what is missing and write the report.

    Args:
        session: The study.
        make: Makes the executor.

    Returns:
        The error of every run that failed, by key.

    Raises:
        UserError: Another process runs a study in this folder, or a link leads out of it.
        Interrupted: Ctrl-C or SIGTERM; every run stays as it is and can be resumed.
    """
    files.make_folder(session.folder)
    held = run_folder.hold(session.folder)
    if held is None:
        raise UserError(
            f"Another study runs in {session.folder}: wait for its end, or give this one a name of "
            "its own."
        )
    with held:
        complete = {key: run for key in session.configs if (run := session.complete(key))}
        todo = [trial for trial in session.trials if trial.key not in complete]
        entries = {key: _entry(session, run) for key, run in complete.items()}
        index: dict[str, Any] = {"command": session.command, "runs": entries}
        files.replace(session.folder / PLAN, session.text)
        _save(session, index)
        data_figures.fetch(session.configs.values())
        data_figures.write(session.study, session.configs, session.folder)
        failures = _train(session, todo, make, index) if todo else {}
        build.write(session.folder)
    return failures


def _train(
    session: Session, todo: list[plan.Trial], make: Make, index: dict[str, Any]
) -> dict[str, str]:
    """Run trials; the index is saved after each."""
    executor = session.executor(make, todo)
    configs = {trial.key: session.configs[trial.key] for trial in todo}
    progress = Progress(configs, session.folder, len(session.trials) - len(todo))
    failures: dict[str, str] = {}

    def ended(key: str, outcome: Outcome) -> None:
        if outcome.interrupted:
            raise Interrupted(signal.SIGTERM)
        run = session.complete(key)
        if run is not None:
            index["runs"][key] = _entry(session, run)
            status = "non-finite loss" if run.manifest.status == "nonfinite" else "finished"
            progress.ended(key, status, run.manifest.seconds)
        else:
            failures[key] = (
                outcome.error or "It left no finished run of this configuration and code."
            )
            index["runs"][key] = {"folder": "", "error": failures[key]}
            progress.ended(key, f"failed: {failures[key]}", None)
        _save(session, index)

    try:
        for stage in session.study.stages(todo):
            _run(executor, {trial.key: session.task(trial) for trial in stage}, ended, progress)
    finally:
        progress.close()
        executor.stop()
    return failures


def _run(
    executor: Executor,
    tasks: Mapping[str, Task],
    ended: Callable[[str, Outcome], None],
    progress: Progress,
) -> None:
    """Train runs, and hand on each outcome as it comes."""
    futures = {executor.submit(task): key for key, task in tasks.items()}
    while futures:
        progress.tick(futures.values())
        for future in wait(futures, 1.0, FIRST_COMPLETED).done:
            ended(futures.pop(future), future.result())


def _entry(session: Session, run: run_folder.Run) -> dict[str, str]:
    return {"folder": run.folder.relative_to(session.folder).as_posix(), "error": ""}


def _save(session: Session, index: dict[str, Any]) -> None:
    files.replace(session.folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
