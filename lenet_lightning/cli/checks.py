"""Configuration checks that run before any download or training."""

import inspect
import pydoc
import re
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import DeviceStatsMonitor, EMAWeightAveraging, LearningRateMonitor
from lightning.pytorch.cli import ReduceLROnPlateau as Plateau
from lightning.pytorch.plugins.environments import TorchElasticEnvironment

from lenet_lightning.cli.messages import one_line, parameters
from lenet_lightning.data import splits
from lenet_lightning.data.class_folders import ImageFolder
from lenet_lightning.data.datamodule import ImageDataModule, InputSpec
from lenet_lightning.errors import UserError, nearest
from lenet_lightning.networks.build import NETWORKS
from lenet_lightning.training.accumulation import batches_per_step
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.distillation import Distillation, find
from lenet_lightning.training.metrics import metric_names
from lenet_lightning.training.schedulers import LinearCycles
from lenet_lightning.training.weight_averaging import CycleAveraging

# Words that an option of the trainer may be, where it is a word.
WORDS = {
    "accelerator": ["auto", "cpu", "gpu", "cuda", "mps"],
    # Others split the network, or start processes that do not know the run's folder.
    "strategy": ["auto", "ddp"],
    "profiler": ["simple", "advanced", "pytorch"],
    "gradient_clip_algorithm": ["norm", "value"],
}

# What an option of the trainer may be, and what is said of any other value.
TRAINER: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_epochs": (
        lambda count: count is None or count > 0 or count == -1,
        "expected a whole number above 0, or -1 for no limit",
    ),
    "limit_train_batches": (lambda part: part != 0, "a run is there to train: leave it out"),
    "limit_val_batches": (
        lambda part: part != 0,
        "the best epoch is selected on validation images: leave it out",
    ),
    "limit_test_batches": (
        lambda part: part != 0,
        "the best epoch is tested at the end: leave it out",
    ),
    "limit_predict_batches": (
        lambda part: part is None or (isinstance(part, float) and part == 1),
        "a row is written for every image: leave it out",
    ),
    "check_val_every_n_epoch": (
        lambda epochs: epochs == 1,
        "every epoch is validated, since the best one is selected among all: leave it out",
    ),
    "val_check_interval": (
        lambda interval: interval is None or isinstance(interval, int | float),
        "expected a number of batches, or a share of an epoch such as 0.5",
    ),
    "model_registry": (
        lambda name: name is None,
        "checkpoints would be sent to a service: leave it out",
    ),
    "accumulate_grad_batches": (lambda count: count > 0, "expected a whole number above 0"),
    "gradient_clip_val": (
        lambda largest: largest is None or 0 <= largest < np.inf,
        "expected a number, 0 or more",
    ),
    "precision": (
        lambda kind: kind in (None, 32, "32", "32-true", "bf16-mixed", "bf16"),
        "expected 32-true or bf16-mixed, whose gradients need no scaling",
    ),
}


def unseen(data: ImageDataModule, name: str, trained: dict[str, Any], path: str) -> None:
    """Refuse to validate on images that a network may have trained on.

    Args:
        data: whose validation images are evaluated.
        name: the dataset that the checkpoint was trained on.
        trained: the options of the data that the checkpoint was trained with, complete.
        path: the checkpoint.
    """
    if data.dataset != name or data.protocol == "report":  # the latter validates on test images
        return
    all_trained = trained["protocol"] == "report"
    keys = ["protocol"] if all_trained else ["val_size", "split_seed", "num_folds", "fold"]
    meant = {"val_size": splits.default_val_size(data.training_size)}
    for key in keys:
        own, used = getattr(data, key), trained[key]
        if (own or meant.get(key)) != (used or meant.get(key)):
            null = {None: "null"}
            raise UserError(
                f"data.{key} is {null.get(own, own)}, but the checkpoint {path} was trained with "
                f"{null.get(used, used)}, and may know the images that would validate it: use that."
            )


def configuration(config: dict[str, Any]) -> None:
    """Refuse options that the run folder, the machine or the training step cannot honour.

    Args:
        config: the parsed configuration of one subcommand.
    """
    if config.get("ckpt_path") and config.get("resume", "never") != "never":
        raise UserError("Give --resume or --ckpt_path, not both.")
    nulls(config)
    name = config["name"]
    if PurePath(name or "").is_absolute() or ".." in PurePath(name or "").parts:
        raise UserError(f"name is {name}: expected a folder below --logs, such as mnist/trial.")
    trainer_options(config["trainer"])


def nulls(config: dict[str, Any]) -> None:
    """Refuse ``null`` for an option that has a value by default; the parser lets it pass."""
    if config["logs"] is None:
        raise UserError("logs is null: leave it out, or give it a folder such as lightning_logs.")
    network, data = config["model"]["network"] or {}, config["data"]
    owners: dict[str, tuple[Any, dict[str, Any]]] = {
        "trainer": (Trainer, config["trainer"]),
        "model": (Classifier, config["model"]),
        "data": (pydoc.locate(data["class_path"]), data.get("init_args", {})),
        "model.network": (
            NETWORKS.get(network.get("class_path", "")),
            network.get("init_args", {}),
        ),
    }
    for owner, (kind, values) in owners.items():
        for name, parameter in (parameters(kind) if kind else {}).items():
            default = parameter.default
            if default in (None, inspect.Parameter.empty) or values.get(name, default) is not None:
                continue
            like = f"a value such as its default, {getattr(default, '__name__', default)}"
            like = "options" if is_dataclass(default) else like
            raise UserError(f"{owner}.{name} is null: leave it out, or give it {like}.")


def trainer_options(trainer: dict[str, Any]) -> None:
    """Refuse options of the trainer that this training or this machine cannot honour."""
    for key, known in WORDS.items():
        value = trainer[key]
        if isinstance(value, str) and value not in known:
            hint = nearest(value, known) or "."
            raise UserError(f"trainer.{key} is {value}: expected one of {', '.join(known)}{hint}")
    for key, (fits, said) in TRAINER.items():
        if not fits(trainer[key]):
            raise UserError(f"trainer.{key} is {trainer[key]}: {said}.")
    if trainer["gradient_clip_algorithm"] is not None and not trainer["gradient_clip_val"]:
        raise UserError(
            "trainer.gradient_clip_algorithm has no effect without trainer.gradient_clip_val: give "
            "both."
        )
    accumulated = trainer["accumulate_grad_batches"]
    if accumulated != 1 and not batches_per_step(trainer):
        raise UserError(
            f"trainer.accumulate_grad_batches is {accumulated}, and trainer.callbacks has "
            "GradientAccumulationScheduler, which sets it: give one of them."
        )
    accelerator, number = trainer["accelerator"], str(trainer["devices"])
    cuda, mps = CUDAAccelerator.is_available(), MPSAccelerator.is_available()
    if not {"gpu": cuda or mps, "cuda": cuda, "mps": mps}.get(accelerator, True):
        raise UserError(
            f"trainer.accelerator is {accelerator}, but torch finds none on this machine: "
            "choose cpu or auto."
        )
    on_cpu = accelerator == "cpu" or not (cuda or mps)
    if on_cpu and not re.fullmatch(r"auto|[1-9]\d*", number):
        raise UserError(f"trainer.devices is {number}: expected a whole number above 0, or auto.")
    start = getattr(getattr(trainer["strategy"], "init_args", None), "start_method", "popen")
    if start != "popen":
        raise UserError(
            f"trainer.strategy.start_method is {start}, whose processes do not know the run's "
            "folder: expected popen."
        )


def callbacks(
    trainer: Trainer, classifier: Classifier, scheduler: Any, batches: int, logs: bool
) -> None:
    """Refuse callbacks that would have nothing to write to, to learn from or to average.

    Args:
        trainer: its callbacks, and how long training lasts.
        classifier: how often the scheduler steps.
        scheduler: of learning rates, or None.
        batches: that an epoch trains on.
        logs: whether there is a logger.
    """
    epochs, steps = duration(trainer, batches)
    in_cycles = isinstance(scheduler, LinearCycles) and classifier.scheduler_interval == "epoch"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        if isinstance(callback, LearningRateMonitor | DeviceStatsMonitor) and not logs:
            raise UserError(
                f"trainer.callbacks has {name}, which writes to a logger, but trainer.logger is "
                "false: leave trainer.logger out, or give CSVLogger."
            )
        if isinstance(callback, Distillation):
            find(callback.teachers)
        if isinstance(callback, CycleAveraging) and not in_cycles:
            raise UserError(
                "CycleAveraging averages the weights at the ends of learning rate cycles: it needs "
                "model.scheduler lenet_lightning.LinearCycles, its first and every in "
                "epochs, with model.scheduler_interval epoch."
            )
        if isinstance(callback, CycleAveraging) and 0 < epochs < scheduler.first:
            raise UserError(
                f"CycleAveraging averages nothing: model.scheduler.first is {scheduler.first}, but "
                f"training takes {epochs} epochs: give a smaller first, or more epochs."
            )
        if getattr(callback, "update_starting_at_epoch", None) is not None:
            raise UserError(
                f"{name}.update_starting_at_epoch averages once the epoch has been validated, so "
                "what is saved would not be what was validated: use update_starting_at_step."
            )
        if isinstance(callback, EMAWeightAveraging):
            first_update(name, callback, steps)


def first_update(name: str, callback: EMAWeightAveraging, steps: int) -> None:
    """Refuse an average of weights that ``steps`` optimizer steps (-1: no limit) never update."""
    every, start = callback.update_every_n_steps, callback.update_starting_at_step or 0
    if every < 1:
        raise UserError(f"{name}.update_every_n_steps is {every}: expected a whole number above 0.")
    if start < 0:
        raise UserError(f"{name}.update_starting_at_step is {start}: expected 0 or more.")
    step = -(-start // every) * every  # steps count from 0
    if 0 < steps <= step:
        raise UserError(
            f"{name} averages nothing: with update_starting_at_step {start} and "
            f"update_every_n_steps {every} its first update is at step {step}, but the last step "
            f"of the training is {steps - 1}: start sooner."
        )


def root(data: ImageDataModule) -> None:
    """Refuse a file in place of the folder of the datasets."""
    if Path(data.root).is_file():
        raise UserError(
            f"data.root is {data.root}, a file: expected the folder of the datasets; to predict "
            "pictures of your own, give --data Pictures before it."
        )


def epoch_batches(data: ImageDataModule, limit: float | None = None) -> int:
    """Return the batches of an epoch, ``trainer.limit_train_batches`` at most.

    Raises:
        UserError: the training set is too small for the split or for a batch; before it is fetched.
    """
    train, _ = data.split(np.zeros(data.training_size, np.int64))
    count = 1 if data.batch_size == "full" else -(-len(train) // data.batch_size)
    if isinstance(limit, int):
        return min(count, limit)
    return count if limit is None else int(count * limit)


def duration(trainer: Trainer, batches: int) -> tuple[int, int]:
    """Return the epochs and the optimizer steps of the training; -1 for no limit, or not known.

    Args:
        trainer: ``max_epochs``, ``max_steps`` and what is accumulated.
        batches: that an epoch trains on.
    """
    epochs, accumulated = trainer.max_epochs or -1, batches_per_step(trainer)
    if not accumulated:
        return epochs, (trainer.max_steps if epochs < 0 else -1)
    each = -(-batches // accumulated)
    steps = min((limit for limit in (epochs * each, trainer.max_steps) if limit > 0), default=-1)
    return (-(-steps // each) if steps > 0 and each else -1), steps


def lengths(trainer: Trainer, classifier: Classifier, scheduler: Any, batches: int) -> None:
    """Refuse a validation after an epoch or after the training, and a schedule that ends before it.

    Args:
        trainer: how long training lasts, and when it validates.
        classifier: how often the scheduler steps.
        scheduler: of learning rates, or None.
        batches: that an epoch trains on.
    """
    check = trainer.val_check_interval
    if not batches:
        raise UserError(
            f"trainer.limit_train_batches is {trainer.limit_train_batches}, which leaves no batch "
            "of an epoch: give a larger share, or a whole number of batches."
        )
    if isinstance(check, int) and check > batches:
        raise UserError(
            f"trainer.val_check_interval is {check}, but an epoch has {batches} batches: give at "
            "most that, or leave it out."
        )
    total, interval = getattr(scheduler, "total_steps", None), classifier.scheduler_interval
    epochs, steps = duration(trainer, batches)
    needed = steps if interval == "step" else epochs
    if total is not None and total < needed:  # OneCycleLR, which fails once it is over
        raise UserError(
            f"model.scheduler ends after {total} steps, but with model.scheduler_interval "
            f"{interval} training takes {needed}: give model.scheduler.total_steps {needed}."
        )
    first = check if isinstance(check, int) else max(1, int(batches * check))
    if batches % first:
        whole = next(n for n in range(first, batches + 1) if batches % n == 0)
        raise UserError(
            f"trainer.val_check_interval is {check}, which does not divide the {batches} batches "
            "of an epoch: what is saved at its end would not be what was validated; give a "
            f"divisor such as {whole}."
        )
    accumulated = batches_per_step(trainer)
    if 0 < trainer.max_steps * accumulated < first:
        raise UserError(
            f"trainer.max_steps is {trainer.max_steps}, but the first validation is after "
            f"{-(-first // accumulated)} steps, and nothing could be tested: give at least that, "
            "or a smaller data.subset."
        )


def launcher(trainer: Trainer) -> None:
    """Refuse another number of devices than torchrun or SLURM has started processes for."""
    # One device has no cluster environment: under srun it is a run of its own, not under torchrun.
    default = TorchElasticEnvironment() if TorchElasticEnvironment.detect() else None
    environment = getattr(trainer.strategy, "cluster_environment", default)
    if environment is None:
        return
    try:
        environment.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
    except ValueError as error:
        raise UserError(
            f"trainer.devices is {trainer.num_devices} and trainer.num_nodes {trainer.num_nodes}, "
            "but torchrun or srun has started another number of processes: make both agree, or "
            "start one process without them."
        ) from error


def devices(trainer: Trainer, data: ImageDataModule) -> None:
    """Refuse a global batch that the devices cannot share evenly."""
    count, size = trainer.world_size, data.batch_size
    if size != "full" and size % count:
        raise UserError(
            f"data.batch_size is {size}, the batch over all devices, but {count} devices cannot "
            f"share it evenly: choose a multiple of {count}."
        )


def schedule(classifier: Classifier) -> Any:
    """Build the optimiser and the scheduler for a tiny network; return the scheduler.

    Raises:
        UserError: one of them refuses its arguments.
    """
    key = "model.optimizer"
    try:
        # A hidden kernel, its bias, and the output layer's kernel.
        sizes = ((1, 1), (1,), (1, 1))
        optimizer = classifier.optimizer([torch.nn.Parameter(torch.zeros(s)) for s in sizes])
        key = "model.scheduler"
        scheduler = classifier.scheduler(optimizer) if classifier.scheduler else None
    except (TypeError, ValueError) as error:
        raise UserError(f"{key} refuses its arguments: {one_line(error).rstrip('.')}.") from error
    if isinstance(optimizer, torch.optim.LBFGS | torch.optim.SparseAdam):
        raise UserError(
            f"model.optimizer is {type(optimizer).__name__}, which needs what this training does "
            "not give it (a closure, or sparse gradients): choose another."
        )
    if isinstance(scheduler, Plateau) and classifier.scheduler_interval == "step":
        raise UserError(
            "model.scheduler is ReduceLROnPlateau, which watches what is known once an epoch: "
            "give model.scheduler_interval epoch."
        )
    return scheduler


def monitors(trainer: Trainer, scheduler: Any, data: ImageDataModule) -> None:
    """Refuse a callback or scheduler that waits for a metric which will never exist."""
    stages = ["train", "val", "test"] if data.protocol == "watch" else ["train", "val"]
    known = [name for stage in stages for name in metric_names(stage)]
    for waiting in (*trainer.callbacks, scheduler):  # type: ignore[attr-defined]
        monitor = getattr(waiting, "monitor", None)
        if monitor is not None and monitor not in known:
            raise UserError(
                f"{type(waiting).__name__} monitors {monitor}, which is never reported: expected "
                f"one of {', '.join(known)}{nearest(monitor, known) or '.'}"
            )


def same_input(trained: InputSpec, path: str | Path, data: ImageDataModule) -> None:
    """Refuse a checkpoint that was trained on another kind of image than the data hold."""
    if trained.channels != data.channels:
        raise UserError(
            f"The checkpoint {path} was trained on {trained.name}, {trained.channels} channel(s), "
            f"but {data.dataset} has {data.channels}: choose a dataset with {trained.channels}."
        )
    own = isinstance(data, ImageFolder) and trained.classes != data.classes
    if own and len(trained.classes) == len(data.classes):
        ours, theirs = next(
            pair for pair in zip(data.classes, trained.classes, strict=True) if pair[0] != pair[1]
        )
        raise UserError(
            f"data.root {data.root} has a folder {ours}, where the checkpoint {path} has the class "
            f"{theirs}: name the folders like its classes, {', '.join(trained.classes)}."
        )
    if len(trained.classes) != len(data.classes):
        raise UserError(
            f"The checkpoint {path} knows {len(trained.classes)} classes ({trained.name}), but "
            f"{data.dataset} has {len(data.classes)}."
        )
