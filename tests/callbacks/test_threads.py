"""Tests of the choice of the number of threads; no time is measured in them."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lenet_lightning.callbacks import threads
from lenet_lightning.callbacks.threads import ThreadChooser
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.process import usable_cores


class Machine:
    """Stands for the processor: seconds of a forward pass by number of threads, and a clock."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.now = seconds, 100.0
        self.measured = 0

    def timing(self, network: torch.nn.Module, images: torch.Tensor) -> float:
        assert not network.training
        assert images.shape == (32, 1, 32, 32)
        self.measured += 1
        self.now += 0.001
        return self.seconds[torch.get_num_threads()]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    before = torch.get_num_threads()
    made = Machine({1: 1.0, 2: 0.6, 4: 0.5})
    monkeypatch.setattr(threads, "timing", made.timing)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: made.now)
    yield made
    torch.set_num_threads(before)


def module(kernel: Any = "auto") -> Any:
    network = LeNet5(kernel=kernel)
    network.train()
    return SimpleNamespace(network=network, device=torch.device("cpu"))


def after(chooser: ThreadChooser, machine: Machine, model: Any, seconds: float) -> int:
    machine.now += seconds
    chooser.on_train_batch_end(cast(Any, None), model)
    return torch.get_num_threads()


def test_the_fastest_number_is_taken_and_the_network_goes_on_training(machine):
    chooser, model = ThreadChooser(most=2), module()
    chooser.on_train_start(cast(Any, None), model)
    assert torch.get_num_threads() == 2
    assert model.network.training


def test_more_threads_are_tried_step_by_step(machine):
    chooser, model = ThreadChooser(most=4), module()
    chooser.on_train_start(cast(Any, None), model)
    assert torch.get_num_threads() == 2
    assert after(chooser, machine, model, 60) == 4


def test_threads_are_given_up_when_other_programs_compute(machine):
    chooser, model = ThreadChooser(most=2), module()
    chooser.on_train_start(cast(Any, None), model)
    machine.seconds[2] = 5.0
    assert after(chooser, machine, model, 60) == 1


def test_a_small_gain_changes_nothing(machine):
    machine.seconds[2] = 0.97
    chooser = ThreadChooser(most=2)
    chooser.on_train_start(cast(Any, None), module())
    assert torch.get_num_threads() == 1


def test_measurements_take_two_per_cent_of_the_time_at_most(machine):
    chooser, model = ThreadChooser(most=2), module()
    chooser.on_train_start(cast(Any, None), model)
    assert machine.measured == 6
    after(chooser, machine, model, 0.25)  # 0.006 s are 2 % of 0.3 s
    assert machine.measured == 6
    after(chooser, machine, model, 0.1)
    assert machine.measured == 12
    waits = []
    for _ in range(8):
        waits.append(chooser.due - machine.now)
        after(chooser, machine, model, waits[-1])
    assert waits == sorted(waits), "rarer while the choice stays the same"
    assert waits[-1] == pytest.approx(threads.LONGEST_WAIT)


@pytest.mark.parametrize("most", [1, 2])
def test_nothing_changes_where_results_could_depend_on_it(machine, most):
    torch.set_num_threads(3)
    model = module("torch" if most == 2 else "auto")
    chooser = ThreadChooser(most)
    chooser.on_train_start(cast(Any, None), model)
    chooser.on_train_batch_end(cast(Any, None), model)
    chooser.teardown(cast(Any, None), model, "fit")
    assert (machine.measured, torch.get_num_threads(), chooser.summary()) == (0, 3, "")


def test_it_leaves_the_number_as_it_was_and_says_what_was_used(machine):
    torch.set_num_threads(3)
    chooser, model = ThreadChooser(most=2), module()
    chooser.on_validation_start(cast(Any, None), model)
    machine.now += 9
    machine.seconds[2] = 5.0
    after(chooser, machine, model, 0)
    machine.now += 1
    chooser.teardown(cast(Any, None), model, "fit")
    assert torch.get_num_threads() == 3
    assert chooser.summary() == "2 (90%), 1 (10%)"


def test_the_test_that_follows_starts_with_the_number_chosen_before(machine):
    chooser, model = ThreadChooser(most=4), module()
    chooser.on_train_start(cast(Any, None), model)
    chooser.teardown(cast(Any, None), model, "fit")
    chooser.on_test_start(cast(Any, None), model)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("", None), ("0", None), ("x", None)])
def test_the_environment_limits_the_number(monkeypatch, limit, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = usable_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert usable_cores() == (expected or cores)
    assert ThreadChooser().most == (expected or cores)


def test_a_timing_is_a_time():
    network = LeNet5().eval()
    with torch.inference_mode():
        assert threads.timing(network, torch.zeros(1, 1, 32, 32)) > 0
