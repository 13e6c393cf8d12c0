"""The rules of a resumed training on plain values; test_resume and test_changed_settings run it."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer

from lenet_lightning.callbacks import resume
from lenet_lightning.errors import UserError
from lenet_lightning.networks.lenet5 import LeNet5

# Options of the network that the output of a trained one depends on.
DECIDING = ("activation", "conv_activation", "invariance")


def checkpoint(ready: int = 2, processed: int = 2, steps: int = 42) -> dict[str, Any]:
    current = {"ready": ready, "processed": processed}
    return {"loops": {"fit_loop": {"epoch_progress": {"current": current}}}, "global_step": steps}


def config(scheduler: Any = None, epochs: int | None = 3, steps: int = -1) -> dict[str, Any]:
    trainer = {"max_epochs": epochs, "max_steps": steps}
    return {"model": {"scheduler": scheduler}, "trainer": trainer}


def refusal(changed: resume.Changes, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        resume.check(changed, config(**options), checkpoint())
    return str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        *(f"model.network.init_args.{key}" for key in DECIDING),
        "model.network.class_path",
        "model.network.init_args.initializer",
        "model.scaling",
        "model.scheduler",
        "model.scheduler.init_args.step_size",
        "model.optimizer.class_path",
        "model.optimizer.init_args.fused",
        "model.optimizer.init_args.momentum",
    ],
)
def test_settings_that_cannot_change(key: str) -> None:
    said = refusal({"data.seed": (0, 1), key: ("one", "other")})
    assert "was one and is now other, but the " in said and "keep one" in said
    assert key.rpartition(".")[2] in said and "None" not in said


@pytest.mark.parametrize("name", resume.TUNABLE)
def test_arguments_that_take_effect(name: str) -> None:
    changed = {
        f"model.optimizer.init_args.{name}": (0.1, 0.2),
        "data.augmentation.rotation": (0, 9),
    }
    resume.check(changed, config(), checkpoint())
    if name in ("lr", "adam_lr"):
        assert "sets the learning rate" in refusal(changed, scheduler={"class_path": "StepLR"})
    else:
        resume.check(changed, config({"class_path": "StepLR"}), checkpoint())


def test_checkpoints_that_cannot_be_continued() -> None:
    with pytest.raises(UserError, match="weights only"):
        resume.check({}, config(), {"global_step": 42})
    with pytest.raises(UserError, match="within an epoch"):
        resume.check({}, config(), checkpoint(ready=3))


@pytest.mark.parametrize(
    ("epochs", "steps", "limit"),
    [
        (3, -1, ""),
        (-1, 43, ""),
        (None, -1, ""),
        (2, -1, "trainer.max_epochs is 2, but the checkpoint has 2 "),
        (0, -1, "trainer.max_epochs is 0, but the checkpoint has 2 "),
        (3, 42, "trainer.max_steps is 42, but the checkpoint has 42 "),
    ],
)
def test_limits_must_lie_beyond_the_checkpoint(epochs: int | None, steps: int, limit: str) -> None:
    if limit:
        assert refusal({}, epochs=epochs, steps=steps).startswith(limit)
    else:
        resume.check({}, config(epochs=epochs, steps=steps), checkpoint())


def model(**changed: str) -> dict[str, Any]:
    options = dict.fromkeys(inspect.signature(LeNet5).parameters, "same") | changed
    path, scaling = (options.pop(name, "same") for name in ("class_path", "scaling"))
    return {"network": {"class_path": path, "init_args": options}, "scaling": scaling}


@pytest.mark.parametrize("key", [*DECIDING, "class_path", "scaling"])
def test_a_checkpoint_is_evaluated_as_the_network_it_is(key: str) -> None:
    changed = model(**{key: "other"})
    name = {"class_path": "network", "scaling": "scaling"}.get(key, f"network.{key}")
    for alone, remedy in ((True, "leave --config out"), (False, "choose checkpoints of one kind")):
        with pytest.raises(UserError, match=f"model.{name} is other, .* a.ckpt .* same: {remedy}"):
            resume.same_network(changed, model(), "a.ckpt", alone)
    with pytest.raises(UserError, match="leave --config out"):
        resume.same_network(changed, model(), "a.ckpt")


def test_what_matters_in_training_only_may_differ_in_an_evaluation() -> None:
    resume.same_network(model(**dict.fromkeys(LeNet5.TRAINING_ONLY, "other")), model(), "a.ckpt")


def test_a_network_without_options_is_compared_by_its_class() -> None:
    one, other = ({"network": {"class_path": path}, "scaling": "unit"} for path in ("a.B", "a.C"))
    resume.same_network(one, dict(one), "a.ckpt")
    with pytest.raises(UserError, match=r"model.network is a.B, .* trained with a.C: leave"):
        resume.same_network(one, other, "a.ckpt")


def test_each_group_takes_the_argument_that_is_its_learning_rate() -> None:
    arguments = {"lr": 0.1, "adam_lr": 0.2, "eps": 1e-6}
    assert resume.own_arguments({}, arguments) == {"lr": 0.1, "eps": 1e-6}
    assert resume.own_arguments({"own_lr": "adam_lr"}, arguments) == {"lr": 0.2, "eps": 1e-6}
    assert resume.own_arguments({"own_lr": "adam_lr"}, {"lr": 0.1}) == {}


def test_a_line_for_each_change() -> None:
    changed = {"model.optimizer.init_args.lr": (0.1, 0.2), "data.seed": (None, 1)}
    assert resume.lines(changed) == [
        "changed: model.optimizer.lr 0.1 -> 0.2",
        "changed: data.seed None -> 1",
    ]


def test_new_arguments_replace_those_of_the_checkpoint() -> None:
    changed = {
        "model.optimizer.init_args.lr": (0.1, 0.2),
        "model.optimizer.init_args.eps": (0.1, 0.3),
        "model.network.dropout": (0, 0.5),
    }
    groups = [{"lr": 0.1, "eps": 0.1, "betas": 1}, {"lr": 0.7, "eps": 0.1, "own_lr": "adam_lr"}]
    state = {"optimizer_states": [{"param_groups": groups}], "callbacks": {}}
    continuation = resume.Continuation(Path("run/checkpoints/last.ckpt"), changed)
    continuation.on_load_checkpoint(SimpleNamespace(callbacks=[]), None, state)
    assert groups[0] == {"lr": 0.2, "eps": 0.3, "betas": 1}
    assert groups[1] == {"lr": 0.7, "eps": 0.3, "own_lr": "adam_lr"}


def test_the_optimizer_is_checked_before_anything_is_written() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    trainer: Any = SimpleNamespace(callbacks=[], optimizers=[optimizer], lr_scheduler_configs=[])
    for states, fits in (([optimizer.state_dict()], True), ([], False)):
        loaded = {"optimizer_states": states, "lr_schedulers": [], "callbacks": {}}
        continuation = resume.Continuation(Path("run/checkpoints/last.ckpt"), {})
        continuation.on_load_checkpoint(trainer, None, loaded)
        if fits:
            continuation.on_fit_start(trainer, None)
        else:
            with pytest.raises(UserError, match=r"does not fit this training: optimizer_states "):
                continuation.on_fit_start(trainer, None)


def test_a_checkpoint_without_optimizers_is_refused_by_its_key() -> None:
    trainer: Any = SimpleNamespace(callbacks=[], optimizers=[], lr_scheduler_configs=[])
    continuation = resume.Continuation(Path("run/checkpoints/last.ckpt"), {})
    continuation.on_load_checkpoint(trainer, None, {"callbacks": {}})
    with pytest.raises(UserError, match=r"optimizer_states does not hold the state of 0"):
        continuation.on_fit_start(trainer, None)


def test_paths_follow_a_run_folder_that_was_moved() -> None:
    here, there = str(Path("here/checkpoints").resolve()), "/there/checkpoints"
    state = {
        "dirpath": there,
        "best_model_path": f"{there}/best.ckpt",
        "kth_best_model_path": "",
        "last_model_path": f"{there}/last.ckpt",
        "best_k_models": {f"{there}/best.ckpt": 0.9},
    }
    continuation = resume.Continuation(Path("here/checkpoints/last.ckpt"), {})
    before = dict(state)
    assert not continuation.moved(state, "/elsewhere/checkpoints") and state == before
    assert continuation.moved(state, there) and state == before
    assert continuation.moved(state, here)
    assert state == {
        "dirpath": here,
        "best_model_path": f"{here}/best.ckpt",
        "kth_best_model_path": "",
        "last_model_path": f"{here}/last.ckpt",
        "best_k_models": {f"{here}/best.ckpt": 0.9},
    }


def test_settings_of_callbacks_replace_those_of_the_checkpoint() -> None:
    stopping = EarlyStopping("val/loss", patience=7)
    keeping = ModelCheckpoint("mine/checkpoints")
    best = {"dirpath": "/other", "best_model_path": "/other/best.ckpt"}
    states = {
        stopping.state_key: {"patience": 1, "wait_count": 1, "best_score": 0.5},
        keeping.state_key: best,
    }
    trainer: Any = SimpleNamespace(callbacks=[stopping, keeping, Timer()])
    state = {"optimizer_states": [{"param_groups": []}], "callbacks": dict(states)}
    continuation = resume.Continuation(Path("mine/checkpoints/last.ckpt"), {})
    elsewhere = resume.Continuation(Path("/run/checkpoints/last.ckpt"), {})
    elsewhere.on_load_checkpoint(trainer, None, state)
    expected = {"patience": 7, "wait_count": 1, "best_score": 0.5}
    assert state["callbacks"] == {stopping.state_key: expected}
    best |= {"kth_best_model_path": "", "last_model_path": "", "best_k_models": {}}
    state["callbacks"] = dict(states)
    continuation.on_load_checkpoint(trainer, None, state)
    assert state["callbacks"].keys() == states.keys()
    assert best["best_model_path"] == str(Path("mine/checkpoints/best.ckpt").resolve())
