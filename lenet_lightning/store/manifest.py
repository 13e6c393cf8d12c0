"""``run.json``: what is known of a run beside its configuration and metrics, read and written here.

Needs neither torch nor Lightning.
"""

import json
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lenet_lightning.errors import printable

Status = Literal["running", "finished", "interrupted", "pruned", "nonfinite", "failed", "missing"]


@dataclass
class Data:
    """The dataset of a run.

    Attributes:
        name: of the dataset.
        digests: of each stored file, ``algorithm:hexadecimal``.
        classes: class names, in the order of the labels.
        train_size: training images.
        val_size: validation images.
        test_size: test images.
    """

    name: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    train_size: int = 0
    val_size: int = 0
    test_size: int = 0


@dataclass
class Hardware:
    """Where a run was trained; ``device`` is the kind of accelerator, ``gpu`` its name.

    ``threads`` is the number when training began, ``threads_used`` says for how much of the last
    session each number was in use, if it was chosen by measurement.
    """

    cpu: str = ""
    cores: int | None = None
    threads: int | None = None
    threads_used: str = ""
    device: str = ""
    gpu: str | None = None


@dataclass
class Git:
    """The checkout that the code came from; ``dirty`` with uncommitted changes."""

    revision: str = ""
    dirty: bool = False


@dataclass
class Manifest:
    """The record of a run.

    Attributes:
        status: how it ended; ``pruned`` by a sweep, ``missing`` of a run that was never started.
        error: why it stopped, of one that did.
        command: the command line that started it.
        started: date and time, ISO 8601, of its first session.
        seed: ``seed_everything``.
        monitor: the metric that selects the best epoch.
        protocol: ``data.protocol``.
        parameters: of the network.
        kernel: ``fused`` or ``torch``, what computed its convolutions.
        kernel_unavailable: why the fused kernel did not.
        data: the dataset.
        teachers: digest by path of each checkpoint it was distilled from.
        device: kind of accelerator.
        devices: how many.
        hardware: where it was trained.
        versions: of Python and packages.
        git: the code's checkout, if it has one.
        code: digest of the code, ``run_folder.code_version``.
        continued_from: the checkpoint of another run it began with, and the settings changed.
        stopped_early: whether a callback ended training.
        test: metrics of the test at its end.
        epochs: completed epochs.
        best_epoch: the first epoch with the best value of ``monitor``.
        epoch_seconds: median time of an epoch.
        seconds: time of all its sessions.
        evaluations: later evaluations of its checkpoints: checkpoint, data, stage and metrics.
        other: what other versions of the package wrote, kept as it is.
    """

    status: Status = "running"
    error: str | None = None
    command: list[str] = field(default_factory=list)
    started: str = ""
    seed: int = 0
    monitor: str = ""
    protocol: str = ""
    parameters: int = 0
    kernel: str = ""
    kernel_unavailable: str | None = None
    data: Data = field(default_factory=Data)
    teachers: dict[str, str] = field(default_factory=dict)
    device: str = ""
    devices: int = 1
    hardware: Hardware = field(default_factory=Hardware)
    versions: dict[str, str] = field(default_factory=dict)
    git: Git | None = None
    code: str = ""
    continued_from: dict[str, Any] | None = None
    stopped_early: bool = False
    test: dict[str, float] | None = None
    epochs: int = 0
    best_epoch: int | None = None
    epoch_seconds: float | None = None
    seconds: float = 0.0
    evaluations: list[dict[str, str | float]] = field(default_factory=list)
    other: dict[str, Any] = field(default_factory=dict)


def loads(text: str) -> Manifest:
    """Read the text of a run.json.

    Raises:
        ValueError: it is not valid JSON, has no status, or a value of another type.
    """
    values = json.loads(text)
    if not isinstance(values, dict) or "status" not in values:
        raise ValueError("status is missing")
    manifest: Manifest = _typed(Manifest, values, "")
    known = {each.name for each in fields(Manifest)}
    manifest.other = {key: value for key, value in values.items() if key not in known}
    return manifest


def dumps(manifest: Manifest) -> str:
    """Return the text of a run.json."""
    values = asdict(manifest)
    return json.dumps(values | values.pop("other"), indent=2) + "\n"


def _typed(kind: Any, value: Any, key: str) -> Any:
    """Return a JSON value as the type that its place has; an absent field has its default.

    Raises:
        ValueError: it is of another type.
    """
    if kind is Any:
        return value
    options, origin = get_args(kind), get_origin(kind)
    if origin in (Union, types.UnionType):
        for option in options:
            try:
                return _typed(option, value, key)
            except ValueError:
                continue
    elif origin is Literal and isinstance(value, str) and value in options:
        return value
    elif origin is dict and isinstance(value, dict):
        return {name: _typed(options[1], each, f"{key}.{name}") for name, each in value.items()}
    elif origin is list and isinstance(value, list):
        return [_typed(options[0], each, key) for each in value]
    elif is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = get_type_hints(kind)
        prefix = f"{key}." if key else ""
        return kind(
            **{
                name: _typed(hint, value[name], f"{prefix}{name}")
                for name, hint in hints.items()
                if name in value
            }
        )
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif kind in (str, int, bool, types.NoneType) and type(value) is kind:
        return printable(value) if kind is str else value
    raise ValueError(f"{key} is not of type {getattr(kind, '__name__', kind)}")
