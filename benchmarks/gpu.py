"""The training step on a GPU: does it agree with the processor, and which form of it is fastest?

    python benchmarks/gpu.py [--rounds 20] [--output benchmarks/results/gpu.csv]

Needs no dataset: random images of MNIST's and CIFAR-10's shape lie on the device as the product
keeps them. Every variant starts from the same weights and sees the same batches. First each trains
50 steps, and its weights are compared with those of float32 on the processor; then all are timed
in alternating blocks of steps, in one process. ``--device cpu`` tries the script without a GPU.
"""

import copy
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import common
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lenet_lightning.data.batches import Images, TrainBatches
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training.cuda_graph import GraphedLoss
from lenet_lightning.training.losses import Objective

WORKLOADS = {"MNIST": (64, 1), "CIFAR10": (16, 3)}
IMAGES, CHECKED_STEPS, WARM_UP = 8192, 50, 3
Step = Callable[[Tensor, Tensor], None]


def batches(batch: int, channels: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) for ever, gathered on the device as in training."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, channels, 32, 32), generator=draws, dtype=torch.uint8)
    labels = torch.randint(10, (IMAGES,), generator=draws)
    data = Images(pixels.to(device), labels.to(device))
    loader = TrainBatches(data, torch.arange(IMAGES), batch, steps_per_execution=16)
    while True:
        for chunk in loader:
            yield from ((images, targets) for images, targets, _ in chunk.batches())


def adam(network: nn.Module, capturable: bool = False) -> torch.optim.Optimizer:
    fused = not capturable
    return torch.optim.Adam(network.parameters(), 5e-4, fused=fused, capturable=capturable)


def eager(network: nn.Module, bf16: bool = False) -> Step:
    """Return the plain step, in bfloat16 where torch's autocast puts it if asked."""
    optimizer, device = adam(network), next(network.parameters()).device.type

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()

    return step


def stop(reason: str) -> None:
    raise SystemExit(f"No CUDA graph to measure: {reason}.")


def replayed(network: nn.Module) -> Step:
    """Return the step as ``model.cuda_graph`` takes it: all but the optimiser as a CUDA graph."""
    optimizer = adam(network)
    loss_of = GraphedLoss(network, Objective(), refuse=stop)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        loss, _ = loss_of(images, labels)
        (loss / len(labels)).backward()
        optimizer.step()

    return step


def graphed(network: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """Return the whole step as a CUDA graph, replayed on the batch copied into its input."""
    optimizer = adam(network, capturable=True)
    weights = copy.deepcopy(network.state_dict())
    static = images.clone(), labels.clone()

    def body() -> None:
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(network(static[0]), static[1]).backward()
        optimizer.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            body()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    # Warming up trained: back to the first weights and moments, in place, where the graph reads.
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.copy_(weights[name])
        for state in optimizer.state.values():
            for moment in state.values():
                moment.zero_()

    def step(images: Tensor, labels: Tensor) -> None:
        static[0].copy_(images)
        static[1].copy_(labels)
        graph.replay()

    return step


def variants(channels: int, example: tuple[Tensor, Tensor]) -> dict[str, tuple[nn.Module, Step]]:
    """Return each variant's network and step; all start from the same weights."""
    device = example[0].device
    torch.manual_seed(0)
    first = LeNet5(channels, kernel="torch").to(device)
    networks = {name: copy.deepcopy(first) for name in ("eager", "channels_last", "bf16")}
    networks["channels_last"].to(memory_format=torch.channels_last)
    made = {name: (network, eager(network, name == "bf16")) for name, network in networks.items()}
    if device.type == "cuda":
        compiled, partly, captured = (copy.deepcopy(first) for _ in range(3))
        made["compile"] = compiled, eager(torch.compile(compiled))
        made["cuda_graph"] = partly, replayed(partly)
        made["whole step as a graph"] = captured, graphed(captured, *example)
    return made


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().cpu() for p in network.parameters()])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(
    steps: list[Step], given: Iterator, device: torch.device, options: Namespace
) -> list[list[float]]:
    """Return each step's milliseconds, a value per round; the first round warms up."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(options.rounds + 1):
        for own, step in zip(times, steps, strict=True):
            block = [next(given) for _ in range(options.steps)]
            synchronize(device)
            start = time.perf_counter()
            for images, labels in block:
                step(images, labels)
            synchronize(device)
            own.append((time.perf_counter() - start) * 1e3 / options.steps)
    return [own[1:] for own in times]


def distances(
    made: dict[str, tuple[nn.Module, Step]], batch: int, channels: int, device: torch.device
) -> dict[str, float]:
    """Train each variant for some steps; return how far its weights end from the processor's.

    As a share of the way that the processor's weights moved.
    """
    torch.manual_seed(0)
    reference = LeNet5(channels, kernel="torch")
    first, step = weights(reference), eager(reference)
    given = batches(batch, channels, torch.device("cpu"))
    shown = [next(given) for _ in range(CHECKED_STEPS)]
    for images, labels in shown:
        step(images, labels)
    moved = (weights(reference) - first).norm()
    off = {}
    for name, (network, step) in made.items():
        for images, labels in shown:
            step(images.to(device), labels.to(device))
        off[name] = float((weights(network) - weights(reference)).norm() / moved)
    return off


def compare(workload: str, device: torch.device, options: Namespace) -> list[dict[str, Any]]:
    """Check and time one workload; return a CSV row for every variant."""
    batch, channels = WORKLOADS[workload]
    given = batches(batch, channels, device)
    made = variants(channels, next(given))
    off = distances(made, batch, channels, device)
    times = measure([step for _, step in made.values()], given, device, options)
    about = {"device": device_name(device), "torch": torch.__version__, "workload": workload}
    return [
        {
            **about, "batch": batch, "variant": variant, "rounds": options.rounds,
            "off": f"{off[variant]:.1e}", **common.columns("ms", own),
            **common.columns("ratio", common.ratios(own, times[0])),
        }
        for variant, own in zip(made, times, strict=True)
    ]  # fmt: skip


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else common.machine()


def main() -> None:
    """Print a table: agreement with the processor, milliseconds a step, ratio to eager."""
    parser = common.parser(__doc__, rounds=20)
    parser.add_argument("--steps", type=int, default=100, help="steps in a block")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here: --device cpu tries the script without one.")
    rows = [row for workload in WORKLOADS for row in compare(workload, device, options)]
    keys = ("workload", "batch", "variant", "off", "ms_median", "ms_min", "ms_max", "ratio_median")
    print(common.table(list(keys), [[str(row[key]) for key in keys] for row in rows]))
    print(
        f"\n{options.rounds} rounds of {options.steps} steps, {device_name(device)}, torch "
        f"{torch.__version__}, {common.today()}. off: after {CHECKED_STEPS} steps, the distance of "
        "the weights from the processor's, as a share of the way that those moved."
    )
    common.append(options.output, 1, rows)


if __name__ == "__main__":
    main()
