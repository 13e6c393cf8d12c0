"""``python -m lenet_lightning``: hands each subcommand to its module."""

import os
import re
import sys
from importlib import import_module

from lenet_lightning import __version__, streams
from lenet_lightning.arguments import COMMANDS
from lenet_lightning.distributed import drop_stray_variables
from lenet_lightning.errors import NonFiniteError, UserError, nearest, what_stopped
from lenet_lightning.signals import Interrupted

ALIASES = {"train": "fit", "evaluate": "test", "eval": "test"}

# Commands with a parser of their own.
MODULES = {
    "export": "cli.export",
    "study": "study.command",
    "sweep": "study.sweep.command",
    "robustness": "robustness.command",
    "first_layer": "robustness.first_layer",
    "data": "data.command",
}

HELP = """\
usage: python -m lenet_lightning COMMAND [options]

  fit          train a network and test its best epoch
  validate     evaluate a checkpoint on its validation images
  test         evaluate a checkpoint on the test set
  predict      classify your own pictures
  export       write a checkpoint's network as safetensors or ONNX, or a page to draw on
  study        run many settings and seeds, and write the report
  sweep        choose settings by many trials on validation images
  robustness   measure accuracy of a study's networks under contrast and corruptions
  first_layer  draw what the first layer makes of an image and of its negative
  data         fetch, verify or show the datasets

python -m lenet_lightning COMMAND --help lists a command's options.
First run: python -m lenet_lightning fit --config configs/mnist.yaml
"""


def main(args: list[str] | None = None) -> int:
    """Run one command; return the exit code.

    0: done; 1: an evaluation found something wrong; 2: the user can mend it; 3: the loss became
    non-finite; 129, 130, 143: stopped by a hangup, by Ctrl-C, by SIGTERM.
    """
    streams.open_closed()
    streams.outlive_readers()
    try:
        return streams.flush(run(sys.argv[1:] if args is None else args))
    except SystemExit as end:  # of a parser that has printed its help
        if isinstance(end.code, str):
            raise
        return streams.flush(int(end.code or 0))


def run(args: list[str]) -> int:
    """Run one command; return the exit code."""
    # Figures are files. A notebook's backend, which its children inherit, may not exist here.
    os.environ["MPLBACKEND"] = "agg"
    drop_stray_variables()
    try:
        if not args or args[0] in ("-h", "--help"):
            print(HELP, end="")
            return 0 if args else 2
        if args[0] == "--version":
            print(__version__)
            return 0
        return dispatch([checked(word) for word in args])
    except UserError as error:
        streams.print_error(error)
        return 3 if isinstance(error, NonFiniteError) else 2
    except OSError as error:
        streams.print_error(what_stopped(error))
        return 2
    except Interrupted as stop:
        streams.print_error(stop, *getattr(stop, "__notes__", ()))
        streams.drop_unwritable()
        return 128 + stop.signal


def checked(word: str) -> str:
    """Refuse control characters in a word, and replace the ``~`` that no shell does, as after =."""
    if found := re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", word):
        raise UserError(f"{word!a} holds the control character {found[0]!a}: leave it out.")
    name, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return name + equals + os.path.expanduser(value)


def dispatch(args: list[str]) -> int:
    """Import what the command needs, and nothing else."""
    args = [ALIASES.get(args[0], args[0]), *args[1:]]
    if args[0] not in COMMANDS:
        hint = nearest(args[0], COMMANDS) or f": expected one of {', '.join(COMMANDS)}."
        raise UserError(f"{args[0]} is not a command{hint}")
    if module := MODULES.get(args[0]):
        code: int = import_module(f"lenet_lightning.{module}").main(args[1:])
        return code
    from lenet_lightning.cli import command_line, quick_checks

    line = command_line.read(args)
    quick_checks.check(line)
    from lenet_lightning.cli import lightning_cli

    lightning_cli.main(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
