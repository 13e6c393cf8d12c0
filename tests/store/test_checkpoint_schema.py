"""Checkpoints that were changed by hand: refused in a phrase, or harmless to what takes them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim import lr_scheduler

from lenet_lightning.store import archive, checkpoint_schema, checkpoints
from lenet_lightning.store.checkpoint_schema import CONFIG_KEY, SPEC_KEY, SchemaError
from lenet_lightning.training.optimizers import KerasAdam, Muon
from lenet_lightning.training.schedulers import LinearCycles
from tests.conftest import DIGITS, Run

JUNK = [
    None,
    True,
    -1,
    0,
    3,
    10**30,
    1.5,
    math.nan,
    math.inf,
    "",
    "../../../victim",
    b"x",
    [],
    [1],
    [[]],
    (),
    {},
    {"a": {}},
    {1: 2},
    {"step": torch.zeros(3)},
    torch.zeros(3),
    torch.zeros(()),
    torch.tensor(math.nan),
    torch.zeros(1).expand(10**12),
    torch.zeros(2, 2).to_sparse(),
    torch.zeros(2, dtype=torch.complex64),
    torch.zeros(2, device="meta"),
    {1, 2},
]


# A folder of another name, which is none of this test's.
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")


class Network(LightningModule):
    """Two layers, whose optimizer and scheduler are put in place by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "ASGD": lambda p: torch.optim.ASGD(p, lr=0.1),
    "KerasAdam": lambda p: KerasAdam(p, lr=0.1),
    "Muon": lambda p: Muon(p),
}
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 100, cycle_momentum=False),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 2, 2]),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "LinearCycles": lambda o: LinearCycles(o, 2, 2),
}


class Session:
    """A network, optimizer, scheduler and trainer, after one step."""

    def __init__(self, optimizer: str = "Adam", scheduler: str = "OneCycleLR") -> None:
        torch.manual_seed(0)
        self.network = Network()
        self.optimizer = OPTIMIZERS[optimizer](self.network.parameters())
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.callbacks = [ModelCheckpoint(monitor="a"), EarlyStopping("a")]
        # Loops without training: a Trainer of Lightning's own.
        self.lightning = Trainer(
            logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
        )
        loops = {name: getattr(self.lightning, name) for name in checkpoint_schema.LOOPS}
        configs = [SimpleNamespace(scheduler=self.scheduler)]
        self.trainer: Any = SimpleNamespace(
            state=SimpleNamespace(fn="fit"),
            callbacks=self.callbacks,
            optimizers=[self.optimizer],
            lr_scheduler_configs=configs,
            **loops,
        )

    def step(self) -> None:
        for parameter in self.network.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()
        if self.scheduler.last_epoch + 1 > getattr(self.scheduler, "total_steps", math.inf):
            return  # OneCycleLR has ended
        plateau = isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau)
        self.scheduler.step(*[1.0] * plateau)

    def checkpoint(self) -> dict[str, Any]:
        spec = {"name": "a", "channels": 1, "size": 8, "classes": ["a", "b"], "mean": [0.5]}
        state = {
            "epoch": 1,
            "global_step": 1,
            "pytorch-lightning_version": "2.6.6",
            "state_dict": self.network.state_dict(),
            "callbacks": {each.state_key: each.state_dict() for each in self.callbacks},
            "loops": {
                name: getattr(self.lightning, name).state_dict() for name in checkpoint_schema.LOOPS
            },
            "optimizer_states": [self.optimizer.state_dict()],
            "lr_schedulers": [self.scheduler.state_dict()],
            SPEC_KEY: spec | {"std": [0.5]},
            CONFIG_KEY: "a: 1",
        }
        return copy.deepcopy(state)

    def check(self, checkpoint: Any) -> dict[str, Any]:
        checkpoint = checkpoint_schema.check(checkpoint)
        checkpoint_schema.check_state(checkpoint, self.trainer, self.network)
        checkpoint_schema.check_optimizers(checkpoint, self.trainer)
        return checkpoint

    def take(self, checkpoint: dict[str, Any]) -> None:
        """Restore a checkpoint as Lightning does, and train on."""
        self.network.load_state_dict(checkpoint["state_dict"])
        for name, state in checkpoint.get("loops", {}).items():
            if name in checkpoint_schema.LOOPS:
                getattr(self.lightning, name).load_state_dict(state)
        for callback in self.callbacks:
            if state := checkpoint.get("callbacks", {}).get(callback.state_key):
                callback.load_state_dict(state)
        self.optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        self.scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
        self.step()


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested mappings and lists, as keys."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, value in inner:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += places(value, (*path, key))
    return found


def change(checkpoint: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    node: Any = checkpoint
    for key in path[:-1]:
        node = node[key]
    if isinstance(value, str) and value == "removed":
        del node[path[-1]]
    else:
        node[path[-1]] = value


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 1])
def test_every_optimizer(optimizer: str, steps: int) -> None:
    session = Session(optimizer)
    for _ in range(steps):
        session.step()
    checkpoint = session.checkpoint()
    again, before = Session(optimizer), copy.deepcopy(checkpoint["optimizer_states"][0]["state"])
    again.check(checkpoint)
    now = checkpoint["optimizer_states"][0]["state"]
    torch.testing.assert_close(now, before, rtol=0, atol=0)
    again.take(checkpoint)
    for state in checkpoint["optimizer_states"][0]["state"].values():
        for key, value in list(state.items()):
            if isinstance(value, torch.Tensor) and value.dim():
                state[key] = torch.zeros(3, 3, 3)
                with pytest.raises(SchemaError, match=r"optimizer_states.*not a tensor"):
                    again.check(checkpoint)
                return


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler(scheduler: str) -> None:
    session = Session("SGD", scheduler)
    session.step()
    checkpoint = session.checkpoint()
    again = Session("SGD", scheduler)
    again.check(checkpoint)
    again.take(checkpoint)
    checkpoint["lr_schedulers"][0]["optimizer"] = 5
    with pytest.raises(SchemaError, match=r"lr_schedulers\.optimizer is not of this scheduler"):
        again.check(checkpoint)


@pytest.mark.parametrize(
    ("path", "value", "phrase"),
    [
        (("epoch",), -1, "epoch"),
        (("global_step",), "1", "global_step"),
        (("pytorch-lightning_version",), "garbage", "version"),
        (("pytorch-lightning_version",), "1.0.0", "version"),
        (("state_dict",), None, "state_dict"),
        (("state_dict", 5), torch.zeros(3), "state_dict"),
        (("state_dict", "layers.0.bias"), torch.zeros(4), r"not a tensor \[3\]"),
        (("state_dict", "layers.0.bias"), torch.zeros(3).double(), "float32"),
        (("state_dict", "layers.0.bias"), torch.full((3,), math.nan), "NaN"),
        (("state_dict", "layers.0.bias"), "removed", "bias is missing"),
        (("state_dict", "more"), torch.zeros(3), "more is not of this network"),
        (("optimizer_states",), [], "optimizer_states"),
        (("optimizer_states", 0, "state", 0, "exp_avg"), torch.full((3, 2), math.inf), "infinite"),
        (("optimizer_states", 0, "state", 0, "exp_avg"), "removed", "exp_avg is missing"),
        (("optimizer_states", 0, "state", 9), {"step": 1}, "9 is of no parameter"),
        (("optimizer_states", 0, "param_groups", 0, "params"), [0, 1], "other parameters"),
        (("optimizer_states", 0, "param_groups", 0, "lr"), "0.1", "lr is not what"),
        (("lr_schedulers",), [], "lr_schedulers"),
        (("loops",), {}, "fit_loop"),
        (("loops", "fit_loop", "epoch_progress", "current", "ready"), -1, "epoch_progress"),
        (("callbacks", "EarlyStopping{'monitor': 'a', 'mode': 'min'}"), 5, "EarlyStopping"),
        ((SPEC_KEY,), {}, "lenet_lightning_input"),
        ((SPEC_KEY, "channels"), 0, "channels"),
        ((SPEC_KEY, "size"), 0, "size"),
        ((SPEC_KEY, "size"), 33, "size"),
        ((SPEC_KEY, "classes"), ["a", "\x1b[2J"], "classes"),
        ((SPEC_KEY, "std"), [math.nan], "std"),
        ((CONFIG_KEY,), 5, "lenet_lightning_config"),
        (("hyper_parameters",), {"a": [[[[0] * 99] * 99] * 99] * 99}, "too many values"),
    ],
)
def test_changed(path: tuple[Any, ...], value: Any, phrase: str) -> None:
    session = Session()
    session.step()
    checkpoint = session.checkpoint()
    session.check(checkpoint)
    change(checkpoint, path, value)
    with pytest.raises(SchemaError, match=phrase):
        session.check(checkpoint)


def test_a_list_that_holds_itself() -> None:
    session = Session("Adam")
    session.step()
    checkpoint = session.checkpoint()
    checkpoint["epoch"] = cycle = []
    cycle.append(cycle)
    with pytest.raises(SchemaError, match="too deep"):
        session.check(checkpoint)


@pytest.mark.parametrize(
    ("scheduler", "name"),
    [("LinearCycles", "every"), ("StepLR", "step_size"), ("CosineAnnealingLR", "T_max")],
)
def test_period_of_zero(scheduler: str, name: str) -> None:
    session = Session("SGD", scheduler)
    session.step()
    checkpoint = session.checkpoint()
    checkpoint["lr_schedulers"][0][name] = 0
    with pytest.raises(SchemaError, match="lr_schedulers: "):
        session.check(checkpoint)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_schedule_at_its_end_can_be_restored(scheduler: str) -> None:
    """A run that is resumed for its last test takes no step any more."""
    session = Session("SGD", scheduler)
    for _ in range(150):
        session.step()
    Session("SGD", scheduler).check(session.checkpoint())


@pytest.mark.fuzz
@given(st.data(), st.sampled_from([*OPTIMIZERS]), st.sampled_from([*SCHEDULERS]))
def test_random_changes(data: st.DataObject, optimizer: str, scheduler: str) -> None:
    """Change one to three places: what is not refused can be restored, and training goes on."""
    session = Session(optimizer, scheduler)
    session.step()
    checkpoint = session.checkpoint()
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(checkpoint)))
        # A copy: a later change may reach into it.
        junk = copy.deepcopy(data.draw(st.sampled_from(["removed", *JUNK])))
        change(checkpoint, path, junk)
    try:
        checked = session.check(checkpoint)
    except SchemaError as error:
        assert str(error).isprintable()
        return
    session.take(checked)


@pytest.mark.fuzz
@given(st.binary(max_size=300), st.integers(0, 100))
def test_any_bytes(digits_run: Path, noise: bytes, place: int) -> None:
    """What is not a checkpoint, or is one with changed bytes, is nothing or passes the schema."""
    whole = (digits_run / "checkpoints/best.ckpt").read_bytes()
    start = len(whole) * place // 100
    for content in (noise, whole[:start] + noise + whole[start + len(noise) :]):
        checkpoint = archive.unpack(content)
        if checkpoint is not None:
            try:
                checkpoint_schema.check(checkpoint)
            except SchemaError:
                continue


def test_commands(run: Run, trained: Path) -> None:
    """Each command refuses in one sentence what the schema or the trainer does not know."""
    good = checkpoints.load(trained / "checkpoints/last.ckpt")
    shapes = copy.deepcopy(good)
    for state in shapes["optimizer_states"][0]["state"].values():
        state["exp_avg"] = torch.zeros(3)
    weights = copy.deepcopy(good)
    weights["state_dict"]["network.conv1.bias"] = torch.zeros(3)
    fit = f"{DIGITS} --trainer.max_epochs 3"
    for command, checkpoint, words in (
        (fit, shapes, "optimizer_states.state.0.exp_avg is not a tensor"),
        (fit, weights, "state_dict.network.conv1.bias is not a tensor"),
        ("test", weights, "state_dict.network.conv1.bias is not a tensor"),
        ("test", good | {"loops": {}}, "was changed by hand"),
        ("export --format safetensors", weights, "does not fit the network"),
    ):
        torch.save(checkpoint, "changed.ckpt")
        refused = run(command, "--ckpt_path changed.ckpt")
        assert refused.code == 2 and refused.err.count("\n") == 1, refused.err
        assert words in refused.err
    assert not Path("lightning_logs/digits").exists()
