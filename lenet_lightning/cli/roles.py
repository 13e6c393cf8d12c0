"""The classes that a configuration may name, for each key that takes a class.

A configuration may come from a stranger. A class belongs here if no plain values that it is given
(numbers, strings, lists and mappings of them) make it start a program, import what a string names,
or reach another machine. Any other class needs ``--allow_imports`` on the command line.
"""

import pydoc
from functools import cache
from typing import Any

from lenet_lightning.data.registry import DATASETS


def _of(package: str, names: str) -> tuple[str, ...]:
    return tuple(f"{package}.{name}" for name in names.split())


ROLES: dict[str, tuple[str, ...]] = {
    "data": _of("lenet_lightning", " ".join([*DATASETS, "Pictures"])),
    # Without torch.optim.Muon, which takes matrices only.
    "model.optimizer": (
        *_of(
            "torch.optim",
            "SGD Adam AdamW Adamax NAdam RAdam RMSprop Rprop Adagrad Adadelta Adafactor ASGD "
            "LBFGS SparseAdam",
        ),
        "lenet_lightning.KerasAdam",
        "lenet_lightning.Muon",
    ),
    # Without those that take functions or other schedulers, and torch's ReduceLROnPlateau, which
    # has no monitor.
    "model.scheduler": (
        *_of(
            "torch.optim.lr_scheduler",
            "StepLR MultiStepLR ConstantLR LinearLR ExponentialLR PolynomialLR CosineAnnealingLR "
            "CosineAnnealingWarmRestarts CyclicLR OneCycleLR",
        ),
        "lightning.pytorch.cli.ReduceLROnPlateau",
        "lenet_lightning.LinearCycles",
    ),
    # Without those that take functions or modules: LambdaCallback, ThroughputMonitor,
    # BackboneFinetuning, WeightAveraging.
    "trainer.callbacks": (
        *_of(
            "lightning.pytorch.callbacks",
            "EarlyStopping EMAWeightAveraging LearningRateMonitor DeviceStatsMonitor ModelSummary "
            "RichModelSummary TQDMProgressBar RichProgressBar ModelCheckpoint "
            "OnExceptionCheckpoint Timer BatchSizeFinder LearningRateFinder "
            "StochasticWeightAveraging ModelPruning GradientAccumulationScheduler SpikeDetection",
        ),
        "lenet_lightning.Distillation",
        "lenet_lightning.CycleAveraging",
    ),
    "trainer.logger": _of("lightning.pytorch.loggers", "TensorBoardLogger CSVLogger"),
    "trainer.profiler": _of(
        "lightning.pytorch.profilers",
        "SimpleProfiler AdvancedProfiler PyTorchProfiler PassThroughProfiler",
    ),
    "trainer.strategy": ("lightning.pytorch.strategies.DDPStrategy",),
    "trainer.plugins": _of(
        "lightning.fabric.plugins.environments",
        "LightningEnvironment SLURMEnvironment TorchElasticEnvironment",
    ),
}

# Loggers that send what they log to a service, and the package that each needs.
SERVICES = {
    "lightning.pytorch.loggers.CometLogger": "comet_ml",
    "lightning.pytorch.loggers.LitLogger": "litlogger",
    "lightning.pytorch.loggers.MLFlowLogger": "mlflow",
    "lightning.pytorch.loggers.WandbLogger": "wandb",
}


def definition(path: str) -> str:
    """Return where the object that an import path leads to is defined: it may be re-exported."""
    found: Any = pydoc.locate(path)
    name = getattr(found, "__qualname__", "")
    return f"{found.__module__}.{name}" if name else getattr(found, "__name__", path)


@cache
def spellings(key: str) -> frozenset[str]:
    """Return every import path by which a class of a place may be named."""
    paths = ROLES.get(key, ())
    return frozenset([*paths, *map(definition, paths)])
