"""The exception that speaks to the user, and the hint at what was meant."""

import difflib
from collections.abc import Iterable, Mapping

from lenet_lightning.signals import Interrupted

# Parts of a full key that nobody types.
SILENT = ("init_args", "fit", "validate", "test", "predict")


class UserError(Exception):
    """Something the user can mend; its message is one sentence that says what and how.

    ``python -m lenet_lightning`` prints it on standard error without a traceback and exits with 2.
    """


class NonFiniteError(UserError):
    """Training produced a loss that is infinite or not a number."""


def what_stopped(error: OSError) -> BaseException:
    """Return the system's refusal as a ``UserError``, or what stopped the run just before it.

    Lightning closes its loggers when a run stops, which fails on a full disk once more.
    """
    earlier = error.__context__
    while earlier is not None and not isinstance(earlier, UserError | Interrupted):
        earlier = earlier.__context__
    file = f" ({error.filename})" if error.filename else ""
    return earlier or UserError(
        f"The system refused a file{file}: {error.strerror or error}; what was saved before is "
        "still valid."
    )


def printable(text: str) -> str:
    """Return a text with U+FFFD for each character that would control a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def nearest(word: str, known: Iterable[str] | Mapping[str, str]) -> str:
    """Return ``"; did you mean X?"``, or an empty string if nothing is near.

    Args:
        word: what was typed.
        known: what may be typed; a mapping gives the name to show for each.
    """
    shown = known if isinstance(known, Mapping) else {name: name for name in known}
    by_lower = {name.lower(): value for name, value in shown.items()}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def not_an_option(name: str, known: Mapping[str, str], flag: str = "") -> str:
    """Return the sentence for an option that does not exist, with the nearest one that does.

    Args:
        name: the full key.
        known: full key of each option to the name to show for it.
        flag: ``--`` if the option was typed.
    """
    group, _, last = name.rpartition(".")
    # Within its group, or anywhere if it was given without one: --batch_size, --max_epochs, --lr.
    inside = {n.rpartition(".")[2]: known[n] for n in sorted(known) if n.startswith(group)}
    hint = nearest(last, inside) if inside else nearest(name, known)
    return f"{flag}{name} is not an option{hint or '; --help lists them.'}"


def full_key(keys: list[str]) -> str:
    """Join the nested keys of a message: ``data`` and ``batch_size`` give ``data.batch_size``."""
    parts = ".".join(filter(None, keys)).split(".")
    return ".".join(p for p in parts if p not in SILENT)
