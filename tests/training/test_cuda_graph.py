"""What surrounds a CUDA graph, on stand-ins for the graph: its buffers, its proof, its refusals."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.training.cuda_graph import BatchLoss, GraphedLoss
from lenet_lightning.training.gradient_step import why_no_graph
from lenet_lightning.training.losses import Objective
from tests.conftest import PLAIN, Run

OBJECTIVE = Objective(label_smoothing=0.1)


def batch(size: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 1, 32, 32, generator=draws)
    return images, torch.randint(10, (size,), generator=draws)


class Recorder:
    """Stands for a graph: replays on its own inputs, and hands out its own outputs each time."""

    def __init__(self, module: BatchLoss, inputs: tuple[Tensor, Tensor]) -> None:
        self.module = module
        self.inputs = inputs
        self.shapes = [each.shape for each in inputs]
        self.logits: Tensor | None = None
        self.replays = 0

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        assert [each.shape for each in inputs] == self.shapes
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.replays += 1
        loss, logits = self.module(*self.inputs)
        self.logits = logits.clone() if self.logits is None else self.logits.copy_(logits)
        return loss, self.logits.detach().requires_grad_()  # as torch's graphs hand them out


@pytest.fixture
def network() -> LeNet5:
    torch.manual_seed(0)
    return LeNet5(1, kernel="torch")


def graphed(
    network: nn.Module, capture: Callable[..., Any]
) -> tuple[GraphedLoss, list[str], list[Any]]:
    """Return the graphed loss, what it says, and the graphs it captures."""
    said: list[str] = []
    captured: list[Any] = []

    def keep(*args: Any) -> Any:
        captured.append(capture(*args))
        return captured[-1]

    return GraphedLoss(network, OBJECTIVE, said.append, keep), said, captured


class TestReplay:
    def test_gives_what_eager_execution_gives(self, network: LeNet5) -> None:
        loss_of, said, captured = graphed(network, Recorder)
        eager = BatchLoss(network, OBJECTIVE)
        for seed in range(3):
            images, labels = batch(seed=seed)
            expected, found = eager(images, labels), loss_of(images, labels)
            torch.testing.assert_close(found[0], expected[0])
            torch.testing.assert_close(found[1], expected[1])
            assert not found[1].requires_grad
        assert said == [] and len(captured) == 1
        assert captured[0].replays == 1 + 3  # the proof, then each batch

    def test_trains(self, network: LeNet5) -> None:
        loss_of, _, _ = graphed(network, Recorder)
        loss_of(*batch())[0].backward()
        found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        network.zero_grad()
        BatchLoss(network, OBJECTIVE)(*batch())[0].backward()
        expected = [p.grad for p in network.parameters() if p.grad is not None]
        torch.testing.assert_close(found, expected)

    def test_results_outlive_the_next_replay(self, network: LeNet5) -> None:
        loss_of, _, _ = graphed(network, Recorder)
        _, first = loss_of(*batch(seed=0))
        kept = first.clone()
        loss_of(*batch(seed=1))
        assert torch.equal(first, kept)

    def test_a_batch_of_another_size_is_eager(self, network: LeNet5) -> None:
        loss_of, said, captured = graphed(network, Recorder)
        loss_of(*batch())
        _, logits = loss_of(*batch(3))
        assert logits.shape == (3, 10) and captured[0].replays == 2 and said == []

    def test_a_proof_leaves_no_gradient(self, network: LeNet5) -> None:
        loss_of, _, _ = graphed(network, Recorder)
        loss_of(*batch())
        assert all(p.grad is None for p in network.parameters())


class TestRefusal:
    def check(self, network: LeNet5, capture: Callable[..., Any], reason: str) -> None:
        """It says the reason once, and continues eagerly."""
        loss_of, said, _ = graphed(network, capture)
        for seed in range(2):
            images, labels = batch(seed=seed)
            expected = BatchLoss(network, OBJECTIVE)(images, labels)
            torch.testing.assert_close(loss_of(images, labels)[0], expected[0])
        assert len(said) == 1 and reason in said[0]

    def test_a_graph_that_keeps_its_first_images(self, network: LeNet5) -> None:
        def stale(module: BatchLoss, inputs: tuple[Tensor, Tensor]) -> Any:
            return lambda *_: module(*inputs)

        self.check(network, stale, "replayed gradients differ from eager ones")

    def test_capturing_fails(self, network: LeNet5) -> None:
        def fail(*_: Any) -> Any:
            raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

        self.check(network, fail, "capturing failed (CUDA error: operation not permitted)")


class TestFit:
    def test_without_a_gpu_it_says_so_and_trains_the_same(self, run: Run) -> None:
        plain = run(f"{PLAIN} --name plain")
        asked = run(f"{PLAIN} --name asked --model.cuda_graph true")
        line = "model.cuda_graph: kernels are launched one by one, since the device is cpu."
        assert (asked.code, asked.err) == (0, "") and asked.out.count(line) == 1
        assert asked.out.splitlines()[-3:] == plain.out.splitlines()[-3:]

    @pytest.mark.parametrize(
        ("device", "dropout", "devices", "precision", "reason"),
        [
            ("cpu", 0.0, 1, "32-true", "the device is cpu"),
            ("cuda", 0.1, 1, "32-true", "dropout is drawn anew in every step"),
            ("cuda", 0.0, 2, "32-true", "several devices train"),
            ("cuda", 0.0, 1, "bf16-mixed", "trainer.precision is bf16-mixed"),
            ("cuda", 0.0, 1, "32-true", None),
        ],
    )
    def test_what_rules_it_out(
        self, device: str, dropout: float, devices: int, precision: str, reason: str | None
    ) -> None:
        trainer = SimpleNamespace(world_size=devices, precision=precision)
        found = why_no_graph(cast(Trainer, trainer), torch.device(device), LeNet5(dropout=dropout))
        assert found == reason
        other = why_no_graph(cast(Trainer, trainer), torch.device("cuda"), nn.Linear(2, 2))
        assert other == "the network is not LeNet-5"
