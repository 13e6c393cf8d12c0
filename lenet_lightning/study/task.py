"""A run that an executor trains, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One run of ``fit``.

    Attributes:
        arguments: The command line, ``fit`` first.
        log: The file that keeps what it prints.
        config: The complete configuration that the command line stands for.
    """

    arguments: list[str]
    log: Path
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        error: Empty for a good end, else one sentence.
        interrupted: 130 after SIGINT, 143 after SIGTERM, else 0.
    """

    error: str = ""
    interrupted: int = 0
