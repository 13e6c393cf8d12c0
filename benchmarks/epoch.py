"""One epoch of training and evaluation: this package against peers, in alternating processes.

    python benchmarks/epoch.py --dataset MNIST --rounds 5
    python -m venv .peers && .peers/bin/pip install -r benchmarks/peers/requirements.txt
    python benchmarks/epoch.py --dataset CIFAR10 --python .peers/bin/python --peers bare_torch

Every variant trains LeNet-5 with Adam and L2 on all training images and evaluates the test set.
Ours runs the whole product: progress bar, TensorBoard, CSV, checkpoints, and the negatives too;
the peers evaluate originals only. A round runs each variant once; each process trains one epoch
to warm up and reports the median of the following ones. Ratios are taken round by round.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
BATCH = {"MNIST": 64, "FashionMNIST": 64, "CIFAR10": 16}
CONFIG = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist", "CIFAR10": "cifar10"}
FIGURES = [f"{what}_{x}" for what in ("seconds", "ratio") for x in ("median", "min", "max")]
HEADER = [
    "date",
    "machine",
    "cores",
    "torch",
    "lightning",
    "dataset",
    "rounds",
    "variant",
    *FIGURES,
]
# Each peer's script, and what its environment adds.
PEERS = {
    "lightning_torchvision": ("lightning_torchvision.py", {}),
    "lightning_tensors": ("lightning_tensors.py", {}),
    "bare_torch": ("bare_torch.py", {}),
    "keras_tensorflow": ("keras_fit.py", {"KERAS_BACKEND": "tensorflow"}),
    "keras_jax": ("keras_fit.py", {"KERAS_BACKEND": "jax"}),
    "skorch": ("skorch_fit.py", {}),
}


def ours(dataset: str, epochs: int, root: str, threads: int) -> list[float]:
    """Train with the command line; return the epochs' seconds from metrics.csv."""
    with tempfile.TemporaryDirectory() as logs:
        config = HERE.parent / "configs" / "report" / f"{CONFIG[dataset]}.yaml"
        command = [sys.executable, "-m", "lenet_lightning", "fit", "--config", str(config)]
        command += ["--data.protocol", "report", "--data.root", root, "--logs", logs]
        command += ["--trainer.max_epochs", str(epochs), "--name", "run"]
        command += ["--threads", str(threads)] if threads else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with (Path(logs) / "run" / "version_0" / "metrics.csv").open() as file:
            return [float(row["seconds"]) for row in csv.DictReader(file)]


def peer(name: str, python: str, dataset: str, epochs: int, root: str) -> list[float]:
    """Run a peer's script; return the epochs' seconds it prints."""
    script, added = PEERS[name]
    command = [python, str(HERE / "peers" / script), "--dataset", dataset]
    command += ["--epochs", str(epochs), "--batch", str(BATCH[dataset]), "--root", root]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)} | added
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def quartiles(values: list[float]) -> str:
    """Format a median with its quartiles."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{statistics.median(values):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dataset", choices=sorted(BATCH), default="MNIST")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=["lightning_torchvision"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=int, default=3, help="epochs of a process, the first unused"
    )
    parser.add_argument("--root", default="datasets")
    parser.add_argument("--threads", type=int, default=0, help="ours: 0 leaves it to the program")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the peers")
    parser.add_argument("--output", help="CSV file to which the result is appended")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"ours": [], **{name: [] for name in options.peers}}
    for number in range(options.rounds):
        for name, values in seconds.items():
            if name == "ours":
                epochs = ours(options.dataset, options.epochs, options.root, options.threads)
            else:
                epochs = peer(name, options.python, options.dataset, options.epochs, options.root)
            values.append(statistics.median(epochs[1:]))
            print(f"round {number + 1}: {name} {values[-1]:.2f} s", file=sys.stderr)
    today = datetime.date.today().isoformat()
    print(
        f"{options.dataset}, batch {BATCH[options.dataset]}, {options.rounds} rounds, "
        f"{os.cpu_count()} cores, {today}"
    )
    rows = []
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(seconds["ours"], values, strict=True)]
        print(f"{name:24} {quartiles(values):>28} s   ours / it {quartiles(ratios)}")
        rows.append([today, platform.processor() or platform.machine(), os.cpu_count(),
                     version("torch"), version("lightning"), options.dataset, options.rounds, name,
                     *(f"{x:.4f}" for x in (statistics.median(values), min(values), max(values),
                       statistics.median(ratios), min(ratios), max(ratios)))])  # fmt: skip
    if options.output:
        write(Path(options.output), rows)


def write(path: Path, rows: list[list[object]]) -> None:
    """Append rows to a CSV file, with a header if it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(HEADER)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
