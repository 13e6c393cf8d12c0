"""``python -m lenet_lightning study``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lenet_lightning import arguments, strict_yaml
from lenet_lightning.arguments import Parser
from lenet_lightning.errors import UserError
from lenet_lightning.signals import Interrupted, interruptible
from lenet_lightning.study import executor_options

DESCRIPTION = """Run every setting of a study with every seed and write its report. With --seeds,
the configuration of a fit is a study of one setting, which options of fit such as
--model.network.dropout 0.2 can change. Finished runs are kept and unfinished ones are resumed, so
that it can be stopped at any time.
'study report FOLDER' rebuilds the report from its run folders."""


def main(args: Sequence[str]) -> int:
    """Run a study or rebuild its report.

    Args:
        args: What follows ``study`` on the command line.

    Returns:
        The exit code: 0, or 1 if a run failed.

    Raises:
        UserError: Anything the user can mend, before any run starts.
        OSError: The system refuses a file.
        Interrupted: Ctrl-C or SIGTERM.
    """
    with resumable("study", args) as command:
        return _report(args[1:]) if args and args[0] == "report" else _study(args, command)


@contextmanager
def resumable(command: str, args: Sequence[str]) -> Iterator[str]:
    """Let a command be stopped by a signal, and say then how to resume it.

    Args:
        command: The command's name.
        args: What follows it on the command line.

    Yields:
        The whole command line.

    Raises:
        Interrupted: The signal came; its note is the command line.
    """
    line = shlex.join(["python", "-m", "lenet_lightning", command, *args])
    with interruptible():
        try:
            yield line
        except Interrupted as stop:
            stop.add_note(f"What is finished is kept; to resume:\n  {line}")
            raise


def _study(args: Sequence[str], command: str) -> int:
    parser = _parser()
    options, rest = parser.parse_known_args(args)
    if not options.config:
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        raise UserError("study needs --config FILE, such as configs/studies/smoke.yaml")
    if len(options.config) > 1:
        raise UserError("study takes one --config: put everything into one file")

    file = strict_yaml.locate(options.config[0])

    # Imported here: `study --help` and `study report` answer without torch.
    from lenet_lightning.study import run
    from lenet_lightning.study.report import build

    make = executor_options.choose(options)
    session = run.open_session(
        file, options.logs, options.only, command, options.seeds, rest, options.allow_imports
    )
    if options.dry_run:
        print("\n".join(run.dry_run(session, make)))
        return 0
    failures = run.execute(session, make)
    for key, error in failures.items():
        print(f"failed: {key}: {error}\n  see {session.log(key)}", file=sys.stderr, flush=True)
    if session.of_config:
        print(build.terminal(session.folder))
    print(session.folder / "report.html")
    return 1 if failures else 0


def _parser() -> Parser:
    parser = arguments.make_parser("study", DESCRIPTION)
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        metavar="FILE",
        help="the study's YAML file; with --seeds also the configuration of a fit",
    )
    parser.add_argument(
        "--seeds",
        type=arguments.seeds,
        default=[],
        metavar="SEEDS",
        help="seeds to run, such as 0-4 or 0,1,2, in place of those in a study's file",
    )
    executor_options.add(parser)
    arguments.add_imports(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="print the plan and an estimate of its time"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="run only the settings that match, such as 'mnist_*'",
    )
    executor_options.add_logs(parser, "study")
    return parser


def _report(args: Sequence[str]) -> int:
    parser = arguments.make_parser(
        "study report", "Rebuild the report of a study from its run folders."
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="the study's folder: lightning_logs/report"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write; FOLDER unless given"
    )
    options = parser.parse_args(args)

    from lenet_lightning.study.report import build

    print(build.write(options.folder, options.output))
    return 0
