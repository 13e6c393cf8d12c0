"""The classes that a configuration may name, for each key that takes a class.

A configuration may come from a stranger. A class belongs here if no plain values that it is given
(numbers, strings, lists and mappings of them) make it start a program, import what a string names,
or reach another machine. Any other class needs ``--allow_imports`` on the command line.
"""

import pydoc
from functools import cache
from typing import Any

from lenet_lightning.data.registry import DATASETS
from lenet_lightning.networks.build import NETWORKS


def _of(package: str, names: str) -> tuple[str, ...]:
    return tuple(f"{package}.{name}" for name in names.split())


ROLES: dict[str, tuple[str, ...]] = {
    "data": _of("lenet_lightning", " ".join([*DATASETS, "ImageFolder", "Pictures"])),
    "model.network": tuple(NETWORKS),
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
    "trainer.callbacks": (
        *_of(
            "lightning.pytorch.callbacks",
            "EarlyStopping EMAWeightAveraging LearningRateMonitor DeviceStatsMonitor ModelSummary "
            "RichModelSummary TQDMProgressBar RichProgressBar ModelCheckpoint",
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

_BASE = "it is a base class, which does nothing by itself"
_SPLITS = "it splits the network over devices, and LeNet-5 fits on one: use trainer.strategy ddp"
_PRECISION = "use trainer.precision 32-true or bf16-mixed"
_DISK = "every checkpoint is written durably to the run folder, which this would bypass"

# Lightning's classes that cannot do what they are for in this training, and what can.
UNFIT: dict[str, str] = {
    f"lightning.pytorch.{path}": reason
    for names, reason in {
        "callbacks.Callback callbacks.Checkpoint callbacks.ProgressBar callbacks.BaseFinetuning "
        "callbacks.BasePredictionWriter loggers.Logger profilers.Profiler strategies.Strategy "
        "strategies.ParallelStrategy plugins.CheckpointIO plugins.Precision plugins.LayerSync": (
            _BASE
        ),
        "callbacks.BackboneFinetuning": "LeNet-5 has no backbone: to train further from a "
        "checkpoint, give --ckpt_path",
        "callbacks.BatchSizeFinder": "the batch size decides what is learnt: compare several "
        "data.batch_size by a study",
        "callbacks.GradientAccumulationScheduler": "a larger data.batch_size gives the same "
        "gradient",
        "callbacks.LearningRateFinder": "learning rates are compared by a study, on validation "
        "images",
        "callbacks.ModelPruning": "it prunes layers before they are built: train a smaller network",
        "callbacks.OnExceptionCheckpoint": "checkpoints/last.ckpt is saved every epoch, and "
        "--resume must resumes from it",
        "callbacks.SpikeDetection": "it needs automatic optimization: a loss that is not finite "
        "stops this training, and trainer.gradient_clip_val limits large gradients",
        "callbacks.StochasticWeightAveraging": "its average is not what is saved: use "
        "EMAWeightAveraging, or CycleAveraging with lenet_lightning.LinearCycles",
        "callbacks.ThroughputMonitor": "a configuration holds no functions, which it needs: "
        "metrics.csv has the seconds of every epoch",
        "callbacks.Timer": "trainer.max_time does the same, such as 00:01:30:00 for an hour and a "
        "half",
        "profilers.XLAProfiler": "it profiles TPUs: use PyTorchProfiler",
        "plugins.AsyncCheckpointIO plugins.TorchCheckpointIO plugins.XLACheckpointIO": _DISK,
        "plugins.BitsandbytesPrecision plugins.DeepSpeedPrecision plugins.DoublePrecision "
        "plugins.HalfPrecision plugins.MixedPrecision plugins.TransformerEnginePrecision "
        "plugins.FSDPPrecision plugins.XLAPrecision": _PRECISION,
        "plugins.TorchSyncBatchNorm": "LeNet-5 has no batch normalization",
        "strategies.DeepSpeedStrategy strategies.FSDPStrategy strategies.ModelParallelStrategy": (
            _SPLITS
        ),
        "strategies.SingleDeviceStrategy": "use trainer.accelerator and trainer.devices 1",
    }.items()
    for path in names.split()
} | {
    f"lightning.fabric.plugins.environments.{name}": reason
    for name, reason in {
        "ClusterEnvironment": _BASE,
        "XLAEnvironment": "it is for TPUs",
        **dict.fromkeys(
            ("KubeflowEnvironment", "LSFEnvironment", "MPIEnvironment"),
            "start the processes by torchrun or srun, which are tested",
        ),
    }.items()
}

# Lightning's classes that take functions, which a configuration names with --allow_imports only.
TAKE_FUNCTIONS = _of("lightning.pytorch.callbacks", "LambdaCallback WeightAveraging")

# Loggers that send what they log to a service, and the package that each needs.
SERVICES = {
    "lightning.pytorch.loggers.CometLogger": "comet_ml",
    "lightning.pytorch.loggers.LitLogger": "litlogger",
    "lightning.pytorch.loggers.MLFlowLogger": "mlflow",
    "lightning.pytorch.loggers.WandbLogger": "wandb",
}

# Classes that need a package which is not installed with this one.
PACKAGES = SERVICES | {
    "lightning.pytorch.callbacks.DeviceStatsMonitor": "psutil",
    "lightning.pytorch.callbacks.RichModelSummary": "rich",
    "lightning.pytorch.callbacks.RichProgressBar": "rich",
}

# What takes the further arguments (``dict_kwargs``) of a class.
FURTHER = {
    "lightning.pytorch.loggers.TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter",
    "lightning.pytorch.profilers.PyTorchProfiler": "torch.profiler.profile",
    "lightning.pytorch.strategies.DDPStrategy": "torch.nn.parallel.DistributedDataParallel",
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


def entry(table: dict[str, str], name: str) -> str | None:
    """Return the entry of one of Lightning's classes in a table, by any of its import paths."""
    package, _, last = name.rpartition(".")
    if package.partition(".")[0] != "lightning":
        return None
    return next((said for path, said in table.items() if path.rpartition(".")[2] == last), None)
