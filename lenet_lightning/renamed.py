"""Old names in configurations: import paths of classes, and keys of options.

A stored configuration (run folder, checkpoint, kept study) is brought up to date and still
works. In what a user types or writes, an old import path works and an old key is an error.
"""

from typing import Any

from lenet_lightning.errors import UserError

CLASS_PATHS = {
    "lenet_lightning.callbacks.averaging.CycleAveraging": "lenet_lightning.CycleAveraging",
    "lenet_lightning.callbacks.distillation.Distillation": "lenet_lightning.Distillation",
    "lenet_lightning.data.cifar10.CIFAR10": "lenet_lightning.CIFAR10",
    "lenet_lightning.data.digits.Digits": "lenet_lightning.Digits",
    "lenet_lightning.data.fashion_mnist.FashionMNIST": "lenet_lightning.FashionMNIST",
    "lenet_lightning.data.mnist.MNIST": "lenet_lightning.MNIST",
    "lenet_lightning.data.pictures.Pictures": "lenet_lightning.Pictures",
    "lenet_lightning.optimizers.KerasAdam": "lenet_lightning.KerasAdam",
    "lenet_lightning.optimizers.Muon": "lenet_lightning.Muon",
    "lenet_lightning.schedulers.LinearCycles": "lenet_lightning.LinearCycles",
}


def _into(group: str, names: str) -> dict[str, str]:
    """Return the old and new keys of options that moved into a group of their group."""
    outer = group.partition(".")[0]
    return {f"{outer}.{name}": f"{group}.{name}" for name in names.split()}


KEYS = {
    **_into(
        "data.augmentation",
        "rotation translation horizontal_flip invert interpolation padding zoom cutout elastic "
        "distortion_epochs",
    ),
    **_into("model.network", "activation conv_activation initializer dropout kernel"),
    "model.polarity": "model.network.invariance",
    "model.gradient_clip_val": "trainer.gradient_clip_val",
    "model.gradient_clip_algorithm": "trainer.gradient_clip_algorithm",
    "model.view_shift": "model.tta_shift",
    "model.view_flip": "model.tta_flip",
}
"""Old key of an option: its key today, both as typed after ``--``, without ``init_args``."""

LENET5 = "lenet_lightning.LeNet5"

VALUES = {"model.network.invariance": {"plain": "none"}}
"""Key of an option: its old values and those of today."""


def class_paths(node: Any) -> Any:
    """Return a copy of a configuration, or of a part of one, with the import paths of today."""
    if isinstance(node, dict):
        return {key: class_paths(value) for key, value in node.items()}
    if isinstance(node, list):
        return [class_paths(value) for value in node]
    return CLASS_PATHS.get(node, node) if isinstance(node, str) else node


def current(config: Any) -> Any:
    """Return a copy of a stored ``fit`` configuration with the import paths and keys of today.

    Args:
        config: what a YAML file holds: mappings, lists and plain values.
    """
    config = class_paths(config)
    for old, new in KEYS.items():
        source, old_name = parent(config, old)
        if old_name in source:
            target, new_name = parent(config, new, create=True)
            value = source.pop(old_name)
            if target.get(new_name) is None:
                target[new_name] = _value(new, value)
    model, _ = parent(config, "model.network")
    network = model.get("network")
    if isinstance(network, dict) and "class_path" not in network:
        model["network"] = {"class_path": LENET5, "init_args": network}
    return config


def overrides(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the dotted overrides of a kept study with the keys of today."""
    new = {KEYS.get(key, key): value for key, value in changes.items()}
    return {key: _value(key, value) for key, value in new.items()}


def _value(key: str, value: Any) -> Any:
    """Return today's value of an option."""
    return VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value


def check(*configs: dict[str, Any]) -> None:
    """Refuse old keys in configurations that a user typed or wrote.

    Args:
        configs: nested as in a ``fit`` configuration, or dotted keys to values.

    Raises:
        UserError: naming each old key and its new one.
    """
    found = []
    for old, new in KEYS.items():
        for config in configs:
            holder, name = parent(config, old)
            if name in holder or old in config:
                found.append(f"{old} is now {new}")
                break
    if found:
        raise UserError(f"{', '.join(found)}: use the new name{'s' * (len(found) > 1)}.")


def parent(config: Any, key: str, create: bool = False) -> tuple[dict[str, Any], str]:
    """Return the mapping that holds a dotted key, and the last part of the key.

    Args:
        config: a configuration.
        key: as typed after ``--``: the ``init_args`` of classes on the way are not named.
        create: whether to add mappings that are missing on the way.

    Returns:
        An empty mapping, which is not part of ``config``, if a value is in the way.
    """
    *groups, name = key.split(".")
    node = arguments(config)
    for group in groups:
        if create:
            node.setdefault(group, {})
        node = arguments(node.get(group))
    return node, name


def arguments(node: Any) -> dict[str, Any]:
    """Return the mapping that holds the options of a group: a class has them in ``init_args``."""
    if isinstance(node, dict) and "init_args" in node:
        node = node["init_args"]
    return node if isinstance(node, dict) else {}
