"""What a study's executors cost for each run, with 1 to 8 workers and many runs that wait.

    python benchmarks/executors.py --runs 1000 --workers 1 2 4 8

Every run is one that is complete: its worker reads the run folder and leaves it, so that nothing is
trained and all that is measured is the way there and back.

``local``  a process of this machine for each run
``ray``    a task of a Ray cluster, one node on this machine (needs the extra ``ray``)
``study``  what the study's process does for each run besides: find its folder, save its index

Seconds are from the first run submitted to the last outcome, divided by the runs; processor time is
that of the study's process alone, which all runs of a large cluster share.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import common

RUN = "fit --data Digits --trainer.max_epochs 1 --trainer.accelerator cpu --name run"


class Cost(NamedTuple):
    """Milliseconds a run: of the wall clock, and of the study's processor time."""

    wall: float
    processor: float


def timed(work: Callable[[], object], runs: int) -> Cost:
    """Do the work of so many runs once."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    ended, used = time.perf_counter() - wall, time.process_time() - processor
    return Cost(1e3 * ended / runs, 1e3 * used / runs)


def through(executor: Any, config: dict[str, Any], runs: int) -> Cost:
    """Let an executor train complete runs."""
    from lenet_lightning.study.task import Task

    def train(number: int) -> None:
        futures = [executor.submit(Task([], Path("log"), config)) for _ in range(number)]
        assert all(not future.result().error for future in wait(futures).done)

    try:
        train(4 * executor.jobs)  # workers start and import
        return timed(lambda: train(runs), runs)
    finally:
        executor.stop()


@contextmanager
def cluster(workers: int) -> Iterator[None]:
    """A Ray cluster of one node, which ``RAY_ADDRESS`` then names."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # sockets have short paths
        line = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--port=0"]
        line += ["--block", f"--num-cpus={workers}", "--num-gpus=0", f"--temp-dir={folder}"]
        line += ["--include-dashboard=false", "--disable-usage-stats"]
        log = Path(folder, "log")
        with log.open("wb") as out:
            node = subprocess.Popen(line, stdout=out, stderr=out, env=common.environment())
        try:
            while "Ray runtime started" not in log.read_text():
                if node.poll() is not None:
                    raise SystemExit(f"Ray did not start: {log.read_text()}")
                time.sleep(0.1)
            os.environ["RAY_ADDRESS"] = log.read_text().split("--address='")[1].split("'")[0]
            yield
        finally:
            node.send_signal(signal.SIGTERM)
            node.wait()


def measure(executor: str, workers: int, config: dict[str, Any], runs: int) -> Cost:
    """Measure one executor once."""
    from lenet_lightning import files
    from lenet_lightning.study import executors, ray_executor, results

    if executor == "local":
        return through(executors.LocalExecutor(workers, 1), config, runs)
    if executor == "ray":
        with cluster(workers):
            return through(
                ray_executor.RayExecutor([config], [Path(config["logs"])], ""), config, runs
            )
    index = {f"setting/seed_{run}": {"folder": f"seed_{run}", "error": ""} for run in range(runs)}

    def ended() -> None:
        for _ in range(runs):
            assert results.complete(config)
            files.replace(Path("study.json"), json.dumps(index, indent=2, sort_keys=True))

    return timed(ended, runs)


def report(options: Namespace, measured: dict[tuple[str, int], list[Cost]]) -> None:
    """Print the table and append it to the CSV file."""
    packages = (*common.OURS_PACKAGES, *(["ray"] if "ray" in options.executors else []))
    used = {common.OURS: common.versions(sys.executable, packages)}
    rows, lines = [], []
    for (executor, workers), costs in measured.items():
        wall, processor = ([cost[i] for cost in costs] for i in (0, 1))
        rows.append({
            "versions": used[common.OURS], "executor": executor, "workers": workers,
            "runs": options.runs, "rounds": options.rounds,
            **common.columns("ms", wall, 2), **common.columns("study_cpu_ms", processor, 2),
        })  # fmt: skip
        lines.append([executor, str(workers), common.spread(wall, 1), common.spread(processor, 1)])
    print(common.table(["executor", "workers", "ms a run", "of the study's processor"], lines))
    print("\n" + common.caption(options.rounds, options.cores, used))
    common.append(options.output, options.cores, rows)


def main() -> None:
    """Print a table, one line an executor and number of workers."""
    parser = common.parser(__doc__, rounds=1)
    parser.add_argument("--runs", type=int, default=1000, help="runs that wait at first; 1000")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="at a time")
    names = ("local", "ray", "study")
    parser.add_argument("--executors", nargs="+", choices=names, default=names, help="which; all")
    options = parser.parse_args()
    options.cores = common.pin(options.cores)
    if options.output:
        options.output = options.output.absolute()
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ["PYTHONPATH"] = common.environment()["PYTHONPATH"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        common.run([sys.executable, "-m", "lenet_lightning", *RUN.split(), "--logs", folder])
        sys.path.insert(0, str(common.ROOT))
        from lenet_lightning.store import run_folder

        config = run_folder.read(Path(folder, "run", "version_0")).config
        measured: dict[tuple[str, int], list[Cost]] = {}
        for number in range(options.rounds):
            for executor in options.executors:
                for workers in options.workers if executor != "study" else [1]:
                    cost = measure(executor, workers, config, options.runs)
                    measured.setdefault((executor, workers), []).append(cost)
                    common.say(f"round {number + 1}: {executor} {workers}: {cost.wall:.1f} ms")
        report(options, measured)
        os.chdir("/")


if __name__ == "__main__":
    main()
