"""The command lines of the commands that are no training: argparse, with errors of one sentence."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from lenet_lightning import files
from lenet_lightning.errors import UserError

COMMANDS = (
    "fit", "validate", "test", "predict", "export", "study", "sweep", "robustness", "first_layer",
    "data",
)  # fmt: skip

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy and Lightning take."""

MAX_SEEDS = 1000


class Parser(argparse.ArgumentParser):
    """Argparse, whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise ``UserError`` in place of printing the usage."""
        raise UserError(f"{self.prog.split()[-1]}: {message} (see {self.prog} --help).")

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse; refuse pipes and devices as files, but for --config, of which a pipe may come."""
        options, rest = super().parse_known_args(*args, **kwargs)
        for name, given in vars(options).items():
            for value in given if isinstance(given, list) else [given]:
                if isinstance(value, str | Path) and name != "config":
                    files.check_kind(f"--{name}", value)
        return options, rest


def make_parser(command: str, description: str) -> Parser:
    """Return a command's parser: it shows the description as it is, and takes no abbreviations."""
    return Parser(
        prog=f"python -m lenet_lightning {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_imports(parser: Parser) -> None:
    """Add the option that lets a configuration name networks of the user's own."""
    parser.add_argument(
        "--allow_imports",
        nargs="+",
        default=[],
        metavar="NAME",
        help="packages, or classes such as my_package.Net, that a configuration may name",
    )


def whole_number(text: str) -> int:
    """Read a whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} given, expected a whole number, 0 or more")
    return int(text)


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not whole_number(text):
        raise argparse.ArgumentTypeError(f"{text} given, expected a whole number above 0")
    return int(text)


def share(text: str) -> float:
    """Read a share: above 0, at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} given, expected a share above 0, at most 1")
    return value


def seed(text: str) -> int:
    """Read a seed."""
    if not text.isdecimal() or len(text) > 10 or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(
            f"{text} given, expected a whole number from 0 to {MAX_SEED}"
        )
    return int(text)


def seeds(text: str) -> list[int]:
    """Read several seeds: ``0-4``, ``0,1,2``, or both, such as ``0-4,7``."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers = range(seed(first), seed(last or first) + 1)
        if not numbers or part.endswith("-") or len(numbers) > MAX_SEEDS:
            raise argparse.ArgumentTypeError(
                f"{text} given, expected up to {MAX_SEEDS} seeds such as 0-4 or 0,1,2"
            )
        found += numbers
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text} given, which repeats a seed: each is run once")
    return found
