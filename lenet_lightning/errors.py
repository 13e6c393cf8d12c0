"""The exception that speaks to the user, and the hint at what was meant."""

import difflib
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """Something the user can mend; its message is one sentence that says what and how.

    ``python -m lenet_lightning`` prints it on standard error without a traceback and exits with 2.
    """


class NonFiniteError(UserError):
    """Training produced a loss that is infinite or not a number."""


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
