"""What can be told to be wrong before anything is fetched, made or trained."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer

from lenet_lightning.classifier import metric_names
from lenet_lightning.data.base import ImageDataModule, InputSpec
from lenet_lightning.errors import UserError
from lenet_lightning.messages import nearest


def config_files(args: list[str]) -> None:
    """Refuse a ``--config`` file that is absent or no YAML mapping, naming the line.

    Raises:
        UserError: naming the file.
    """
    for flag, value in zip(args, [*args[1:], ""], strict=True):
        name, _, attached = flag.partition("=")
        if name not in ("--config", "-c"):
            continue
        path = attached or value
        if "\n" in path:
            continue
        try:
            content = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise UserError(
                f"--config {path} cannot be read ({error.strerror}): expected a YAML file such as "
                "configs/mnist.yaml."
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(
                f"--config {path} is no YAML: {' '.join(str(error).split())}."
            ) from error
        if not isinstance(content, dict):
            raise UserError(f"--config {path} holds no keys: expected trainer, model and data.")


def configuration(config: dict[str, Any]) -> None:
    """Refuse Trainer options that the training step cannot honour.

    Args:
        config: the parsed configuration of one subcommand.
    """
    trainer = config["trainer"]
    if trainer["gradient_clip_val"] is not None or trainer["gradient_clip_algorithm"] is not None:
        raise UserError(
            "trainer.gradient_clip_val has no effect here: use model.gradient_clip_val."
        )
    if trainer["accumulate_grad_batches"] != 1:
        raise UserError(
            "trainer.accumulate_grad_batches has no effect here: use a larger data.batch_size, "
            "which gives the same gradient."
        )
    if trainer["precision"] not in (None, 32, "32", "32-true", "bf16-mixed", "bf16"):
        raise UserError(
            f"trainer.precision is {trainer['precision']}: expected 32-true or bf16-mixed, whose "
            "gradients need no scaling."
        )


def devices(trainer: Trainer, data: ImageDataModule) -> None:
    """Refuse a global batch that the devices cannot share evenly."""
    count, size = trainer.world_size, data.batch_size
    if size != "full" and size % count:
        raise UserError(
            f"data.batch_size is {size}, the batch over all devices, but {count} devices cannot "
            f"share it evenly: choose a multiple of {count}."
        )


def monitors(trainer: Trainer, data: ImageDataModule) -> None:
    """Refuse a callback that waits for a metric which will never exist."""
    stages = ["train"] if trainer.limit_val_batches == 0 else ["train", "val"]
    if data.protocol == "watch" and "val" in stages:
        stages.append("test")
    known = [name for stage in stages for name in metric_names(stage)]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in known:
            raise UserError(
                f"{type(callback).__name__} monitors {monitor}, which is never reported: expected "
                f"one of {', '.join(known)}{nearest(monitor, known) or '.'}"
            )


def same_input(trained: InputSpec, path: str | Path, data: ImageDataModule) -> None:
    """Refuse a checkpoint that was trained on another kind of image than the data hold."""
    if trained.channels != data.channels:
        raise UserError(
            f"The checkpoint {path} was trained on {trained.name}, {trained.channels} channel(s), "
            f"but {data.dataset} has {data.channels}: choose a dataset with {trained.channels}."
        )
    if len(trained.classes) != len(data.classes):
        raise UserError(
            f"The checkpoint {path} knows {len(trained.classes)} classes ({trained.name}), but "
            f"{data.dataset} has {len(data.classes)}."
        )


def one_device(trainer: Trainer, subcommand: str) -> None:
    """Refuse what runs on one device only."""
    if trainer.world_size > 1:
        raise UserError(f"{subcommand} runs on one device: use --trainer.devices 1.")
