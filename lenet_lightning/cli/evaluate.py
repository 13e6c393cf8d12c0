"""``validate``, ``test`` and ``predict``: trained networks on a dataset or on pictures."""

import inspect
import os
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule, Trainer

from lenet_lightning.callbacks import resume
from lenet_lightning.callbacks.predictions import PredictionTable, free_path
from lenet_lightning.callbacks.recorder import add_evaluation, figure, images_seen
from lenet_lightning.cli import checks, ensemble, summary
from lenet_lightning.cli.command_line import CommandLine
from lenet_lightning.cli.parser import LINKED
from lenet_lightning.data.datamodule import ImageDataModule
from lenet_lightning.data.pictures import Pictures
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError
from lenet_lightning.networks.build import NETWORKS
from lenet_lightning.store import checkpoints, configuration, run_folder
from lenet_lightning.store.configuration import arguments, class_name, class_path, data_options
from lenet_lightning.training import weights
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import metric_names

Checkpoints = dict[str, dict[str, Any]]
"""Checkpoints that were loaded, by their paths."""

NO_CHECKPOINT = (
    "ckpt_path is required: give --ckpt_path with a file such as "
    "lightning_logs/mnist/version_0/checkpoints/best.ckpt, or --pretrained mnist."
)


class WeightsIO(checkpoints.DurableCheckpointIO):
    """Gives Lightning checkpoints that were loaded before, without the state of callbacks."""

    def __init__(self, loaded: Checkpoints) -> None:
        self.loaded = loaded

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return a checkpoint; an evaluation does not have the callbacks of the training."""
        checkpoint = self.loaded[str(path)]
        return {key: value for key, value in checkpoint.items() if key != "callbacks"}


def prepared(line: CommandLine) -> tuple[CommandLine, Checkpoints]:
    """Load the checkpoints that a command line names, and complete it by the first one's run.

    ``predict`` takes the user's own pictures, unless a dataset is named.

    Raises:
        UserError: no checkpoint is named, or one cannot be loaded.
    """
    if line.asks_help:
        return line, {}
    pattern, name = line.get("ckpt_path"), line.get("pretrained")
    if pattern and name:
        raise UserError(f"Both --ckpt_path {pattern} and --pretrained {name} are given: keep one.")
    if not pattern and not name:
        if line.command != "predict":
            raise UserError(NO_CHECKPOINT)
        name = "mnist"
    if name:
        checkpoint, facts = weights.read(weights.path_of(str(name)))
        print(f"Network: {name}, {facts['title']}, of this package")
        loaded = {str(name): checkpoint}
    else:
        loaded = {path: checkpoints.load(path) for path in ensemble.members(str(pattern))}
    path, checkpoint = next(iter(loaded.items()))
    stored = None if line.has_files else checkpoints.config_of(path, checkpoint)
    if stored is not None:
        config = description(stored, path)
        if line.command == "predict" and not line.names("data"):
            config["data"] = {"class_path": "Pictures"}
        line = line.over(config)
    return line, loaded


def description(stored: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the description of model and data in a stored configuration.

    The checkpoint may come from a stranger: its callbacks, loggers and paths to write to are left.
    ``trainer.precision`` stays, being how the network computes.

    Args:
        stored: the configuration in a checkpoint or in its run folder.
        path: the checkpoint.

    Raises:
        UserError: it does not describe a model and data.
    """
    data = stored.get("data")
    parts = [stored.get("model"), data, data.get("init_args", {}) if isinstance(data, dict) else 0]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(
            f"The checkpoint {path} does not describe its model and data: it was changed by hand, "
            "so give --config with the configuration that it was trained with."
        )
    config = {k: v for k, v in stored.items() if k in ("seed_everything", "model")}
    options, name = data_options(stored), class_name(stored["data"])
    # Where the dataset is not there, it would be downloaded into a folder of the stranger's choice.
    if name in DATASETS and not (Path(str(options.get("root"))) / name).is_dir():
        options.pop("root", None)
    config["data"] = stored["data"] | {"init_args": options}
    trainer = stored.get("trainer")
    if isinstance(trainer, dict) and "precision" in trainer:
        config["trainer"] = {"precision": trainer["precision"]}
    return config


def with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Complete a run's configuration with options that its version of the code did not know."""

    def complete(kind: type, values: dict[str, Any], *linked: str) -> dict[str, Any]:
        complete = dict(values)
        for name, option in inspect.signature(kind).parameters.items():
            default, given = option.default, values.get(name, {})
            if is_dataclass(default) and isinstance(given, dict):
                complete[name] = asdict(cast(Any, default)) | given
            elif name not in linked:  # what is linked to another option is none of its own
                complete.setdefault(name, default)
        return complete

    options = complete(ImageDataModule, data_options(config), "seed")
    model = complete(Classifier, config["model"], *LINKED)
    network = configuration.network(config)
    if kind := NETWORKS.get(class_path(network) or ""):
        own = complete(kind, arguments(network), "in_channels", "num_classes")
        network = {"class_path": class_path(network), "init_args": own}
    model["network"] = network
    return config | {"model": model, "data": config["data"] | {"init_args": options}}


class Evaluation:
    """An evaluation of one or more checkpoints.

    Args:
        command: validate, test or predict.
        trainer: hands out the checkpoints by :class:`WeightsIO`.
        model: the classifier.
        data: a dataset, or pictures.
        loaded: the checkpoints.
    """

    def __init__(
        self,
        command: str,
        trainer: Trainer,
        model: Classifier,
        data: LightningDataModule,
        loaded: Checkpoints,
    ) -> None:
        self.command, self.trainer, self.model, self.loaded = command, trainer, model, loaded
        self.data: Any = data

    def check(self, model_options: dict[str, Any]) -> None:
        """Refuse checkpoints of other networks than the model, or of different kinds."""
        validate = self.command == "validate"
        if self.command == "predict" and self.trainer.world_size > 1:
            raise UserError("predict runs on one device: give --trainer.devices 1.")
        specs = {path: checkpoints.spec_of(each) for path, each in self.loaded.items()}
        ensemble.same_images(specs)
        first: dict[str, Any] | None = None
        for path, checkpoint in self.loaded.items():
            if self.command != "predict" and (folder := run_folder.folder_of(path)):
                run_folder.read(folder)  # undamaged, to add the result
            trained = checkpoints.config_of(path, checkpoint)
            if trained is None:
                continue
            trained = with_defaults(trained)
            resume.same_network(model_options, trained["model"], path, len(specs) == 1)
            first = first or trained
            ensemble.same_options(first, trained, path, validate)
            if validate:
                checks.unseen(self.data, specs[path].name, data_options(trained), path)

    def run(self, table: PredictionTable, output: str | None = None) -> None:
        """Evaluate, print the result, and keep it with each run.

        Args:
            table: of predictions.
            output: file for them; None for the default.
        """
        if self.command == "predict":
            self.predict(table, output)
            return
        stage = "val" if self.command == "validate" else "test"
        figures, combined = [], ensemble.Ensemble()
        for _ in self.each_checkpoint(verbose=False):
            figures.append(stage_figures(self.trainer, stage))
            if stage == "test":
                combined.add(self.model)
        if self.trainer.is_global_zero:
            self.conclude(stage, figures, combined)

    def each_checkpoint(self, **options: Any) -> Iterator[str]:
        """Yield the path of every checkpoint, once it has been evaluated."""
        evaluate = getattr(self.trainer, self.command)
        for path in self.loaded:
            evaluate(self.model, self.data, ckpt_path=path, weights_only=True, **options)
            yield path

    def predict(self, table: PredictionTable, output: str | None) -> None:
        """Read the pictures as the first network expects them; the last network ends the table."""
        first, *others = self.loaded
        if isinstance(self.data, Pictures):
            checkpoint = self.loaded[first]
            config = checkpoints.config_of(first, checkpoint) or {}
            negate_border = arguments(config.get("data")).get("negate_border", True)
            self.data.read(checkpoints.spec_of(checkpoint), negate_border)
        table.networks = len(self.loaded)
        folder = Path() if others else run_folder.folder_of(first) or Path()
        default = (folder if os.access(folder, os.W_OK) else Path()) / "predictions.csv"
        table.path = checked_output(output) if output else free_path(default)
        for _ in self.each_checkpoint():
            pass

    def conclude(
        self, stage: str, figures: list[dict[str, float]], combined: ensemble.Ensemble
    ) -> None:
        """Print the table of an evaluation and add it to each run's record, if it is complete."""
        seen, size = images_seen(self.trainer, stage)
        data, paths = self.data, list(self.loaded)
        what = f"{data.dataset}, {count_words(self.trainer, stage)} ({stage})"
        if len(paths) == 1:
            print(f"{paths[0]}: {what}\n{summary.table(figures[0], seen)}")
            if stage == "test" and seen == size:
                labels = data.test_images.labels.cpu()[data.test_index]
                logits = self.model.test_logits.float().cpu()
                print(f"\n{summary.calibration_table(logits, labels)}")
                print(f"\n{summary.class_table(logits, labels, data.classes)}")
        else:
            print(f"{len(paths)} checkpoints: {what}")
            whole = stage == "test" and seen == size
            row = combined.figures(data.test_images.labels) if whole else None
            print(summary.networks_table(figures, paths, row))
        for path, own in zip(paths, figures, strict=True):
            if seen == size and (folder := run_folder.folder_of(path)):
                try:
                    add_evaluation(folder, Path(path).name, data.dataset, stage, own)
                except UserError as error:
                    print(f"The result was not kept: {error}")


def checked_output(output: str) -> Path:
    """Return the file for predictions that ``--output`` names.

    Raises:
        UserError: it exists already, is not a CSV file, or its folder does not exist.
    """
    path = Path(output)
    if path.is_dir():
        return free_path(path / "predictions.csv")
    if path.suffix != ".csv":
        raise UserError(f"--output is {output}: expected a .csv file, or a folder that exists.")
    if not path.parent.is_dir():
        raise UserError(f"--output is {output}, but there is no folder {path.parent}.")
    if path.exists() or path.with_suffix(".png").exists():
        raise UserError(f"--output {output}, or its .png, exists already: choose another name.")
    return path


def stage_figures(trainer: Trainer, stage: str) -> dict[str, float]:
    """Return acc, loss, acc_negative and loss_negative of ``val`` or ``test``, and of views."""
    names = [*metric_names(stage), f"{stage}/loss_views", f"{stage}/acc_views"]
    metrics = trainer.callback_metrics
    return {n.split("/")[1]: figure(metrics[n]) for n in names if n in metrics}


def count_words(trainer: Trainer, stage: str) -> str:
    """Say how many images the evaluation ``val`` or ``test`` saw, and of how many if not of all."""
    seen, size = images_seen(trainer, stage)
    return f"{size:,} images" if seen == size else f"{seen:,} of {size:,} images"
