"""Types of numeric options beside those of ``jsonargparse.typing``."""

from collections.abc import Mapping
from typing import Any

from jsonargparse.typing import restricted_number_type

BelowOne = restricted_number_type("BelowOne", float, [(">=", 0), ("<", 1)])


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping whose numbers are Python's own; the parser gives subclasses of them."""

    def number(value: Any) -> Any:
        kind = next((kind for kind in (bool, int, float) if isinstance(value, kind)), None)
        return kind(value) if kind else value

    return {name: number(value) for name, value in values.items()}
