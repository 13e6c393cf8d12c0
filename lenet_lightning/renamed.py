"""Old import paths of classes, which configurations of earlier runs name."""

from typing import Any

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


def current(node: Any) -> Any:
    """Return a configuration with the import paths of today.

    Args:
        node: what a YAML file holds: mappings, lists and plain values.
    """
    if isinstance(node, dict):
        return {key: current(value) for key, value in node.items()}
    if isinstance(node, list):
        return [current(value) for value in node]
    return CLASS_PATHS.get(node, node) if isinstance(node, str) else node
