"""What a checkpoint must hold: types, shapes and ranges, checked before anything uses them.

:func:`check` needs the file alone. :func:`check_state` and :func:`check_optimizers` compare what
Lightning is about to restore with the trainer, network, optimizers and schedulers that take it.
"""

import copy
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lenet_lightning.errors import printable

# Keys of a checkpoint: what its network must know of its input (``InputSpec``), and the complete
# configuration of its run, as YAML.
SPEC_KEY = "lenet_lightning_input"
CONFIG_KEY = "lenet_lightning_config"

MAX_VALUES = 100_000
MAX_DEPTH = 20
MAX_NUMBER = 2**53
MAX_TEXT = 1_000_000
MAX_TENSOR_BYTES = 1_000_000_000  # of all tensors together
MAX_PHRASE = 300

LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
COUNTS = ("ready", "started", "processed", "completed")
VERSION = re.compile(r"2\.\d{1,4}(\.\d{1,4}){0,2}((a|b|rc|\.dev|\.post)\d{0,12})*(\+[\w.]{1,40})?")


class SchemaError(Exception):
    """A checkpoint is not what ``fit`` wrote; the message is a phrase that says where and how."""

    def __init__(self, phrase: str) -> None:
        # A phrase may hold names from the checkpoint.
        super().__init__(" ".join(printable(phrase).split())[:MAX_PHRASE])


def require(condition: bool, phrase: str) -> None:
    """Raise a ``SchemaError`` unless a condition holds."""
    if not condition:
        raise SchemaError(phrase)


def check(checkpoint: Any) -> dict[str, Any]:
    """Check everything that can be known without network and trainer.

    Args:
        checkpoint: what ``torch.load`` returned.

    Returns:
        A copy of it, in which containers have no attributes and tensors share no memory.

    Raises:
        SchemaError: naming the key and what is wrong with it.
    """
    require(isinstance(checkpoint, dict), "it is not a mapping")
    checkpoint = _plain(checkpoint, "", _Left())
    check_spec(checkpoint.get(SPEC_KEY))
    for key in ("epoch", "global_step"):
        require(_is_count(checkpoint.get(key)), f"{key} is not a whole number from 0")
    version = checkpoint.get("pytorch-lightning_version")
    require(
        isinstance(version, str) and VERSION.fullmatch(version) is not None,
        "pytorch-lightning_version is not a version 2 of Lightning",
    )
    _check_weights(checkpoint.get("state_dict"), "state_dict")
    if "current_model_state" in checkpoint:  # of weight averaging
        own, average = checkpoint["current_model_state"], checkpoint["state_dict"]
        _check_weights(own, "current_model_state")
        kinds = [
            {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()}
            for weights in (own, average)
        ]
        require(kinds[0] == kinds[1], "current_model_state has other tensors than state_dict")
        state = _mapping(checkpoint.get("averaging_state"), "averaging_state")
        count = state.get("n_averaged")
        require(state.keys() == {"n_averaged"}, "averaging_state does not hold n_averaged alone")
        require(
            isinstance(count, Tensor)
            and count.shape == ()
            and count.dtype == torch.long
            and int(count) >= 0,
            "averaging_state.n_averaged is not a whole number from 0",
        )
    for key in ("callbacks", "loops"):
        for name, state in _mapping(checkpoint.get(key, {}), key).items():
            _mapping(state, f"{key}.{name}")
    for key in ("optimizer_states", "lr_schedulers"):
        states = checkpoint.get(key, [])
        require(isinstance(states, list), f"{key} is not a list")
        for state in states:
            _mapping(state, f"an entry of {key}")
    for state in checkpoint.get("optimizer_states", []):
        _mapping(state.get("state"), "optimizer_states.state")
        groups = state.get("param_groups")
        require(isinstance(groups, list), "optimizer_states.param_groups is not a list")
        for group in groups:
            _mapping(group, "an entry of optimizer_states.param_groups")
        _check_finite(state, "optimizer_states")
    if "loops" in checkpoint:
        _check_loops(checkpoint["loops"])
    config = checkpoint.get(CONFIG_KEY, "")
    require(isinstance(config, str), f"{CONFIG_KEY} is not text")
    return dict(checkpoint)


def check_spec(spec: Any) -> None:
    """Check the fields of an ``InputSpec`` as a checkpoint holds them.

    Raises:
        SchemaError: naming the field and what it must be.
    """
    values = _mapping(spec, SPEC_KEY)
    known = {"name", "channels", "size", "classes", "mean", "std"}
    names = ", ".join(sorted(known))
    require(values.keys() - {"digest"} == known, f"{SPEC_KEY} does not hold {names}")
    channels, size, classes = values["channels"], values["size"], values["classes"]
    require(_is_name(values["name"]), f"{SPEC_KEY}.name is not a name")
    require(_is_count(channels) and channels in (1, 3), f"{SPEC_KEY}.channels is not 1 or 3")
    require(_is_count(size) and 1 <= size <= 32, f"{SPEC_KEY}.size is not from 1 to 32")
    require(
        isinstance(classes, list)
        and 1 < len(classes) <= 10_000
        and all(map(_is_name, classes))
        and len(set(classes)) == len(classes),
        f"{SPEC_KEY}.classes is not a list of different names",
    )
    digest = values.get("digest", "")  # versions before 0.2 wrote none
    require(digest == "" or _is_name(digest), f"{SPEC_KEY}.digest is not a digest")
    for key in ("mean", "std"):
        require(
            isinstance(values[key], list)
            and len(values[key]) == channels
            and all(isinstance(x, float) and 0 <= x <= 1 for x in values[key]),
            f"{SPEC_KEY}.{key} is not {channels} numbers from 0 to 1",
        )


def check_state(checkpoint: dict[str, Any], trainer: Trainer, module: LightningModule) -> None:
    """Check weights, loops and callbacks against those that Lightning restores them into.

    Raises:
        SchemaError: naming the key and what is wrong with it.
    """
    check_weights(checkpoint["state_dict"], module)
    for name, state in checkpoint.get("loops", {}).items():
        if name in LOOPS:
            _alike(state, getattr(trainer, name).state_dict(), f"loops.{name}")
    if trainer.state.fn != TrainerFn.FITTING:
        return
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        package = type(callback).__module__.partition(".")[0]
        if package in ("lightning", "lenet_lightning"):
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            if state:
                own = callback.state_dict()
                if "best_k_models" in own:  # by path
                    own["best_k_models"] = {}
                _alike(state, own, f"callbacks.{type(callback).__name__}")
                _try(callback, state)


def _try(callback: Callback, state: dict[str, Any]) -> None:
    """Restore a copy of a callback: some check their state themselves, each in its own way."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when it is restored
            copy.copy(callback).load_state_dict(copy.deepcopy(state))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SchemaError(f"callbacks.{type(callback).__name__}: {reason}") from error


def check_weights(weights: Mapping[str, Tensor], module: torch.nn.Module) -> None:
    """Check names, shapes and dtypes of weights against a network.

    Raises:
        SchemaError: naming the first tensor that differs.
    """
    own = module.state_dict()
    for name in sorted(own.keys() ^ weights.keys()):
        known = "missing" if name in own else "not of this network"
        raise SchemaError(f"state_dict.{name[:100]} is {known}")
    for name, tensor in own.items():
        _check_tensor(weights[name], tensor, f"state_dict.{name}")


def check_optimizers(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Check the states of optimizers and schedulers against those that take them.

    Raises:
        SchemaError: naming the key and what is wrong with it.
    """
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    for key, takers in (("optimizer_states", trainer.optimizers), ("lr_schedulers", schedulers)):
        states = checkpoint.get(key)
        require(
            isinstance(states, list) and len(states) == len(takers),
            f"{key} does not hold the state of {len(takers)}",
        )
    for optimizer, state in zip(trainer.optimizers, checkpoint["optimizer_states"], strict=True):
        _check_optimizer(state, optimizer)
    for scheduler, state in zip(schedulers, checkpoint["lr_schedulers"], strict=True):
        own = scheduler.state_dict()
        for name in state:
            # The state is put over the scheduler's attributes.
            known = name in own or not hasattr(scheduler, name)
            require(known, f"lr_schedulers.{name} is not of this scheduler")
        _alike({**own, **{k: v for k, v in state.items() if k in own}}, own, "lr_schedulers")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the copy's optimizer has not stepped
                twin = copy.deepcopy(scheduler)
                twin.load_state_dict(copy.deepcopy(state))
                with suppress(ValueError):  # a schedule of fixed length may have ended
                    if isinstance(twin, ReduceLROnPlateau):
                        twin.step(0.0)
                    else:
                        twin.step()
        except Exception as error:  # each scheduler has values of its own, such as a period
            raise SchemaError(f"lr_schedulers: {_reason(error)}") from error


def _check_optimizer(state: dict[str, Any], optimizer: Optimizer) -> None:
    """Compare with the state that a copy of the optimizer has after a step, and let it restore."""
    twin = copy.deepcopy(optimizer)
    step(twin)
    own = twin.state_dict()
    key = "optimizer_states.param_groups"
    require(len(state["param_groups"]) == len(own["param_groups"]), f"{key} are too few or many")
    for group, known in zip(state["param_groups"], own["param_groups"], strict=True):
        numbers = group.get("params")
        whole = isinstance(numbers, list) and all(map(_is_count, numbers))
        require(whole and numbers == known["params"], f"{key}.params are other parameters")
        require(group.keys() <= known.keys(), f"{key} hold unknown arguments")
        # Of schedulers and of this package's optimizers; torch has defaults for some of its own.
        missing = known.keys() - group.keys() - optimizer.defaults.keys()
        require(not missing, f"{key} have no {', '.join(sorted(missing))}")
        _alike({**known, **group}, known, key)
    for number, values in state["state"].items():
        where = f"optimizer_states.state.{number}"
        require(number in own["state"], f"{where} is of no parameter")
        if _mapping(values, where):
            _alike(values, own["state"][number], where)
    try:
        twin.load_state_dict(copy.deepcopy(state))  # its tensors would be changed in place
        step(twin)
    except Exception as error:  # which arguments may be absent depends on the optimizer
        raise SchemaError(f"optimizer_states: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return an exception as one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def step(optimizer: Optimizer) -> None:
    """Let an optimizer step with gradients of 0."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    # Of the class: a scheduler puts a counter around the instance's method.
    type(optimizer).step(optimizer)


def _alike(value: Any, known: Any, key: str) -> None:
    """Check that a value has the type, keys and shapes of a known one; None stands for a scalar."""
    phrase = f"{key} is not what it must be"
    if isinstance(known, Counter):
        require(isinstance(value, dict), phrase)
        require(all(_is_count(x) for pair in value.items() for x in pair), phrase)
    elif isinstance(known, dict) and known:
        missing = sorted(str(name) for name in known.keys() - _mapping(value, key).keys())
        require(not missing, f"{key}.{next(iter(missing), '')} is missing")
        for name in known:
            _alike(value[name], known[name], f"{key}.{name}")
    elif isinstance(known, dict):
        require(all(map(_is_scalar, _mapping(value, key).values())), phrase)
    elif isinstance(known, list | tuple):
        require(isinstance(value, list | tuple) and len(value) == len(known), phrase)
        for each, own in zip(value, known, strict=True):
            _alike(each, own, key)
    elif isinstance(known, Tensor) and known.dim():
        _check_tensor(value, known, key)
    elif isinstance(known, str):
        # A scheduler's words, such as a mode, are its arguments, which cannot change half-way.
        require(isinstance(value, str) and (value == known or "lr_schedulers" not in key), phrase)
    elif isinstance(known, bool):
        require(value is None or isinstance(value, bool), phrase)
    elif isinstance(known, int):
        require(isinstance(value, int | float) and not isinstance(value, bool), phrase)
    elif isinstance(known, float | Tensor):
        require(_is_scalar(value) and not isinstance(value, bool | str | None), phrase)
    else:  # None, or a class's own object, which no file holds
        require(_is_scalar(value), phrase)


def _check_tensor(value: Any, known: Tensor, key: str) -> None:
    shape, dtype = list(known.shape), known.dtype
    require(
        isinstance(value, Tensor) and list(value.shape) == shape and value.dtype == dtype,
        f"{key} is not a tensor {shape} of {dtype}",
    )


class _Left:
    """How many values and bytes a checkpoint may still hold."""

    values = MAX_VALUES
    tensor_bytes = MAX_TENSOR_BYTES


def _plain(value: Any, key: str, left: _Left, depth: int = 0) -> Any:
    """Return a copy of what is plain, and neither large nor deep.

    Only the copy is used: a mapping could have attributes in place of its methods, and a tensor
    memory in common with others.
    """
    left.values -= 1
    require(left.values > 0 and depth < MAX_DEPTH, "it holds too many values, or too deep ones")
    if isinstance(value, dict):
        copied = {}
        for name, each in dict.items(value):
            require(isinstance(name, str | int), f"{key or 'it'} has a key that is not a name")
            inner = f"{key}.{name}"[:200].lstrip(".")
            copied[name] = _plain(each, inner, left, depth + 1)
        return Counter(copied) if isinstance(value, Counter) else copied
    if isinstance(value, list | tuple):
        items = [_plain(each, key, left, depth + 1) for each in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Tensor):
        whole = value.layout == torch.strided and value.device.type == "cpu"
        require(whole and not value.is_quantized, f"{key} is an unusual tensor")
        size = value.numel() * value.element_size()
        require(size <= value.untyped_storage().nbytes(), f"{key} is larger than its data")
        left.tensor_bytes -= size
        require(left.tensor_bytes >= 0, "its tensors are too large")
        return value.detach().clone()
    if isinstance(value, str):
        require(len(value) <= MAX_TEXT, f"{key} is too long")
    elif isinstance(value, int):
        require(abs(value) <= MAX_NUMBER, f"{key} is too large")
    else:
        require(value is None or isinstance(value, float), f"{key} is not a plain value")
    return value


def _check_weights(weights: Any, key: str) -> None:
    for name, tensor in _mapping(weights, key).items():
        require(isinstance(name, str), f"{key} has a key that is not a name")
        require(isinstance(tensor, Tensor), f"{key}.{name} is not a tensor")
    require(len(weights) > 0, f"{key} is empty")
    _check_finite(weights, key)


def _check_finite(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for name, each in value.items():
            _check_finite(each, f"{key}.{name}")
    elif isinstance(value, Tensor):
        require(bool(value.isfinite().all()), f"{key} holds infinite values or NaN")


def _check_loops(loops: dict[str, Any]) -> None:
    """Check what is read of the loops before training: the epochs and batches of ``fit``."""
    fit = _mapping(loops.get("fit_loop"), "loops.fit_loop")
    for name in ("epoch_progress", "epoch_loop.batch_progress"):
        progress = _mapping(fit.get(name), f"loops.fit_loop.{name}")
        for kind in ("total", "current"):
            counts = _mapping(progress.get(kind), f"loops.fit_loop.{name}.{kind}")
            require(
                all(_is_count(counts.get(count)) for count in COUNTS),
                f"loops.fit_loop.{name}.{kind} are not whole numbers from 0",
            )


def _mapping(value: Any, key: str) -> dict[Any, Any]:
    require(isinstance(value, dict), f"{key} is not a mapping")
    return dict(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


def _is_scalar(value: Any) -> bool:
    return value is None or (
        isinstance(value, bool | int | float | str)
        or (isinstance(value, Tensor) and value.dim() == 0)
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
