"""``fit``: choose the run folder, train in it, and test the best checkpoint once at the end."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger

from lenet_lightning import distributed, formatting
from lenet_lightning.callbacks import resume
from lenet_lightning.callbacks.recorder import RunRecord, images_seen
from lenet_lightning.callbacks.run_callbacks import Keeper
from lenet_lightning.cli import chance, checks, summary
from lenet_lightning.cli.command_line import CommandLine
from lenet_lightning.cli.evaluate import Checkpoints, count_words, stage_figures, with_defaults
from lenet_lightning.errors import UserError
from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.store.configuration import arguments
from lenet_lightning.training.classifier import Classifier


def prepared(line: CommandLine) -> tuple[CommandLine, Checkpoints]:
    """Load the checkpoint that a command line starts from, if it names one.

    Of a run folder, that is its last checkpoint. Where nothing but a checkpoint is named, its run's
    configuration is taken.

    Raises:
        UserError: the checkpoint cannot be loaded, or its run folder is damaged.
    """
    if line.asks_help or not line.get("ckpt_path"):
        return line, {}
    path = run_folder.checkpoint_in(str(line.get("ckpt_path")), checkpoints.LAST)
    loaded = {path: checkpoints.load(path)}
    folder = run_folder.folder_of(path)
    if folder and not line.has_files and not line.names("data"):
        line = line.over(run_folder.read(folder).config)
    return line, loaded


def changed_settings(config: dict[str, Any], loaded: Checkpoints) -> resume.Changes:
    """Return how a configuration differs from what the checkpoint to start from was trained with.

    Args:
        config: the configuration, complete.
        loaded: the checkpoint by its path; empty for a training from scratch.

    Raises:
        UserError: a setting differs that must not, or the checkpoint has no configuration.
    """
    for path, checkpoint in loaded.items():
        trained = checkpoints.config_of(path, checkpoint)
        if trained is None:
            raise UserError(
                f"The checkpoint {path} has no configuration of its training: move it back to its "
                "run folder."
            )
        changed = run_folder.changes(with_defaults(trained), config)
        resume.check(changed, config, checkpoint)
        return changed
    return {}


def choose_folder(
    config: dict[str, Any], resuming: str, record: RunRecord
) -> tuple[Path, Path | None]:
    """Take a run folder, and return it with the checkpoint from which to continue in it.

    Args:
        config: the configuration, complete.
        resuming: ``--resume``: never, auto or must.
        record: holds the folder from now on.

    Raises:
        UserError: there is no run to continue, and one must be.
    """
    if resuming != "never":
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
    if resuming == "must":
        reason = run_folder.why_not_found(config["logs"], config["name"], config)
        raise UserError(f"--resume must: {reason}. Without it, a new run is started.")
    folder = run_folder.create(config["logs"], config["name"])
    record.hold(folder)
    return folder, None


class Training:
    """A training, from its run folder to its test.

    Args:
        trainer: with the callbacks of ``keeper``.
        model: the classifier.
        data: a dataset.
        options: the parsed options of ``fit``.
        keeper: writes the run folder.
    """

    def __init__(
        self,
        trainer: Trainer,
        model: Classifier,
        data: LightningDataModule,
        options: Namespace,
        keeper: Keeper,
    ) -> None:
        self.trainer: Any = trainer
        self.model, self.options, self.keeper = model, options, keeper
        self.data: Any = data

    def check(self, scheduler: Any, batches: int) -> None:
        """Refuse options that contradict each other.

        Args:
            scheduler: of learning rates, or None.
            batches: of an epoch.
        """
        checks.lengths(self.trainer, self.model, scheduler, batches)
        logs = self.options.trainer.logger not in (False, [])
        checks.callbacks(self.trainer, self.model, scheduler, batches, logs)

    def run(self, config: dict[str, Any], loaded: Checkpoints, remarks: Sequence[str]) -> None:
        """Train and test; print the run folder, the remarks and the result.

        Args:
            config: the complete configuration, for the run folder.
            loaded: the checkpoint to start from, by its path, if there is one.
            remarks: lines to print at the beginning.
        """
        trial = self.options.trainer.fast_dev_run
        start = next(iter(loaded), None) if trial else self.prepare(config, loaded, remarks)
        self.trainer.fit(self.model, self.data, ckpt_path=start, weights_only=True)
        if not trial:
            self.conclude()
        elif self.trainer.is_global_zero:
            print(
                f"trainer.fast_dev_run: trained on {int(trial)} batch(es) and validated as many "
                "without an error; nothing was tested or saved."
            )

    def prepare(
        self, config: dict[str, Any], loaded: Checkpoints, remarks: Sequence[str]
    ) -> str | None:
        """Choose the run folder and attach what writes into it.

        Returns:
            The checkpoint to start from, None for a training from scratch.
        """
        record, start = self.keeper.record, next(iter(loaded), None)
        try:
            changed, self.folder, resumed = distributed.decide_once(
                self.trainer.strategy,
                lambda: (
                    changed_settings(config, loaded),
                    *choose_folder(config, self.options.resume, record),
                ),
            )
        except BaseException:
            record.abandon()
            raise
        self.keeper.open(self.folder, config, self.trainer.callbacks)
        profiler = self.trainer.profiler
        profiler.dirpath = profiler.dirpath or self.folder
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.folder / "checkpoints")
        if self.options.trainer.logger is None:
            self.trainer.logger = TensorBoardLogger(
                self.folder.parent, name="", version=self.folder.name, default_hp_metric=False
            )
        if start and not resumed:
            record.origin = {"checkpoint": start, "changed": changed}
        path = resumed or (Path(start) if start else None)
        if path:
            self.trainer.callbacks.insert(0, resume.Continuation(path, changed))
        if self.trainer.is_global_zero:
            print(f"Run folder {self.folder}" + (", continued" if resumed else ""))
            for line in (*remarks, *resume.lines(changed)):
                print(line)
        # Absolute: Lightning takes some words for a search of its own.
        return str(path.absolute()) if path else None

    def conclude(self) -> None:
        """Test the best checkpoint, once, unless that is skipped, and print the result."""
        record, best, figures = self.keeper.record, self.keeper.best.best_model_path, None
        # A checkpoint's weights are the average; the callback would put the last step's in place.
        callbacks = self.trainer.callbacks
        callbacks[:] = [c for c in callbacks if not isinstance(c, WeightAveraging)]
        try:
            record.check_kept(self.trainer, best)
        except UserError as error:
            record.stop(error)
            raise
        if best and not self.options.skip_test:
            self.trainer.test(
                self.model, self.data, ckpt_path=best, weights_only=True, verbose=False
            )
            figures = stage_figures(self.trainer, "test")
        if self.trainer.is_global_zero:
            record.finish(figures)
            print(self.closing_words(figures))

    def closing_words(self, figures: dict[str, float] | None) -> str:
        """Return the table that ends ``fit``."""
        manifest, data = self.keeper.record.manifest, self.data
        lines = [f"Run folder {self.folder}, {formatting.duration(manifest.seconds)}"]
        best = manifest.best_epoch
        if best is None:
            return f"{lines[0]}\nNo epoch was validated, so that nothing was tested."
        by = (
            "the test set itself (protocol report)"
            if data.protocol == "report"
            else f"{len(data.val_index):,} validation images (protocol {data.protocol})"
        )
        lines.append(
            f"Epoch {best + 1} of {self.trainer.current_epoch}, selected by {self.options.monitor} "
            f"on {by}"
        )
        if figures is None:
            return "\n".join([*lines, "Not tested (skip_test)."])
        return "\n".join(
            [
                *lines,
                f"{data.dataset} test set, {count_words(self.trainer, 'test')}:",
                summary.table(figures, images_seen(self.trainer, "test")[0]),
                *self.chance_words(figures, best),
            ]
        )

    def chance_words(self, figures: dict[str, float], best: int) -> list[str]:
        """Return a line if neither validation nor test is better than chance; else none."""
        rows, data = self.keeper.record.rows, self.data
        row = next(row for row in rows if int(row["epoch"]) == best)
        test = images_seen(self.trainer, "test")[0]
        val = len(data.val_index) or test  # protocol report validates on the test set
        accuracies = [
            pair
            for name in ("acc", "acc_negative")
            for pair in ((float(row[f"val/{name}"]), val), (figures[name], test))
        ]
        labels = data.train_images.labels[data.train_index]
        if not chance.is_chance(accuracies, labels):
            return []
        rate = max(float(row["lr"]) for row in rows)
        network = self.options.model.network.as_dict()
        logits = self.model.test_logits[0]
        return [chance.words(arguments(network).get("initializer"), rate, figures["loss"], logits)]
