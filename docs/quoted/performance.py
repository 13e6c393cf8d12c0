"""Figures of docs/performance.md."""

from __future__ import annotations

from quoted.kept import Row, benchmark, span, table

PAGE = "docs/performance.md"
KERNEL = "benchmarks/kernel.py prints it; its rows were not kept, as the page says"
STATED = {
    "## The fused kernel": KERNEL,
    "0.29 (MNIST, batch 64), 0.32 (CIFAR-10, batch 16), one thread": KERNEL,
    "from a batch of about 1,024": "the table of devices",
    "61 MB for MNIST at 32x32": "60,000 images of 32x32 bytes",
    "0.2 to 0.4 ms for 62,000 weights": "the table above it: what the gradients leave of a step",
    "Adam with learning rate 0.001": "benchmarks/time_to_accuracy.py",
    "seconds to 98 %": "benchmarks/time_to_accuracy.py",
    "seconds to 99 %": "benchmarks/time_to_accuracy.py",
    "reaches 99 % with this recipe": "the table above it",
    "our time to 98 %": "the table above it",
    "a fixed cost of about 0.2 s an epoch": "the table above it, extrapolated to no images",
}
PEERS = {
    "ours": "ours, everything on",
    "lightning_torchvision": "Lightning, torchvision's dataset, DataLoader",
    "lightning_tensors": "Lightning, TensorDataset, DataLoader",
    "keras_tensorflow": "Keras on TensorFlow, `fit`",
    "keras_tensorflow_steps": "Keras on TensorFlow, `fit`, `steps_per_execution` 32",
    "keras_jax": "Keras on JAX, `fit`",
    "skorch": "skorch",
    "bare_torch": "bare torch loop, best eager step, no logging",
}
PARTS = {
    "convolutions, forward": "convolutions, forward, called one by one",
    "convolutions, backward": "convolutions, backward, called one by one",
    "all gradients, in one call": "all gradients, in one call",
    "the whole step": "the whole step",
}


def percent(share: str) -> str:
    """Write a share in whole per cent."""
    return f"{100 * float(share):.0f} %"


def epoch(dataset: str, peers: list[str]) -> str:
    """Return the table of one epoch compared with peers."""
    lines = []
    for peer in peers:
        row = benchmark("epoch.csv", dataset=dataset, variant=peer)
        lines.append(
            (
                PEERS[peer],
                span(row, "seconds", 2),
                "1" if peer == "ours" else span(row, "ratio", 3),
                f"{int(row['peak_mb']):,}",
                f"{100 * float(row['accuracy']):.2f} %",
            )
        )
    return table(*lines)


def arithmetic() -> str:
    """Return the table of the share of arithmetic."""
    lines = []
    for part, title in PARTS.items():
        cells = [title]
        for workload in ("MNIST, batch 64", "CIFAR-10, batch 16"):
            row = benchmark("arithmetic.csv", workload=workload, part=part)
            cells += [percent(row["share_median"]), percent(row["arithmetic_median"])]
        lines.append(cells)
    return table(*lines)


def race() -> str:
    """Return the table of the time to an accuracy."""
    names = {**PEERS, "bare_torch": "bare torch loop, no logging"}
    lines = []
    for peer in ("ours", "keras_tensorflow", "bare_torch"):
        first, second = (
            benchmark("time_to_accuracy.csv", target=target, variant=peer)
            for target in ("0.98", "0.99")
        )
        ratio = "1" if peer == "ours" else f"{float(first['ratio_median']):.3f}"
        reached = second["reached"] == "1"
        lines.append(
            (
                names[peer],
                f"{float(first['seconds_median']):.1f}",
                f"{float(first['epochs_median']):.0f}",
                ratio,
                f"{float(second['seconds_median']):.1f}" if reached else "never",
                f"{float(second['epochs_median']):.0f}" if reached else "",
            )
        )
    return table(*lines).replace("|  |", "| |")


def pair(kind: str, **columns: str) -> tuple[Row, Row, str]:
    """Return the newest rows of ours and of the bare loop, and the ratio of their times."""
    ours, bare = (
        benchmark("scaling.csv", table=kind, variant=variant, **columns)
        for variant in ("ours", "bare_torch")
    )
    ratio = float(ours["seconds_median"]) / float(bare["seconds_median"])
    return ours, bare, f"{ratio:.2f}"


def batches() -> str:
    """Return the table of throughput by batch size."""
    lines = []
    for batch in ("1", "4", "16", "64", "256", "1024", "4096"):
        ours, bare, ratio = pair("batch", batch=batch)
        speeds = (f"{float(row['images_per_second_median']):,.0f}" for row in (ours, bare))
        lines.append((f"{int(batch):,}", *speeds, ratio))
    return table(*lines)


def devices() -> str:
    """Return the table of one and two devices."""
    lines = []
    for batch in ("64", "1024"):
        one, two = (
            benchmark("scaling.csv", table="devices", batch=batch, devices=count)
            for count in ("1", "2")
        )
        speed_up = float(one["seconds_median"]) / float(two["seconds_median"])
        lines.append((f"{int(batch):,}", "1", span(one, "seconds", 3), "1"))
        lines.append((f"{int(batch):,}", "2", span(two, "seconds", 3), f"{speed_up:.2f}"))
    return table(*lines)


def sizes() -> str:
    """Return the table of one epoch by the number of images."""
    lines = []
    for images in ("1000", "5000", "20000", "60000"):
        ours, bare, ratio = pair("data", images=images)
        times = (f"{float(row['seconds_median']):.3f}" for row in (ours, bare))
        lines.append((f"{int(images):,}", *times, ratio))
    return table(*lines)


def throughput() -> str:
    """Return the table of a study's runs an hour."""
    names = {
        "two": "`study --jobs 2`",
        "one": "`study --jobs 1`",
        "eager": "`study --jobs 1`, `model.network.kernel: torch`",
    }
    lines = []
    for variant, name in names.items():
        row = benchmark("throughput.csv", variant=variant)
        cells = [name]
        for kind in ("whole", "training"):
            ratio = "1" if variant == "eager" else f"{float(row[f'{kind}_ratio_median']):.2f}"
            cells += [f"{float(row[f'{kind}_runs_per_hour_median']):.0f}", ratio]
        lines.append(cells)
    return table(*lines)


def startup() -> str:
    """Return the table of processor seconds from the start of a process."""
    names = {
        "imports": "`import torch, lightning`",
        "help": "`fit --help`",
        "wrong": "`fit` with a configuration error",
        "reached": "`import torch, lightning`, left at once",
        "first_step": "`fit` on MNIST, left after its first step",
    }
    lines = []
    for variant, name in names.items():
        row = benchmark("startup.csv", variant=variant)
        ratio = "1" if row["against"] == variant else span(row, "ratio", 2)
        lines.append((name, span(row, "cpu_seconds", 2), ratio))
    return table(*lines)


def expected() -> list[str]:
    """Return the sentences and tables of the page with recomputed figures."""
    mnist = {peer: benchmark("epoch.csv", dataset="MNIST", variant=peer) for peer in PEERS}
    ratio = {peer: float(row["ratio_median"]) for peer, row in mnist.items()}
    imports, left = (
        float(benchmark("startup.csv", variant=variant)["cpu_seconds_median"])
        for variant in ("imports", "reached")
    )
    return [
        table(
            ("Lightning, torchvision dataset, DataLoader",
             f"{ratio['lightning_torchvision']:#.2g}"),
            ("Keras on TensorFlow, `fit`", f"{ratio['keras_tensorflow']:.2f}"),
            ("best eager torch loop, without logging", f"{ratio['bare_torch']:.2f}"),
        ),
        arithmetic(),
        epoch("MNIST", list(PEERS)),
        epoch("CIFAR10", ["ours", "lightning_torchvision", "keras_tensorflow", "bare_torch"]),
        race(),
        batches(),
        devices(),
        sizes(),
        throughput(),
        startup(),
        f"the interpreter's shutdown, which takes {imports - left:.1f} s",
    ]  # fmt: skip
