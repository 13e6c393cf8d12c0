"""The record of a run: config.yaml, run.json, metrics.csv and the test set's predictions."""

import csv
import io
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

import lenet_lightning
from lenet_lightning import files, formatting
from lenet_lightning.callbacks.threads import ThreadChooser
from lenet_lightning.data.datamodule import ImageDataModule
from lenet_lightning.errors import NonFiniteError, UserError
from lenet_lightning.networks import fused
from lenet_lightning.signals import Interrupted
from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.store.manifest import Data, Git, Hardware, Manifest
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.distillation import Distillation

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics")
# What the line of an epoch shows, and in how many characters: 80 in all.
EPOCH_COLUMNS = {
    "train/loss": 9,
    "train/acc": 8,
    "val/loss": 9,
    "val/acc": 8,
    "val/acc_negative": 8,
    "test/acc": 8,
    "test/acc_negative": 8,
}
METRIC_COLUMNS = ("loss", "acc", "loss_negative", "acc_negative")


class RunRecord(Checkpoint):
    """Keeps a run's folder true at every moment.

    It is a ``Checkpoint`` so that Lightning calls it once the epoch's metrics are known. List it
    before the ``ModelCheckpoint``: a row may then be ahead of its checkpoint, never behind, and
    a resumed run drops the rows that its checkpoint does not know.

    It is a callback of the trainer once it is open.

    Args:
        monitor: the metric that chooses the best epoch.
        seed: seed_everything.
    """

    def __init__(self, monitor: str, seed: int) -> None:
        self.monitor = monitor
        self.seed = seed
        self.folder = Path()
        self.lock: IO[bytes] | None = None
        self.config = ""
        self.origin: dict[str, Any] | None = None
        self.rows: list[dict[str, str]] = []
        self.shown: list[str] = []
        self.manifest = Manifest()
        self.begun = False
        self.seconds_before = 0.0
        self.threads: ThreadChooser | None = None

    def hold(self, folder: Path) -> bool:
        """Take a folder for this process; false if another one runs in it."""
        self.release()
        self.lock, self.held = run_folder.hold(folder), folder
        return self.lock is not None

    def release(self) -> None:
        """Give the folder back."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def abandon(self) -> None:
        """Give the folder back, and remove it if nothing was recorded in it."""
        if self.lock is not None:
            run_folder.discard(self.held)
        self.release()

    def open(self, folder: Path, config: str) -> None:
        """Record into ``folder``; ``config`` is the complete configuration as YAML."""
        self.folder = folder
        self.config = config

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the configuration and a first run.json."""
        cast(Classifier, pl_module).to_loggers = False  # this callback logs an epoch's row
        self.started = self.epoch_started = time.perf_counter()
        if not trainer.is_global_zero:
            return
        if not (self.folder / run_folder.CONFIG).exists():
            files.replace(self.folder / run_folder.CONFIG, self.config)
        known = (self.folder / run_folder.MANIFEST).exists()
        earlier = run_folder.read(self.folder).manifest if known else Manifest()
        described = describe(trainer, cast(Classifier, pl_module))
        if earlier.data.digests not in ({}, described.data.digests):
            raise UserError(
                f"{self.folder} was trained on other images than there are now: restore them, or "
                "start a new run without --resume."
            )
        self.seconds_before = earlier.seconds
        self.rows = run_folder.read_rows(self.folder / run_folder.METRICS)
        self.manifest = replace(
            described,
            command=["python", "-m", "lenet_lightning", *sys.argv[1:]],
            started=earlier.started or datetime.now(UTC).isoformat(timespec="seconds"),
            seed=self.seed,
            monitor=self.monitor,
            code=run_folder.code_version(),
            continued_from=self.origin or earlier.continued_from,
            stopped_early=earlier.stopped_early,
        )
        self.begun = True
        self.save()
        if reason := self.manifest.kernel_unavailable:
            pl_module.print(f"{reason.rstrip('.')}. Training uses torch's operators: slower.")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up an earlier session's rows as far as its checkpoint reaches.

        A new run saves a first checkpoint, so that an interrupted first epoch can be continued too.
        """
        stopped = self.manifest.stopped_early
        if trainer.is_global_zero:
            known = [row for row in self.rows if int(row["epoch"]) < trainer.current_epoch]
            # Not if the last checkpoint was lost and an earlier one is taken.
            stopped = stopped and len(known) == len(self.rows)
            self.rows = known
            self.save()
        # That training had stopped early is not among what Lightning restores.
        trainer.should_stop = trainer.strategy.broadcast(stopped)
        path = self.folder / "checkpoints" / "last.ckpt"
        if trainer.strategy.broadcast(not path.exists()):
            trainer.save_checkpoint(path)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock and note its learning rate."""
        self.validated = False
        optimizer: Any = pl_module.optimizers()
        self.lr = optimizer.param_groups[0]["lr"]
        self.epoch_started = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch has figures of its own: Lightning keeps the last ones for ever."""
        self.validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row to metrics.csv, to the loggers and to the terminal."""
        metrics = trainer.callback_metrics
        values = {name: figure(value) for name, value in metrics.items()}
        self.check_kept(trainer)
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": self.lr,
        }
        for stage in ("train", "val", "test") if self.validated else ("train",):
            names = [f"{stage}/{column}" for column in METRIC_COLUMNS]
            row |= {name: values[name] for name in names if name in values}
        figures = {name: value for name, value in row.items() if "/" in name}
        figures["train/lr"] = self.lr
        for logger in trainer.loggers:
            shown = figures
            if isinstance(logger, TensorBoardLogger):
                shown = in_percent(figures) | {"epoch": trainer.current_epoch + 1}
            logger.log_metrics(shown, step=trainer.global_step)
        row["seconds"] = round(time.perf_counter() - self.epoch_started, 3)
        if not trainer.is_global_zero:
            return
        self.rows.append({key: str(value) for key, value in row.items()})
        self.save()
        if not self.shown:
            self.shown = list(filter(row.__contains__, EPOCH_COLUMNS))
            pl_module.print(epoch_header(self.shown))
        best = self.manifest.best_epoch == trainer.current_epoch
        pl_module.print(epoch_line(row, self.shown, trainer.max_epochs, best))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record whether a callback ended training before its time; only the test is left."""
        if trainer.is_global_zero:
            self.manifest.stopped_early = trainer.should_stop
            self.save()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the complete configuration beside the weights."""
        checkpoint[checkpoints.CONFIG_KEY] = self.config

    def check_kept(self, trainer: Trainer, best: str = "") -> None:
        """Stop every process once a file of the run is gone, which a success would conceal.

        Args:
            trainer: whose processes stop.
            best: the best checkpoint, if there is one.

        Raises:
            UserError: naming the file, on global rank 0.
            SystemExit: on the other ranks: code 2, so that it is said once.
        """
        missing = trainer.strategy.broadcast(self.missing(best) if self.begun else None)
        if missing and not trainer.is_global_zero:
            raise SystemExit(2)
        if missing:
            raise UserError(
                f"{missing} was removed while the run trained: start it again, and keep its folder."
            )

    def missing(self, best: str) -> Path | None:
        """Return a file of the run that is gone, None if all are there."""
        names = [run_folder.CONFIG, f"checkpoints/{checkpoints.LAST}"]
        names += [run_folder.METRICS] if self.rows else []
        paths = [*(self.folder / name for name in names), *([Path(best)] if best else [])]
        return next((path for path in paths if not path.exists()), None)

    def save(self) -> None:
        """Write metrics.csv and run.json as they stand."""
        rows = self.rows
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            files.replace(self.folder / run_folder.METRICS, text.getvalue())
        self.manifest.epochs = len(rows)
        self.manifest.best_epoch = best_epoch(rows, self.monitor)
        seconds = [float(row["seconds"]) for row in rows]
        self.manifest.epoch_seconds = statistics.median(seconds) if rows else None
        if self.threads is not None:
            self.manifest.hardware.threads_used = self.threads.summary()
        elapsed = time.perf_counter() - self.started
        self.manifest.seconds = round(self.seconds_before + elapsed, 3)
        run_folder.write_manifest(self.folder, self.manifest)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Record why the run stopped."""
        if trainer.is_global_zero:
            self.stop(exception)

    def stop(self, exception: BaseException) -> None:
        """Record why the run stopped; a folder in which nothing was recorded is removed."""
        if not self.begun:
            run_folder.discard(self.folder)
            self.release()
            return
        self.manifest.status = (
            "interrupted"
            if isinstance(exception, Interrupted)
            else "nonfinite"
            if isinstance(exception, NonFiniteError)
            else "failed"
        )
        self.manifest.error = str(exception)
        # A second error must not hide the first.
        with suppress(UserError):
            self.save()
        if isinstance(exception, Interrupted):
            exception.add_note(f"Continue with: {continue_command(self.folder)}")
        self.release()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the predicted classes of the test that ends a fit, if it saw every image."""
        seen, size = images_seen(trainer, "test")
        if trainer.is_global_zero and seen == size:
            write_predictions(self.folder, cast(Classifier, pl_module))

    def finish(self, test: dict[str, float] | None) -> None:
        """Record the end of the run, with the test's figures if it was tested."""
        self.manifest.status, self.manifest.test = "finished", test
        self.save()
        self.release()


def figure(value: Tensor) -> float:
    """Return a float32 metric as the shortest decimal that tells it apart."""
    return float(f"{float(value):.8g}")


def in_percent(figures: dict[str, float]) -> dict[str, float]:
    """Return figures with accuracies in per cent, under names that say so."""
    return {
        f"{name}_percent" if "/acc" in name else name: 100 * value if "/acc" in name else value
        for name, value in figures.items()
    }


def best_epoch(rows: list[dict[str, str]], monitor: str) -> int | None:
    """Return the first epoch with the best value of ``monitor``; losses are minimised."""
    known = [row for row in rows if row.get(monitor) not in (None, "", "nan")]
    if not known:
        return None
    choose = min if "loss" in monitor else max
    return int(choose(known, key=lambda row: float(row[monitor]))["epoch"])


def epoch_header(columns: Sequence[str]) -> str:
    """Return the two lines above the epochs' lines: stages, and the metrics of each."""
    names = [column.split("/") for column in columns]
    stages = [s if i == 0 or names[i - 1][0] != s else "" for i, (s, _) in enumerate(names)]
    widths = [EPOCH_COLUMNS[column] for column in columns]
    upper = "".join(f"{stage:>{width}}" for stage, width in zip(stages, widths, strict=True))
    labels = {"loss": "loss", "acc": "acc", "acc_negative": "neg."}
    lower = "".join(f"{labels[n]:>{w}}" for (_, n), w in zip(names, widths, strict=True))
    return f"{'':7}{upper.rstrip()}\n{'epoch':>7}{lower}{'time':>8}"


def epoch_line(
    row: dict[str, Any], columns: Sequence[str], epochs: int | None = None, best: bool = False
) -> str:
    """Format an epoch's row for the terminal, in 80 columns.

    Args:
        row: its columns of metrics.csv; the line counts epochs from 1.
        columns: what to show of it, of ``EPOCH_COLUMNS``; what the row lacks stays empty.
        epochs: of the whole training; None or -1 if there is no limit.
        best: whether it is the best epoch until now.
    """
    number = f"{row['epoch'] + 1}/{epochs}" if epochs and epochs > 0 else f"{row['epoch'] + 1}"
    cells = [f"{number:>7}"]
    for column in columns:
        value, width = row.get(column), EPOCH_COLUMNS[column]
        form = formatting.loss if "loss" in column else "{:.2%}".format
        cells.append(f"{'' if value is None else form(value):>{width}}")
    seconds = f"{row['seconds']:.{0 if row['seconds'] >= 100 else 1}f} s"
    return "".join([*cells, f"{seconds:>8}", " best" if best else ""])


def describe(trainer: Trainer, classifier: Classifier) -> Manifest:
    """Return what run.json says of the data, the machine and the code."""
    data = cast(ImageDataModule, trainer.datamodule)  # type: ignore[attr-defined]
    device = trainer.strategy.root_device
    on_cpu = device.type == "cpu"
    kernel = getattr(classifier.network, "kernel", "torch")
    computes_fused = (
        getattr(classifier.network, "fused", False) and on_cpu and trainer.precision == "32-true"
    )
    missing = fused.unavailable() if on_cpu and kernel == "auto" else None
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return Manifest(
        protocol=data.protocol,
        parameters=sum(p.numel() for p in classifier.parameters()),
        kernel="fused" if computes_fused else "torch",
        kernel_unavailable=missing,
        data=Data(
            name=data.dataset,
            digests=data.digests,
            classes=list(data.classes),
            train_size=len(data.train_index),
            val_size=len(data.val_index),
            test_size=len(data.test_index),
        ),
        teachers={
            path: digest
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if isinstance(callback, Distillation)
            for path, digest in callback.digests.items()
        },
        device=device.type,
        devices=trainer.world_size,
        hardware=Hardware(
            cpu=cpu_name(),
            cores=os.cpu_count(),
            threads=torch.get_num_threads(),
            device=device.type,
            gpu=gpu,
        ),
        versions={
            "python": platform.python_version(),
            "lenet_lightning": lenet_lightning.__version__,
            **{package: version(package) for package in PACKAGES},
        },
        git=git_state(),
    )


def cpu_name() -> str:
    """Return the processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def git_state() -> Git | None:
    """Return the revision of the checkout that this file is of, None if it is of none."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        command = ["git", "-C", str(here), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # not a repository that only surrounds it
        return Git(git("rev-parse", "HEAD"), bool(git("status", "--porcelain")))
    except (OSError, subprocess.CalledProcessError):
        return None


def images_seen(trainer: Trainer, stage: str) -> tuple[int, int]:
    """Return how many images the evaluation ``val`` or ``test`` saw, and how many there are.

    ``trainer.limit_val_batches`` and ``trainer.limit_test_batches`` leave some out.
    """
    loaders, (batches, *_) = {
        "val": (trainer.val_dataloaders, trainer.num_val_batches),
        "test": (trainer.test_dataloaders, trainer.num_test_batches),
    }[stage]
    loader: Any = loaders[0] if isinstance(loaders, list) else loaders
    return min(loader.size, int(batches) * loader.batch_size), loader.size


def write_predictions(folder: Path, classifier: Classifier) -> None:
    """Save labels and predicted classes of the test set as test_predictions.npz."""
    data = classifier.datamodule
    predicted = classifier.test_logits.argmax(2).to(torch.int16).cpu().numpy()
    content = io.BytesIO()
    np.savez_compressed(
        content,
        labels=data.test_images.labels.to(torch.int16).cpu().numpy(),
        original=predicted[0],
        negative=predicted[1],
    )
    files.replace(folder / run_folder.PREDICTIONS, content.getvalue())


def add_evaluation(
    folder: Path, checkpoint: str, data: str, stage: str, figures: dict[str, float]
) -> None:
    """Add a later evaluation of one of the run's checkpoints to run.json."""
    manifest = run_folder.read(folder).manifest
    entry: dict[str, str | float] = {"checkpoint": checkpoint, "data": data, "stage": stage}
    entry |= figures
    if entry not in manifest.evaluations:
        manifest.evaluations.append(entry)
        run_folder.write_manifest(folder, manifest)


def continue_command(folder: Path) -> str:
    """Return the command that continues an interrupted run."""
    config = shlex.quote(str(folder / run_folder.CONFIG))
    return f"python -m lenet_lightning fit --config {config} --resume must"
