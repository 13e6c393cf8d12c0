"""The end of a machine, as its processes see it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any


def children(parent: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == parent:
            found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


def kill(node: subprocess.Popen[Any]) -> None:
    """Kill a node with all its processes, as a power cut would."""
    for process in [*children(node.pid), node.pid]:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    node.wait()
