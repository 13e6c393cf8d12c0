"""The command line of ``fit``, ``validate``, ``test`` and ``predict``, parsed by LightningCLI."""

import os
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lenet_lightning import distributed, process, strict_yaml
from lenet_lightning.callbacks.predictions import PredictionTable
from lenet_lightning.callbacks.progress import StepBar
from lenet_lightning.callbacks.run_callbacks import Keeper
from lenet_lightning.callbacks.threads import ThreadChooser
from lenet_lightning.cli import (
    checks,
    command_line,
    evaluate,
    fit,
    messages,
    schedule_length,
    trust,
)
from lenet_lightning.cli.command_line import CommandLine
from lenet_lightning.cli.evaluate import Checkpoints, Evaluation
from lenet_lightning.cli.fit import Training
from lenet_lightning.cli.options import COMMANDS, RunOptions
from lenet_lightning.cli.parser import (
    MODE,
    PURPOSES,
    TRANSIENT,
    Parser,
    add_overview,
)
from lenet_lightning.data.datamodule import ImageDataModule
from lenet_lightning.data.pictures import Pictures
from lenet_lightning.errors import UserError, what_stopped
from lenet_lightning.signals import interruptible
from lenet_lightning.store import checkpoints
from lenet_lightning.store.configuration import as_list, class_name
from lenet_lightning.training.classifier import Classifier


class Command(LightningCLI):
    """Parses a command line, and builds data, model and trainer.

    Args:
        line: the command line.
        loaded: the checkpoints that it names.
        with_trainer: build the trainer too.

    Attributes:
        config: the parsed options.
        keeper: the callbacks that write the folder of a run.
        table: the callback that writes predictions.
        scheduler: of learning rates, as the options describe it; None without one.
        batches: of an epoch; 0 without a dataset.
    """

    def __init__(self, line: CommandLine, loaded: Checkpoints, with_trainer: bool = True) -> None:
        self.line, self.loaded, self.with_trainer = line, loaded, with_trainer
        self.imports = trust.opened(line.imports)
        trust.check_names(line.trainer_classes, self.imports)
        trust.limit_imports(self.imports)
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
                "prog": f"python -m lenet_lightning {line.command}",
                "usage": "%(prog)s [--config FILE] [--KEY VALUE ...]",
                "description": PURPOSES[line.command],
                "allow_abbrev": False,
                "parser_mode": MODE,
            },
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            run=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of every command; the seed, for which Lightning also takes ``true``."""
        parser.add_class_arguments(RunOptions)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of a command, of model, of data and, last, of the trainer."""
        for options in COMMANDS[self.line.command]:
            parser.add_class_arguments(options)
        if self.line.asks_overview:
            add_overview(parser, Pictures if self.line.command == "predict" else ImageDataModule)
        else:
            parser.add_lightning_class_args(Classifier, "model")
            parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({f"trainer.{k}": v for k, v in self.trainer_defaults.items()})
        cast(dict[str, Any], parser.groups)["trainer"].title = "Lightning's Trainer"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Hand the seed to model and data, and facts of the data to the model."""
        if self.line.asks_overview:
            return
        # Another class starts from defaults of its own, not from those of the default one.
        for option in ("network", "optimizer"):
            if named := self.line.class_of(option):
                parser.set_defaults({f"model.{option}": {"class_path": named}})
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
        for checkpoint in self.loaded.values():  # for pictures
            spec = checkpoints.spec_of(checkpoint)
            return spec.channels, len(spec.classes)
        return 1, 10

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line; refuse what it names in the wrong place."""
        # Any length; it is known once the rest is.
        self.length_key = schedule_length.left_out(*self.line.scheduler)
        length = [f"--model.scheduler.{self.length_key}=1"] if self.length_key else []
        line = ["--help"] if self.line.asks_overview else self.line.args
        self.config = parser.parse_args([*line, *length])
        trust.check(self.config, self.imports)
        for key in ("callbacks", "plugins"):
            if self.config.trainer[key] is not None:
                self.config.trainer[key] = as_list(self.config.trainer[key])

    def before_instantiate_classes(self) -> None:
        """Check the configuration as a whole."""
        checks.configuration(self.config)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer."""
        try:
            if self.length_key and self.line.command == "fit":
                length = schedule_length.of_training(self.config)
                if length < 1:
                    raise UserError(
                        f"model.scheduler.{self.length_key} is required: it is the length of the "
                        "training by default, which has no limit here, or is not known."
                    )
                self.config.model.scheduler.init_args[self.length_key] = length
            if not self.with_trainer:
                model = self.parser.instantiate_classes(self.config).model
                self.scheduler = checks.schedule(model)
                return
            if self.config.threads not in ("auto", None):
                torch.set_num_threads(self.config.threads)
            super().instantiate_classes()
        except (TypeError, ValueError, RuntimeError) as error:
            # The parser wraps what a class says of its arguments.
            if said := messages.cause(error, UserError):
                raise said from None
            raise UserError(f"The configuration is refused: {messages.one_line(error)}") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add this package's callbacks, and durable checkpoints."""
        options, command = self.config_init.trainer, self.line.command
        self.keeper = Keeper(self.config.monitor, self.config.seed_everything)
        self.table = PredictionTable()
        own_bar = any(isinstance(each, ProgressBar) for each in options.callbacks or [])
        if self.config.threads == "auto":
            self.keeper.record.threads = ThreadChooser()
        self.trainer_defaults["callbacks"] = [
            *([] if own_bar or options.enable_progress_bar is False else [StepBar()]),
            *filter(None, [self.keeper.record.threads]),
            *([self.table] if command == "predict" else []),
            *([] if options.fast_dev_run else [self.keeper.best, self.keeper.last]),
        ]
        own_io = (
            checkpoints.DurableCheckpointIO()
            if command == "fit"
            else evaluate.WeightsIO(self.loaded)
        )
        plugins = [*(options.plugins or []), own_io]
        # Lightning's default logger would make a folder before anything is checked.
        logger = bool(options.fast_dev_run) if options.logger is None else options.logger
        distributed.count_tasks_per_node()
        if TorchElasticEnvironment.detect() and options.devices == "auto":
            kwargs["devices"] = os.environ.get("LOCAL_WORLD_SIZE", "auto")
        trainer = super().instantiate_trainer(plugins=plugins, logger=logger, **kwargs)
        # On one device Lightning leaves what RANK was at its import, which silences its loggers.
        rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
        return trainer

    def after_instantiate_classes(self) -> None:
        """Refuse what can be seen to fail once data, model and trainer exist."""
        if not self.with_trainer:
            return
        checks.launcher(self.trainer)
        self.scheduler, self.batches = checks.schedule(self.model), 0
        if isinstance(self.datamodule, ImageDataModule):
            checks.root(self.datamodule)
            limit = self.trainer.limit_train_batches
            self.batches = checks.epoch_batches(self.datamodule, limit)
            checks.devices(self.trainer, self.datamodule)
            checks.monitors(self.trainer, self.scheduler, self.datamodule)
            for path, checkpoint in self.loaded.items():
                spec = checkpoints.spec_of(checkpoint)
                checks.same_input(spec, path, self.datamodule)
                split_here = self.line.command in ("fit", "validate") or self.datamodule.splits_test
                if split_here and self.line.command != "predict":
                    self.datamodule.check_pictures(spec, path)
        elif self.line.command != "predict":
            raise UserError(
                f"data is {class_name(dict(self.config.data))}, but {self.line.command} needs a "
                "dataset with classes."
            )

    @property
    def remarks(self) -> list[str]:
        """Sentences on options that ``fit`` takes, but that may not be meant."""
        found = [self.line.kept]
        if self.scheduler:
            length = schedule_length.of_training(self.config)
            interval = self.config.model.scheduler_interval
            found.append(schedule_length.disagreement(self.scheduler, length, interval))
        return [*filter(None, found)]

    @property
    def complete_config(self) -> dict[str, Any]:
        """The configuration as config.yaml holds it: complete, and valid for ``fit``."""
        dump = self.parser.dump(self.config, skip_link_targets=True, skip_unset=False)
        config = strict_yaml.loads(dump)
        name = config["name"] or class_name(config["data"]).lower()
        name = name.replace("{seed}", str(config["seed_everything"]))
        # Only where it is true: runs of versions without this option stay what they are.
        transient = (*TRANSIENT, *(() if config.get("skip_test") else ("skip_test",)))
        return {k: v for k, v in config.items() if k not in transient} | {"name": name}


def parse(args: list[str]) -> dict[str, Any]:
    """Return the complete configuration that ``fit`` with these arguments would save."""
    return describe(args)[0]


def describe(args: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the complete configuration that ``fit`` would save, and the remarks it would print.

    Args:
        args: as for :func:`main`, ``fit`` first.

    Raises:
        UserError: a key, a value or a combination is wrong.
    """
    command = Command(command_line.read(args), {}, with_trainer=False)
    return command.complete_config, command.remarks


def main(args: list[str] | CommandLine) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        args: command line arguments, the subcommand first; or what they were read to.

    Raises:
        UserError: something the user can mend, in one sentence.
        Interrupted: a signal stopped the run, whose folder says so.
    """
    line = args if isinstance(args, CommandLine) else command_line.read(args)
    process.quiet()
    process.spare_gpu_checks()
    with interruptible(), process.silent_writers(), process.denormals_are_zero():
        try:
            run(line)
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise UserError(messages.one_line(error)) from error
        except OSError as error:
            raise what_stopped(error) from error
        except RuntimeError as error:
            rank = rank_zero_only.rank  # type: ignore[attr-defined]
            if rank and distributed.has_lost_peer(error):
                raise SystemExit(2) from error
            raise


def run(line: CommandLine) -> None:
    """Load the checkpoints that a command line names, build what it describes, and run it."""
    if line.command == "fit":
        line, loaded = fit.prepared(line)
        command = Command(line, loaded)
        built = command.trainer, command.model, command.datamodule
        training = Training(*built, command.config, command.keeper)
        training.check(command.scheduler, command.batches)
        training.run(command.complete_config, command.loaded, command.remarks)
    else:
        line, loaded = evaluate.prepared(line)
        command = Command(line, loaded)
        built = command.trainer, command.model, command.datamodule
        evaluation = Evaluation(line.command, *built, loaded)
        evaluation.check(command.config.model.as_dict())
        evaluation.run(command.table, command.config.get("output"))
