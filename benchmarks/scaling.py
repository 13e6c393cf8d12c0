"""Cost against batch size, number of devices and size of the data, on MNIST.

    python -m venv .peers && .peers/bin/python -m pip install -r benchmarks/peers/requirements.txt
    python benchmarks/scaling.py                      # all three tables
    python benchmarks/scaling.py batch --batches 1 64 # one of them

``batch``    images per second of training alone against the batch size, ours and the bare loop:
             the step's fixed cost bounds small batches, arithmetic and memory large ones
``devices``  seconds of an epoch with evaluation in 1 and 2 processor processes (gloo)
``data``     seconds of an epoch with evaluation of 10,000 images against the training images, ours
             and the bare loop: evaluation and the epoch's record are what is left without any

Processes of ours and of the bare loop alternate. Each trains an epoch to warm up; figures are
medians over the following epochs of all rounds. Threads of each process: --threads.
"""

import os
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, NamedTuple

import common

BARE = "bare_torch"


class Point(NamedTuple):
    """What is measured: a table's name, a variant, and where it stands on the three axes."""

    table: str
    variant: str
    batch: int = 64
    devices: int = 1
    images: int = 60000


def batch_points(options: Namespace) -> Iterator[Point]:
    """Yield points of about equal time: small batches get fewer images."""
    for batch in options.batches:
        images = min(50000, options.steps * batch)
        for variant in (common.OURS, BARE):
            yield Point("batch", variant, batch, images=images)


def device_points(options: Namespace) -> Iterator[Point]:
    for batch in (64, 1024):
        for devices in (1, 2):
            yield Point("devices", common.OURS, batch, devices)


def data_points(options: Namespace) -> Iterator[Point]:
    for images in options.images:
        for variant in (common.OURS, BARE):
            yield Point("data", variant, images=images)


POINTS = {"batch": batch_points, "devices": device_points, "data": data_points}


def measure(point: Point, options: Namespace) -> list[float]:
    """Return the seconds of the measured epochs."""
    where = "MNIST", options.root
    if point.variant == BARE:
        changes = ["--batch", point.batch, "--subset", point.images, "--epochs", options.epochs]
        changes += ["--evaluated", 10] if point.table == "batch" else []
        epochs, _ = common.peer(BARE, options.python, *where, *changes)
    else:
        changes = ["--data.batch_size", point.batch, "--trainer.max_epochs", options.epochs]
        changes += ["--data.subset", point.images, "--trainer.devices", point.devices]
        changes += ["--threads", options.threads]
        if point.table == "batch":
            # Ten validation images: the test set waits until training is over.
            changes += ["--data.protocol", "holdout", "--data.val_size", 10]
        epochs, _ = common.ours(*where, *changes)
    return [epoch["seconds"] for epoch in epochs[1:]]


def row(point: Point, seconds: list[float], versions: str) -> dict[str, Any]:
    """Return a line of the CSV file."""
    speed = [point.images / x for x in seconds]
    return {
        "versions": versions,
        **point._asdict(),
        "epochs": len(seconds),
        **common.columns("seconds", seconds),
        **common.columns("images_per_second", speed, 0),
    }


def compared(results: dict[Point, list[float]], key: str, unit: str) -> str:
    """Return a table with a line for each value of an axis, ours beside the bare loop."""
    lines = []
    for point, seconds in results.items():
        if point.variant == BARE:
            continue
        bare = results[point._replace(variant=BARE)]
        cells = [f"{getattr(point, key):,}"]
        for times in (seconds, bare):
            cells.append(shown(point, times, unit))
        middle = [common.three(times)[0] for times in (seconds, bare)]
        lines.append([*cells, f"{middle[0] / middle[1]:.2f}"])
    header = [key, f"ours, {unit}", f"bare torch loop, {unit}", "time, ours / bare"]
    return common.table(header, lines)


def shown(point: Point, seconds: list[float], unit: str) -> str:
    """Format seconds, or the images per second that they mean."""
    if unit == "seconds":
        return common.spread(seconds, 3)
    middle, low, high = common.three([point.images / x for x in seconds])
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def by_devices(results: dict[Point, list[float]]) -> str:
    """Return the table of devices; the ratio is to one device with the same batch."""
    lines = []
    for point, seconds in results.items():
        one = common.three(results[point._replace(devices=1)])[0]
        ratio = one / common.three(seconds)[0]
        lines.append([f"{point.batch:,}", f"{point.devices}", common.spread(seconds, 3)])
        lines[-1].append(f"{ratio:.2f}")
    return common.table(["batch", "devices", "seconds an epoch", "speed-up"], lines)


def show(table: str, results: dict[Point, list[float]]) -> str:
    """Return the markdown of one table."""
    if table == "devices":
        return by_devices(results)
    key, unit = ("batch", "images per second") if table == "batch" else ("images", "seconds")
    return compared(results, key, unit)


def main() -> None:
    """Print the tables that were asked for: median (smallest to largest)."""
    parser = common.parser(__doc__, rounds=1)
    add = parser.add_argument
    add("tables", nargs="*", help="batch, devices, data; all")
    add("--python", default=str(common.PEERS_PYTHON), help="interpreter of the bare loop")
    add("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256, 1024, 4096])
    add("--images", type=int, nargs="+", default=[1000, 5000, 20000, 60000])
    add("--steps", type=int, default=4000, help="most steps of an epoch of table batch")
    add("--epochs", type=int, default=4, help="of a process, the first unused")
    add("--threads", type=int, default=1, help="of each process")
    options = parser.parse_args()
    if wrong := set(options.tables) - set(POINTS):
        parser.error(f"{wrong.pop()} is no table: expected {', '.join(POINTS)}")
    if options.epochs < 2:
        parser.error("--epochs: expected at least 2, the first is not measured")
    options.cores = common.pin(options.cores)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    common.need_data("MNIST", options.root)
    used = common.all_versions(options.python, [BARE])
    for table in options.tables or POINTS:
        points = list(POINTS[table](options))
        results: dict[Point, list[float]] = {point: [] for point in points}
        for _ in range(options.rounds):
            for point, seconds in results.items():
                seconds += measure(point, options)
                common.say(f"{' '.join(map(str, point))}: {seconds[-1]:.3f} s")
        print(f"\n{show(table, results)}", flush=True)
        rows = [row(point, times, used[point.variant]) for point, times in results.items()]
        common.append(options.output, options.cores, rows)
    print("\n" + common.caption(options.rounds, options.cores, used))


if __name__ == "__main__":
    main()
