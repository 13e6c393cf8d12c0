"""``python -m lenet_lightning sweep``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet_lightning import arguments, files, strict_yaml
from lenet_lightning.errors import UserError
from lenet_lightning.study import executor_options
from lenet_lightning.study.command import resumable

DESCRIPTION = """Choose settings by many short trials, with Optuna. Trials are compared on
validation images and do not use the test set. The sweep ends with a table, a page of plots, and
the YAML file of a study that trains its best settings with new seeds and tests them.
It can be stopped at any time and is resumed where it was."""
KEPT = "sweep.yaml"


def main(args: Sequence[str]) -> int:
    """Run a sweep.

    Args:
        args: What follows ``sweep`` on the command line.

    Returns:
        The exit code: 0, or 1 if no trial has a value.

    Raises:
        UserError: Anything the user can mend.
        OSError: The system refuses a file.
        Interrupted: Ctrl-C or SIGTERM.
    """
    with resumable("sweep", args) as command:
        return _sweep(args, command)


def _sweep(args: Sequence[str], command: str) -> int:
    parser = arguments.make_parser("sweep", DESCRIPTION)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", required=True, help="the sweep's YAML file"
    )
    executor_options.add(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="check every value, and print what would run"
    )
    executor_options.add_logs(parser, "sweep")
    options = parser.parse_args(args)
    make = executor_options.choose(options)
    file = strict_yaml.locate(options.config)

    # Imported here: `sweep --help` answers without torch.
    from lenet_lightning import process
    from lenet_lightning.store import run_folder
    from lenet_lightning.study.report import data_figures
    from lenet_lightning.study.report.document import to_text
    from lenet_lightning.study.sweep import plan, report
    from lenet_lightning.study.sweep.trials import Trials

    sweep = plan.load(file)
    process.quiet()
    trials = Trials(sweep, options.logs)
    if options.dry_run:
        runs = len(sweep.repeats)
        print(f"{sweep.trials} trials of {runs} runs each, into {trials.folder}")
        return 0
    files.make_folder(trials.folder)
    held = run_folder.hold(trials.folder)
    if held is None:
        raise UserError(f"Another sweep runs in {trials.folder}: wait for its end, or rename this.")
    with held:
        _check_same(strict_yaml.read(file), trials.folder / KEPT)
        trials.open()
        if trials.waiting():
            configs = [trials.config]
            data_figures.fetch(configs)
            executor = make(configs * sweep.trials, [sweep.base, trials.folder], command)
            try:
                trials.run(executor)
            finally:
                executor.stop()
        report.write(trials)
    chosen = report.best(trials)
    print(to_text(report.best_table(trials)))
    print(trials.folder / report.PAGE)
    if chosen:
        print(f"python -m lenet_lightning study --config {trials.folder / report.STUDY}")
    return 0 if chosen else 1


def _check_same(content: dict[str, Any], kept: Path) -> None:
    """Keep the sweep in its folder, or refuse another one than it was begun with.

    Raises:
        UserError: Naming the key that differs.
    """
    if kept.exists():
        before = strict_yaml.read(kept)
        for key in sorted(before.keys() | content.keys()):
            if key not in ("trials", "best") and before.get(key) != content.get(key):
                raise UserError(
                    f"{kept.parent} was begun with another {key}: give this sweep another name"
                )
    files.replace(kept, strict_yaml.dumps(content))
