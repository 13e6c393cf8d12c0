"""Figures of docs/cluster.md."""

from __future__ import annotations

from quoted.kept import benchmark, table

PAGE = "docs/cluster.md"
STATED = {
    "a share of 0.25 or less": "example of an option; no GPU was measured",
    "1,024": "docs/performance.md, the table of devices",
}


def cost(executor: str, workers: int) -> tuple[str, str]:
    """Milliseconds a run, and those of the study's processor."""
    row = benchmark("executors.csv", executor=executor, workers=str(workers))
    wall, processor = (float(row[f"{name}_median"]) for name in ("ms", "study_cpu_ms"))
    return f"{wall:.1f}", f"{processor:.1f}"


def expected() -> list[str]:
    """The table of executors, and what a thousand nodes would need."""
    names = {"local": "local", "ray": "Ray"}
    lines = [
        (names[executor], str(workers), *cost(executor, workers))
        for executor in names
        for workers in (1, 2, 4, 8)
    ]
    study = float(cost("study", 1)[1]) + float(cost("ray", 8)[1])
    runs = int(benchmark("executors.csv", executor="ray", workers="8")["runs"])
    return [
        f"{runs:,} runs waited for 1 to 8 workers",
        table(*lines, ("the study's own part", "", *cost("study", 1))),
        f"the study's process needs {study:.0f} ms of a processor",
        f"at most {1000 / study:.0f} runs a second",
        f"runs of {study:.0f} seconds or more keep a thousand nodes busy",
    ]
