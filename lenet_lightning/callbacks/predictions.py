"""Predictions as a table: one line per picture, with the answer for its negative beside it."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lenet_lightning import files, formatting
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import mean_of

COLUMNS = ("file", "class", "probability", "negative_class", "negative_probability")


class PredictionTable(Callback):
    """Writes ``predictions.csv``, of one network or of the mean of several.

    Attributes:
        folder: where to write it, an existing folder.
        networks: how many predict, one after another.
    """

    def __init__(self) -> None:
        self.folder = Path()
        self.networks = 1
        self.probabilities: list[Tensor] = []
        self.complete: list[Tensor] = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep a batch's probabilities."""
        self.probabilities.append(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table, once the last network has predicted, and say where it is."""
        self.complete.append(torch.cat(self.probabilities, dim=1).cpu())
        self.probabilities.clear()
        if len(self.complete) < self.networks:
            return
        probabilities = mean_of(self.complete)
        classes = cast(InputSpec, cast(Classifier, pl_module).spec).classes
        path = free_path(self.folder / "predictions.csv")
        names = trainer.datamodule.picture_names  # type: ignore[attr-defined]
        files.replace(path, table(names, probabilities, classes))
        of = f", each the mean of {self.networks} networks" if self.networks > 1 else ""
        print(f"{len(names)} predictions{of}: {path}")


def table(files: Sequence[str], probabilities: Tensor, classes: Sequence[str]) -> str:
    """Return the table as CSV text.

    Args:
        files: names, one per picture.
        probabilities: float ``[2, pictures, classes]``, originals and negatives.
        classes: class names.
    """
    best, index = probabilities.max(2)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for i, file in enumerate(files):
        answers = [(classes[int(index[p, i])], f"{float(best[p, i]):.6f}") for p in (0, 1)]
        writer.writerow(map(formatting.csv_cell, [file, *answers[0], *answers[1]]))
    return text.getvalue()


def free_path(path: Path) -> Path:
    """Return ``path``, or ``name_2``, ``name_3`` and so on if it is taken."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}_{number}")
    return free
