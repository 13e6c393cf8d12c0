"""The one exception that speaks to the user."""


class UserError(Exception):
    """Something the user can mend; its message is one sentence that says what and how.

    ``python -m lenet_lightning`` prints it on standard error without a traceback and exits with 2.
    """


class NonFiniteError(UserError):
    """Training produced a loss that is infinite or not a number."""
