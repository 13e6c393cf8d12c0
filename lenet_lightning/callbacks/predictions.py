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
from lenet_lightning.callbacks.contact_sheet import contact_sheet
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.pictures import Pictures
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.metrics import mean_of

COLUMNS = ("file", "class", "probability", "negative_class", "negative_probability", "ink")
PRINTED = 20
"""Predictions shown on the screen; all of them are in the file."""


class PredictionTable(Callback):
    """Prints and writes a table of predictions, of one network or of the mean of several.

    Attributes:
        path: the file to write.
        networks: how many predict, one after another.
    """

    def __init__(self) -> None:
        self.path = Path("predictions.csv")
        self.networks = 1
        self.probabilities: list[Tensor] = []
        self.complete: list[Tensor] = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep a batch's probabilities."""
        self.probabilities.append(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write and print the table, once the last network has predicted, and say where it is."""
        self.complete.append(torch.cat(self.probabilities, dim=1).cpu())
        self.probabilities.clear()
        if len(self.complete) < self.networks:
            return
        probabilities = mean_of(self.complete)
        classes = cast(InputSpec, cast(Classifier, pl_module).spec).classes
        data = trainer.datamodule  # type: ignore[attr-defined]
        path = self.path
        names = data.picture_names
        ink = ink_words(data) if isinstance(data, Pictures) else [""] * len(names)
        files.replace(path, table(names, probabilities, classes, ink))
        print(printed(names, probabilities, classes, ink))
        if isinstance(data, Pictures):
            sheet = contact_sheet(names, data.thumbnails, data.pixels, probabilities[0], classes)
            files.replace(path.with_suffix(".png"), sheet)
            print(f"Pictures, what the network saw of them, best 3: {path.with_suffix('.png')}")
        of = f", each the mean of {self.networks} networks" if self.networks > 1 else ""
        print(f"{len(names)} predictions{of}: {path}")


def ink_words(data: Pictures) -> list[str]:
    """Return, for each picture, which ink was found: ``dark``, ``light``, or nothing."""
    return [{True: "dark", False: "light", None: ""}[each] for each in data.reversed]


def table(
    files: Sequence[str], probabilities: Tensor, classes: Sequence[str], ink: Sequence[str]
) -> str:
    """Return the table as CSV text, with the probabilities of all classes.

    Args:
        files: names, one per picture.
        probabilities: float ``[2, pictures, classes]``, originals and negatives.
        classes: class names.
        ink: ``dark`` for pictures that were reversed, ``light``, or nothing.
    """
    best, index = probabilities.max(2)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    every = [f"{kind}:{name}" for kind in ("p", "negative_p") for name in classes]
    writer.writerow([*COLUMNS, *every])
    for i, file in enumerate(files):
        answers = [(classes[int(index[p, i])], f"{float(best[p, i]):.6f}") for p in (0, 1)]
        row = [file, *answers[0], *answers[1], ink[i]]
        row += [f"{value:.6f}" for value in probabilities[:, i].flatten().tolist()]
        writer.writerow(map(formatting.csv_cell, row))
    return text.getvalue()


def printed(
    files: Sequence[str], probabilities: Tensor, classes: Sequence[str], ink: Sequence[str]
) -> str:
    """Return the first ``PRINTED`` rows for the screen; arguments as for :func:`table`."""
    best, index = probabilities.max(2)
    rows = [("file", "ink", "class", "", "negative", "")]
    for i, file in enumerate(files[:PRINTED]):
        answers = [(classes[int(index[p, i])], f"{float(best[p, i]):.1%}") for p in (0, 1)]
        rows.append((file, ink[i], *answers[0], *answers[1]))
    shown = [column for column in zip(*rows, strict=True) if any(column)]
    lines = formatting.columns([*zip(*shown, strict=True)])
    more = len(files) - PRINTED
    return f"{lines}\n... {more:,} more in the file" if more > 0 else lines


def free_path(path: Path) -> Path:
    """Return ``path``, or ``name_2``, ``name_3`` and so on if it is taken."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}_{number}")
    return free
