"""``fit``, ``validate``, ``test`` and ``predict`` through LightningCLI."""

import inspect
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, WeightAveraging
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lenet_lightning import distributed, formatting, process, strict_yaml
from lenet_lightning.callbacks import resume
from lenet_lightning.callbacks.predictions import PredictionTable
from lenet_lightning.callbacks.progress import StepBar
from lenet_lightning.callbacks.recorder import add_evaluation, figure, images_seen
from lenet_lightning.callbacks.run_callbacks import Keeper
from lenet_lightning.callbacks.threads import ThreadChooser
from lenet_lightning.cli import (
    chance,
    checks,
    command_line,
    ensemble,
    messages,
    schedule_length,
    summary,
    trust,
)
from lenet_lightning.cli.command_line import CommandLine
from lenet_lightning.cli.parser import MODE, PURPOSES, TRANSIENT, Parser, add_run, add_seed
from lenet_lightning.data.datamodule import ImageDataModule
from lenet_lightning.data.image_folder import Pictures
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError, what_stopped
from lenet_lightning.signals import interruptible
from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import metric_names

EVALUATIONS = ("validate", "test", "predict")
NO_CHECKPOINT = (
    "ckpt_path is required: give --ckpt_path with a file such as "
    "lightning_logs/mnist/version_0/checkpoints/best.ckpt."
)


class WeightsIO(checkpoints.DurableCheckpointIO):
    """Loads no state of callbacks: an evaluation does not have those of the training."""

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; see :func:`checkpoints.load`."""
        checkpoint = super().load_checkpoint(path, *args, **kwargs)
        return {key: value for key, value in checkpoint.items() if key != "callbacks"}


class Command(LightningCLI):
    """LightningCLI, with every run in a folder of its own and tested at its end.

    Args:
        line: command line arguments; the subcommand first if ``run``.
        run: run the subcommand; false stops once the arguments of ``fit`` are parsed and checked.
    """

    def __init__(self, line: CommandLine, run: bool = True) -> None:
        self.line, self.args = line, line.args
        self.folder: Path | None = None
        self.disagreement = ""
        self.checkpoints: dict[str, dict[str, Any]] = {}
        super().__init__(
            Classifier,
            LightningDataModule,
            save_config_callback=None,
            trainer_defaults={
                "max_epochs": 15,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "log_every_n_steps": 1,
            },
            parser_class=Parser,
            parser_kwargs={
                name: {"description": PURPOSES[name]} for name in self.subcommands() if run
            },
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            run=run,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static there
        """Offer only the subcommand that is asked for: each takes a tenth of a second to parse."""
        offered = super().subcommands()
        asked = self.args[0] if self.args else None
        return {asked: offered[asked]} if asked in offered else offered

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Accept no abbreviations: a misspelt key is an error. Usage has the command as typed."""
        return super().init_parser(
            prog="python -m lenet_lightning", allow_abbrev=False, parser_mode=MODE, **kwargs
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take an int where Lightning also takes ``true``, which it reads as seed 0."""
        add_seed(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder's options, and hand the seed to model and data."""
        add_run(parser)
        # Another optimizer starts from defaults of its own, not from those of the default one.
        if optimizer := self.line.optimizer:
            parser.set_defaults({"model.optimizer": {"class_path": optimizer}})
        for key, position in (("channels", 0), ("classes", 1)):
            parser.link_arguments(
                "data",
                f"model.{key}",
                lambda data, position=position: self.input_of(data)[position],
                apply_on="instantiate",
            )
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def input_of(self, data: LightningDataModule) -> tuple[int, int]:
        """Return channels and number of classes of the data, or of what a checkpoint was for."""
        if isinstance(data, ImageDataModule):
            return data.channels, len(data.classes)
        for checkpoint in self.checkpoints.values():  # for pictures
            spec = checkpoints.spec_of(checkpoint)
            return spec.channels, len(spec.classes)
        return 1, 10

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse ``self.args`` and prove the checkpoint they name, before Lightning opens it."""
        line = self.line
        self.untold = schedule_length.left_out(line.scheduler, line.scheduler_options)
        # Any length; it is known once the rest is.
        length = [f"--model.scheduler.{self.untold}=1"] if self.untold else []
        self.config = expanded(parser.parse_args([*self.args, *length]))
        self.options = self.config.get(self.config.get("subcommand"), self.config)
        trust.check(self.options, self.args)
        if given := self.options.get("ckpt_path"):
            several = self.config.get("subcommand") in EVALUATIONS
            paths = ensemble.members(given) if several else [given]
            self.checkpoints = {path: checkpoints.load(path) for path in paths}
            self.options.ckpt_path = paths[0]

    def before_instantiate_classes(self) -> None:
        """Check the configuration as a whole."""
        checks.configuration(self.options)
        if self.subcommand in EVALUATIONS and not self.checkpoints:
            raise UserError(NO_CHECKPOINT)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; without a subcommand, data and model only."""
        try:
            if self.untold and self.subcommand in (None, "fit"):
                arguments = self.options.model.scheduler.init_args
                arguments[self.untold] = schedule_length.of_training(self.options, self.untold)
            if not self.subcommand:
                self.parser.instantiate_classes(self.config)
                return
            self.set_threads()
            super().instantiate_classes()
        except (TypeError, ValueError, RuntimeError) as error:
            # The parser wraps what a class says of its arguments.
            if said := messages.cause(error, UserError):
                raise said from None
            raise UserError(f"The configuration is refused: {messages.one_line(error)}") from error
        self.check_instances()

    def set_threads(self) -> None:
        """Set the number of threads of this process, if it is not chosen by measurement."""
        if self.options.threads not in ("auto", None):
            torch.set_num_threads(self.options.threads)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the callbacks that keep a run's folder, and durable checkpoints."""
        options = self.config_init[cast(str, self.subcommand)]
        self.keeper = Keeper(options.monitor, options.seed_everything)
        self.table = PredictionTable()
        given = options.trainer.callbacks or []
        given = given if isinstance(given, list) else [given]
        bar = options.trainer.enable_progress_bar is not False
        bar = bar and not any(isinstance(callback, ProgressBar) for callback in given)
        callbacks: list[Any] = [StepBar()] if bar else []
        if options.threads == "auto":
            self.keeper.record.threads = ThreadChooser()
            callbacks.append(self.keeper.record.threads)
        *folder, best, last = self.keeper.callbacks
        own: dict[str, list[Any]] = {"fit": folder, "predict": [self.table]}
        callbacks += own.get(str(self.subcommand), [])
        callbacks += [] if options.trainer.fast_dev_run else [best, last]
        self.trainer_defaults["callbacks"] = callbacks
        given = options.trainer.plugins or []
        plugins = [*(given if isinstance(given, list) else [given])]
        own_io = WeightsIO if self.subcommand in EVALUATIONS else checkpoints.DurableCheckpointIO
        plugins.append(own_io())
        # Lightning's default logger would make a folder before anything is checked.
        logger = options.trainer.logger
        logger = bool(options.trainer.fast_dev_run) if logger is None else logger
        distributed.count_tasks_per_node()
        if TorchElasticEnvironment.detect() and options.trainer.devices == "auto":
            kwargs["devices"] = os.environ.get("LOCAL_WORLD_SIZE", "auto")
        trainer = super().instantiate_trainer(plugins=plugins, logger=logger, **kwargs)
        # On one device Lightning leaves what RANK was at its import, which silences its loggers.
        rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
        return trainer

    def check_instances(self) -> None:
        """Refuse what can be seen to fail once data, model and trainer exist."""
        checks.launcher(self.trainer)
        scheduler = checks.schedule(self.model)
        if isinstance(self.datamodule, ImageDataModule):
            checks.root(self.datamodule)
            batches = checks.epoch_batches(self.trainer, checks.sizes(self.datamodule))
            checks.devices(self.trainer, self.datamodule)
            checks.monitors(self.trainer, scheduler, self.datamodule)
            if self.subcommand == "fit":
                checks.lengths(self.trainer, self.model, scheduler, batches)
                self.disagreement = self.schedule_words(scheduler, batches)
                if self.options.trainer.logger in (False, []):
                    checks.loggers(self.trainer)
                checks.averaging(self.trainer, self.model, scheduler, batches)
            for path, checkpoint in self.checkpoints.items():
                checks.same_input(checkpoints.spec_of(checkpoint), path, self.datamodule)
        elif self.subcommand != "predict":
            raise UserError(
                f"data is Pictures, but {self.subcommand} needs a dataset with classes."
            )
        if self.checkpoints and self.subcommand in EVALUATIONS:
            self.check_checkpoints()
        if self.subcommand == "fit":
            checks.teachers(self.trainer)
        if self.subcommand == "predict":
            checks.one_device(self.trainer, "predict")

    def schedule_words(self, scheduler: Any, batches: int) -> str:
        """Say so if the schedule of learning rates is not as long as the training."""
        interval = self.model.scheduler_interval
        epochs, steps = checks.duration(self.trainer, batches)
        length = steps if interval == "step" else epochs
        return schedule_length.disagreement(scheduler, length, interval)

    def check_checkpoints(self) -> None:
        """Refuse checkpoints of other networks than the model, or that do not go together."""
        ensemble.same_images(
            {path: checkpoints.spec_of(each) for path, each in self.checkpoints.items()}
        )
        first: dict[str, Any] | None = None
        for path, checkpoint in self.checkpoints.items():
            if self.subcommand != "predict" and (folder := run_folder.folder_of(path)):
                run_folder.read(folder)  # undamaged, to add the result
            trained = checkpoints.config_of(path, checkpoint)
            if trained is None:
                continue
            trained = with_defaults(trained)
            alone = len(self.checkpoints) == 1
            resume.same_network(self.options.model, trained["model"], path, alone)
            first = first or trained
            ensemble.same_options(first, trained, path, self.subcommand == "validate")
            if self.subcommand == "validate":
                name = checkpoints.spec_of(checkpoint).name
                checks.unseen(self.datamodule, name, trained["data"]["init_args"], path)

    @property
    def complete_config(self) -> dict[str, Any]:
        """The configuration as config.yaml holds it: complete, and valid for ``fit``."""
        dump = self.parser.dump(self.config, skip_link_targets=True, skip_unset=False)
        config = strict_yaml.loads(dump)
        config = config[self.subcommand] if self.subcommand else config
        name = config["name"] or config["data"]["class_path"].rsplit(".", 1)[1].lower()
        name = name.replace("{seed}", str(config["seed_everything"]))
        return {k: v for k, v in config.items() if k not in TRANSIENT} | {"name": name}

    def before_fit(self) -> None:
        """Choose the run's folder and attach what writes into it."""
        options = self.config_init["fit"]
        options.weights_only = True
        if self.options.trainer.fast_dev_run:
            return
        config = self.complete_config
        try:
            changed, self.folder, resumed = distributed.decide_once(
                self.trainer.strategy,
                lambda: (self.changed_settings(config), *self.choose_folder(config)),
            )
        except BaseException:
            self.keeper.record.abandon()
            raise
        options.ckpt_path = resumed or options.ckpt_path
        self.keeper.open(self.folder, config)
        profiler: Any = self.trainer.profiler  # type: ignore[attr-defined]
        profiler.dirpath = profiler.dirpath or self.folder
        if self.options.trainer.logger is None:
            self.trainer.logger = TensorBoardLogger(
                self.folder.parent, name="", version=self.folder.name, default_hp_metric=False
            )
        if path := options.ckpt_path:
            # Absolute: Lightning takes some words for a search of its own.
            options.ckpt_path = str(Path(path).absolute())
            self.trainer.callbacks.insert(0, resume.Continuation(Path(path), changed))  # type: ignore[attr-defined]
            self.keeper.record.origin = (
                None if resumed else {"checkpoint": path, "changed": changed}
            )
        if self.trainer.is_global_zero:
            print(f"Run folder {self.folder}" + (", continued" if resumed else ""))
            said = [self.line.kept, self.disagreement, *resume.lines(changed)]
            for line in filter(None, said):
                print(line)

    def changed_settings(self, config: dict[str, Any]) -> resume.Changes:
        """Return how ``config`` differs from what ``--ckpt_path`` was trained with."""
        if not self.checkpoints:
            return {}
        ((path, checkpoint),) = self.checkpoints.items()
        trained = checkpoints.config_of(path, checkpoint)
        if trained is None:
            raise UserError(
                f"The checkpoint {path} does not tell how it was trained: put it back into its "
                "run folder."
            )
        changed = run_folder.changes(with_defaults(trained), config)
        resume.check(changed, config, checkpoint)
        return changed

    def choose_folder(self, config: dict[str, Any]) -> tuple[Path, Path | None]:
        """Return the run folder, and the checkpoint from which to continue in it."""
        resume, record = self.options.resume, self.keeper.record
        if resume != "never":
            for run in run_folder.find(config["logs"], config["name"], config):
                try:
                    if run.manifest.status == "finished" or not record.hold(run.folder):
                        continue
                except UserError as error:
                    warnings.warn(f"{error} {run.folder} is passed over.", stacklevel=2)
                    continue
                if checkpoint := checkpoints.newest_valid(run.folder):
                    return run.folder, checkpoint
                record.release()
        if resume == "must":
            reason = run_folder.why_not_found(config["logs"], config["name"], config)
            raise UserError(f"--resume must: {reason}. Without it, a new run is started.")
        folder = run_folder.create(config["logs"], config["name"])
        record.hold(folder)
        return folder, None

    def after_fit(self) -> None:
        """Test the best checkpoint, once, and print the result."""
        if batches := self.options.trainer.fast_dev_run:
            if self.trainer.is_global_zero:
                print(summary.trial_words(int(batches)))
            return
        figures = None
        # A checkpoint's weights are the average; the callback would put the last step's in place.
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [c for c in callbacks if not isinstance(c, WeightAveraging)]
        best = self.keeper.best.best_model_path
        try:
            self.keeper.record.check_kept(best)
        except UserError as error:
            self.keeper.record.stop(error)
            raise
        if best:
            self.trainer.test(
                self.model, self.datamodule, ckpt_path=best, weights_only=True, verbose=False
            )
            figures = stage_figures(self.trainer, "test")
        if self.trainer.is_global_zero:
            self.keeper.record.finish(figures)
            print(self.closing_words(figures))

    def closing_words(self, figures: dict[str, float] | None) -> str:
        """Return the table that ends ``fit``."""
        manifest = self.keeper.record.manifest
        lines = [f"Run folder {self.folder}, {formatting.duration(manifest.seconds)}"]
        if figures is None or manifest.best_epoch is None:
            lines.append("No epoch was validated, so that nothing was tested.")
        else:
            lines += [
                self.test_words(manifest.best_epoch),
                summary.table(figures, images_seen(self.trainer, "test")[0]),
            ]
            lines += self.chance_words(figures, manifest.best_epoch)
        return "\n".join(lines)

    def chance_words(self, figures: dict[str, float], chosen: int) -> list[str]:
        """Return a line if neither validation nor test is better than chance; else none."""
        rows, data = self.keeper.record.rows, self.datamodule
        best = next(row for row in rows if int(row["epoch"]) == chosen)
        test = images_seen(self.trainer, "test")[0]
        val = len(data.val_index) or test  # protocol report validates on the test set
        accuracies = [
            pair
            for name in ("acc", "acc_negative")
            for pair in ((float(best[f"val/{name}"]), val), (figures[name], test))
        ]
        labels = data.train_images.labels[data.train_index]
        if not chance.is_chance(accuracies, labels):
            return []
        rate = max(float(row["lr"]) for row in rows)
        logits = self.model.test_logits[0]
        return [chance.words(self.options.model.initializer, rate, figures["loss"], logits)]

    def test_words(self, chosen: int) -> str:
        """Say what the test at the end of ``fit`` was made of, and how its epoch was chosen."""
        data = self.datamodule
        by = (
            "the test set itself: protocol report"
            if data.protocol == "report"
            else f"{len(data.val_index):,} validation images: protocol {data.protocol}"
        )
        return (
            f"{data.dataset} test set, {count_words(self.trainer, 'test')}; epoch {chosen} (last: "
            f"{self.trainer.current_epoch - 1}), chosen by {self.options.monitor} on {by}"
        )

    def before_evaluation(self) -> None:
        """Load weights only, and print the results ourselves."""
        options = self.config_init[cast(str, self.subcommand)]
        options.weights_only = True
        if self.subcommand != "predict":
            options.verbose = False

    before_validate = before_test = before_evaluation

    def each_checkpoint(self) -> Iterator[str]:
        """Yield every checkpoint that is evaluated, once it has been; the first one has."""
        first, *others = self.checkpoints
        yield first
        evaluate = getattr(self.trainer, cast(str, self.subcommand))
        quiet = {} if self.subcommand == "predict" else {"verbose": False}
        for path in others:
            evaluate(self.model, self.datamodule, ckpt_path=path, weights_only=True, **quiet)
            yield path

    def after_validate(self) -> None:
        """Print the figures on the validation set."""
        self.conclude("val", [stage_figures(self.trainer, "val") for _ in self.each_checkpoint()])

    def after_test(self) -> None:
        """Print the figures on the test set and keep them with the run."""
        figures, together = [], ensemble.Ensemble()
        for _ in self.each_checkpoint():
            figures.append(stage_figures(self.trainer, "test"))
            together.add(self.model)
        self.conclude("test", figures, together)

    def conclude(
        self,
        stage: str,
        figures: list[dict[str, float]],
        together: ensemble.Ensemble | None = None,
    ) -> None:
        """Print the table of an evaluation and add it to each run's record, if it is whole."""
        if not self.trainer.is_global_zero:
            return
        seen, size = images_seen(self.trainer, stage)
        data, paths = self.datamodule, list(self.checkpoints)
        what = f"{data.dataset}, {count_words(self.trainer, stage)} ({stage})"
        if len(paths) == 1:
            table = summary.table(figures[0], seen)
            print(f"{paths[0]}: {what}\n{table}")
        else:
            print(f"{len(paths)} checkpoints: {what}")
            row = together.figures(data.test_images.labels) if together and seen == size else None
            print(summary.networks_table(figures, paths, row))
        for path, own in zip(paths, figures, strict=True):
            if seen == size and (folder := run_folder.folder_of(path)):
                try:
                    add_evaluation(folder, Path(path).name, data.dataset, stage, own)
                except UserError as error:
                    print(f"The result was not kept: {error}")

    def before_predict(self) -> None:
        """Read the pictures as the checkpoint's network wants them."""
        self.before_evaluation()
        first, *others = self.checkpoints
        if isinstance(self.datamodule, Pictures):
            checkpoint = self.checkpoints[first]
            config = checkpoints.config_of(first, checkpoint) or {"data": {}}
            options = config["data"].get("init_args", {})
            spec = checkpoints.spec_of(checkpoint)
            self.datamodule.read(spec, options.get("negate_border", True))
        self.table.networks = len(self.checkpoints)
        folder = Path() if others else run_folder.folder_of(first) or Path()
        self.table.folder = folder if os.access(folder, os.W_OK) else Path()

    def after_predict(self) -> None:
        """Let the other networks predict, where there are several; the last ends the table."""
        for _ in self.each_checkpoint():
            pass


def expanded(node: Any) -> Any:
    """Replace ``~`` at the beginning of every text by the home folder that it stands for."""
    if isinstance(node, Namespace):
        for key, value in vars(node).items():
            setattr(node, key, expanded(value))
    elif isinstance(node, dict):
        return {key: expanded(value) for key, value in node.items()}
    elif isinstance(node, list):
        return [expanded(value) for value in node]
    return os.path.expanduser(node) if isinstance(node, str) else node


def stage_figures(trainer: Trainer, stage: str) -> dict[str, float]:
    """Return acc, loss, acc_negative and loss_negative of ``val`` or ``test``, and of views."""
    names = [*metric_names(stage), f"{stage}/loss_views", f"{stage}/acc_views"]
    metrics = trainer.callback_metrics
    return {n.split("/")[1]: figure(metrics[n]) for n in names if n in metrics}


def count_words(trainer: Trainer, stage: str) -> str:
    """Say how many images the evaluation ``val`` or ``test`` saw, and of how many if not of all."""
    seen, size = images_seen(trainer, stage)
    return f"{size:,} images" if seen == size else f"{seen:,} of {size:,} images"


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

    data = config["data"]
    arguments = complete(ImageDataModule, data["init_args"], "seed")
    model = complete(Classifier, config["model"], "seed", "channels", "classes")
    return config | {"model": model, "data": data | {"init_args": arguments}}


def with_run_config(args: list[str]) -> list[str]:
    """Let ``validate``, ``test`` and ``predict`` take the configuration of the checkpoint's run.

    ``predict`` takes it for the user's own pictures, unless ``--data`` names a dataset.
    """
    given = {option.name: option.value for option in command_line.options(args)}
    if args[0] not in EVALUATIONS or {"--config", "--help", "-h"} & set(given):
        return args
    path = given.get("--ckpt_path")
    if not path:
        raise UserError(NO_CHECKPOINT)
    path = ensemble.members(path)[0]
    stored = checkpoints.config_of(path, checkpoints.load(path))
    if stored is None:
        return args
    config = description(stored, path)
    if args[0] == "predict" and "--data" not in given:
        config["data"] = {"class_path": "Pictures"}
    return [args[0], "--config", strict_yaml.dumps(config), *args[1:]]


def description(stored: dict[str, Any], path: str) -> dict[str, Any]:
    """Return what a stored configuration tells of model and data.

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
    config = {k: v for k, v in stored.items() if k in ("seed_everything", "model", "data")}
    arguments = dict(config["data"].get("init_args", {}))
    name = str(config["data"].get("class_path")).rpartition(".")[2]
    # Where the dataset is not there, it would be downloaded into a folder of the stranger's choice.
    if name in DATASETS and not (Path(str(arguments.get("root"))) / name).is_dir():
        arguments.pop("root", None)
    config["data"] = config["data"] | {"init_args": arguments}
    trainer = stored.get("trainer")
    if isinstance(trainer, dict) and "precision" in trainer:
        config["trainer"] = {"precision": trainer["precision"]}
    return config


def trusted_line(args: list[str]) -> CommandLine:
    """Read a command line, and limit what its configuration may import.

    Raises:
        UserError: a file is not valid, or a class is named that this training cannot use.
    """
    line = command_line.read(args)
    trust.check_names(line.named, args)
    trust.limit_imports(args)
    return line


def parse(args: list[str]) -> dict[str, Any]:
    """Return the complete configuration that ``fit`` with these arguments would save.

    Args:
        args: as for :func:`main`, ``fit`` first.

    Raises:
        UserError: a key, a value or a combination is wrong.
    """
    line = trusted_line(args)
    return Command(line._replace(args=line.args[1:]), run=False).complete_config


def main(args: list[str] | None = None) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        args: command line arguments, the subcommand first; ``sys.argv`` by default.

    Raises:
        UserError: something the user can mend, in one sentence.
        Interrupted: a signal stopped the run, whose folder says so.
    """
    args = with_run_config(sys.argv[1:] if args is None else args)
    line = trusted_line(args)
    process.quiet()
    process.spare_gpu_checks()
    with interruptible(), process.silent_writers(), process.denormals_are_zero():
        try:
            Command(line)
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise UserError(messages.one_line(error)) from error
        except OSError as error:
            raise what_stopped(error) from error
