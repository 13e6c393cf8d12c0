"""What the benchmarks share: running ours and peers, describing the machine, tables and CSV.

Standard library only: the kernel counts a new process's peak memory from that of its parent.
"""

import argparse
import csv
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent
PEERS_PYTHON = ROOT / ".peers" / "bin" / "python"
PEERS_INSTALL = (
    "python -m venv .peers && .peers/bin/python -m pip install -r benchmarks/peers/requirements.txt"
)

BATCH = {"MNIST": 64, "FashionMNIST": 64, "CIFAR10": 16}
CONFIG = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist", "CIFAR10": "cifar10"}
OURS = "ours"
OURS_PACKAGES = ("lenet-lightning", "torch", "lightning")


class Peer(NamedTuple):
    """A peer: its name in tables, its script, the packages it measures, its environment."""

    title: str
    script: str
    packages: tuple[str, ...]
    environment: dict[str, str] = {}


TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
PEERS = {
    "lightning_torchvision": Peer(
        "Lightning, torchvision's dataset, DataLoader",
        "lightning_torchvision.py",
        ("torch", "lightning", "torchvision"),
    ),
    "lightning_tensors": Peer(
        "Lightning, TensorDataset, DataLoader", "lightning_tensors.py", ("torch", "lightning")
    ),
    "keras_tensorflow": Peer(
        "Keras on TensorFlow, `fit`",
        "keras_fit.py",
        ("keras", "tensorflow-cpu"),
        TENSORFLOW,
    ),
    "keras_tensorflow_steps": Peer(
        "Keras on TensorFlow, `fit`, `steps_per_execution` 32",
        "keras_fit.py",
        ("keras", "tensorflow-cpu"),
        {**TENSORFLOW, "STEPS_PER_EXECUTION": "32"},
    ),
    "keras_jax": Peer(
        "Keras on JAX, `fit`", "keras_fit.py", ("keras", "jax"), {"KERAS_BACKEND": "jax"}
    ),
    "skorch": Peer("skorch", "skorch_fit.py", ("torch", "skorch")),
    "bare_torch": Peer("bare torch loop, no logging", "bare_torch.py", ("torch",)),
}


def title(variant: str) -> str:
    """Return what tables call a variant."""
    return PEERS[variant].title if variant in PEERS else "ours, everything on"


# Arguments


def parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every script takes."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--rounds", type=int, default=rounds, help=f"each variant runs as often; {rounds}")
    add("--root", default="datasets", help="folder of the datasets")
    add("--cores", type=int, default=0, help="processor cores and threads of each variant; all")
    add("--output", type=Path, help="CSV file to which the results are appended")
    return made


def add_peers(made: argparse.ArgumentParser) -> None:
    """Add the arguments of scripts that run peers."""
    add = made.add_argument
    add("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="which peers; all")
    add("--python", default=str(PEERS_PYTHON), help="interpreter of the peers' environment")


def pin(cores: int) -> int:
    """Keep this process, and so every variant, on some cores (0: all); return their number.

    TensorFlow, JAX and torch then choose as many threads themselves.
    """
    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    cores = cores or len(there) or os.cpu_count() or 1
    if there:
        if cores > len(there):
            raise SystemExit(f"--cores is {cores}, but only {len(there)} are there.")
        os.sched_setaffinity(0, there[-cores:])
    os.environ["OMP_NUM_THREADS"] = str(cores)
    return cores


def need_data(dataset: str, root: str) -> None:
    """Refuse to start without the dataset's files: fetching them is not what is measured."""
    if not (Path(root) / dataset).is_dir():
        raise SystemExit(
            f"There is no {dataset} in {root}: python -m lenet_lightning data fetch {dataset} "
            f"--root {root}"
        )


# Running


class Usage(NamedTuple):
    """What a finished process used.

    Attributes:
        output: what it printed on standard output.
        wall: seconds from start to end.
        cpu: seconds of processor time, of its descendants too.
        peak_mb: largest resident set in MB of any of its processes.
    """

    output: str
    wall: float
    cpu: float
    peak_mb: float


def environment(added: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a variant: this checkout first, output unbuffered."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
    return os.environ | own | (added or {})


def run(command: list[str], added: dict[str, str] | None = None, code: int = 0) -> Usage:
    """Run a command to its end, which must have this exit code."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment(added))
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != code:
            failed(command, process.returncode, err)
        out.seek(0)
        scale = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        peak = used.ru_maxrss * scale / 1e6
        return Usage(out.read(), wall, used.ru_utime + used.ru_stime, peak)


def failed(command: list[str], code: int, err: Any) -> None:
    """End with what a failed variant said last."""
    err.seek(0)
    last = (err.read().strip().splitlines() or ["it said nothing"])[-1]
    raise SystemExit(f"{' '.join(command)} ended with exit code {code}: {last}")


def ours_command(dataset: str, root: str, logs: str, *changes: object) -> list[str]:
    """Return the command line that trains the report's setting with the product's defaults.

    All training images train and the test set is evaluated after every epoch, as peers do.
    """
    config = ROOT / "configs" / "report" / f"{CONFIG[dataset]}.yaml"
    command = [sys.executable, "-m", "lenet_lightning", "fit", "--config", str(config)]
    command += ["--data.root", root, "--logs", logs, "--name", "run"]
    command += ["--trainer.accelerator", "cpu", "--data.protocol", "report"]
    return command + [str(change) for change in changes]


def ours(dataset: str, root: str, *changes: object) -> tuple[list[dict[str, Any]], Usage]:
    """Train with the command line; return the rows of metrics.csv and what it used."""
    with tempfile.TemporaryDirectory() as logs:
        usage = run(ours_command(dataset, root, logs, *changes))
        with (Path(logs) / "run" / "version_0" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
    columns = {"seconds": "seconds", "accuracy": "val/acc", "train_accuracy": "train/acc"}
    return [{key: float(row[columns[key]]) for key in columns} for row in rows], usage


def peer_command(name: str, python: str, dataset: str, root: str, *changes: object) -> list[str]:
    """Return the command line of a peer's script."""
    command = [python, str(HERE / "peers" / PEERS[name].script), "--dataset", dataset]
    command += ["--root", root, "--batch", str(BATCH[dataset])]
    return command + [str(change) for change in changes]


def peer(
    name: str, python: str, dataset: str, root: str, *changes: object
) -> tuple[list[dict[str, Any]], Usage]:
    """Run a peer's script; return the epochs that it reported and what it used."""
    command = peer_command(name, python, dataset, root, *changes)
    usage = run(command, PEERS[name].environment)
    lines = usage.output.splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"seconds"')], usage


# Describing


def versions(python: str, packages: tuple[str, ...]) -> str:
    """Return the packages' versions in an interpreter's environment, in one line.

    Raises:
        SystemExit: the interpreter or a package is missing.
    """
    code = "import sys, importlib.metadata as m; [print(n, m.version(n)) for n in sys.argv[1:]]"
    try:
        done = subprocess.run(
            [python, "-c", code, *packages], capture_output=True, text=True, env=environment()
        )
    except OSError as error:
        raise SystemExit(f"There is no interpreter {python}: {PEERS_INSTALL}") from error
    if done.returncode:
        found = [line.split()[0] for line in done.stdout.splitlines()]
        missing = next(name for name in packages if name not in found)
        raise SystemExit(f"{python} has no package {missing}: {PEERS_INSTALL}")
    return ", ".join(done.stdout.splitlines())


def all_versions(python: str, peers: list[str]) -> dict[str, str]:
    """Return the versions behind each variant, ours first."""
    own = versions(sys.executable, OURS_PACKAGES)
    return {OURS: own, **{name: versions(python, PEERS[name].packages) for name in peers}}


def machine() -> str:
    """Return the processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def today() -> str:
    return datetime.date.today().isoformat()


def caption(rounds: int, cores: int, used: dict[str, str]) -> str:
    """Return the sentence below a table: how often, on what, with which versions, when."""
    packages = dict.fromkeys(item for line in used.values() for item in line.split(", "))
    repeats = f"{rounds} round{'s' if rounds > 1 else ''}"
    where = f"{cores} core{'s' if cores > 1 else ''} of {machine()} for each"
    return f"{repeats}, {where}, {', '.join(packages)}, {today()}."


# Numbers


def spread(values: list[float], digits: int = 2) -> str:
    """Format a median with the smallest and the largest value; ``never`` without values."""
    if not values:
        return "never"
    middle, low, high = (f"{x:.{digits}f}" for x in three(values))
    return f"{middle} ({low} to {high})" if len(values) > 1 else middle


def three(values: list[float]) -> tuple[float, float, float]:
    """Return median, smallest and largest."""
    return statistics.median(values), min(values), max(values)


def columns(name: str, values: list[float], digits: int = 4) -> dict[str, str]:
    """Return the CSV columns of a figure; empty without values."""
    figures = [f"{x:.{digits}f}" for x in three(values)] if values else [""] * 3
    keys = [f"{name}_{what}" for what in ("median", "min", "max")]
    return dict(zip(keys, figures, strict=True))


def known(values: list[float]) -> list[float]:
    """Leave out rounds without a figure (nan)."""
    return [value for value in values if not math.isnan(value)]


def ratios(numerator: list[float], denominator: list[float]) -> list[float]:
    """Divide round by round, leaving out rounds without both figures."""
    return known([a / b for a, b in zip(numerator, denominator, strict=True)])


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def append(path: Path | None, cores: int, rows: list[dict[str, Any]]) -> None:
    """Append rows to a CSV file, with date, machine and cores before them."""
    if path is None or not rows:
        return
    common = {"date": today(), "machine": machine(), "cores": cores}
    header = [*common, *rows[0]]
    new = not path.exists()
    if not new and path.read_text().split("\n", 1)[0] != ",".join(header):
        raise SystemExit(f"{path} has other columns: give another file with --output.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(common | row for row in rows)


def say(line: str) -> None:
    """Print progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)
