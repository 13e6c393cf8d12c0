"""Run folders as `fit` leaves them, with made-up figures, so that reports need no training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lenet_lightning.store import run_folder
from lenet_lightning.store.manifest import Data, Git, Hardware, Manifest, Status

CLASSES = ["zero", "one", "two", "three"]


def write_run(
    folder: Path,
    *,
    accuracy: float = 0.9,
    seed: int = 0,
    epochs: int = 12,
    status: Status = "finished",
    protocol: str = "watch",
    noise: float = 0.01,
    error: str | None = None,
    started: str = "2026-01-01T10:00:00+00:00",
    seconds: float = 60.0,
    test_size: int = 400,
) -> Path:
    """Write one run folder whose test accuracy rises to about `accuracy`.

    A non-finite run stops after its third epoch, with NaN losses from there on and no test.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng([seed, round(1e4 * accuracy)])
    broken = status == "nonfinite"
    done = 3 if broken else epochs
    rise = 1 - np.exp(-np.arange(1, done + 1) / 2)

    def curve(top: float) -> np.ndarray:
        return np.clip(top * rise + noise * random.standard_normal(done), 0, 1)

    columns: dict[str, Any] = {
        "epoch": np.arange(done),
        "step": 10 * np.arange(1, done + 1),
        "lr": np.full(done, 5e-4),
    }
    for split in ["train", "val", *(["test"] if protocol == "watch" else [])]:
        columns[f"{split}/acc"] = curve(accuracy)
        columns[f"{split}/loss"] = 2.3 - 2 * columns[f"{split}/acc"]
        if split != "train":
            columns[f"{split}/acc_negative"] = curve(accuracy / 2)
            columns[f"{split}/loss_negative"] = 8 - columns[f"{split}/acc_negative"]
    columns["seconds"] = np.full(done, seconds / epochs)
    if broken:
        for name, column in columns.items():
            if "loss" in name:
                column[-1] = np.nan
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))

    best = int(np.argmax(columns["val/acc"]))
    test = None
    if status == "finished":
        labels = np.arange(test_size) % len(CLASSES)
        right = random.random(test_size) < accuracy
        original = np.where(right, labels, (labels + 1) % len(CLASSES))
        negative = np.where(random.random(test_size) < accuracy / 2, labels, 0)
        arrays = {"labels": labels, "original": original, "negative": negative}
        np.savez(
            folder / "test_predictions.npz", **{k: v.astype(np.int16) for k, v in arrays.items()}
        )
        test = {
            "acc": float(np.mean(original == labels)),
            "loss": 0.4,
            "acc_negative": float(np.mean(negative == labels)),
            "loss_negative": 7.0,
        }
    manifest = Manifest(
        status=status,
        error=error,
        command=["fit"],
        seed=seed,
        protocol=protocol,
        best_epoch=best,
        epochs=done,
        test=test,
        seconds=seconds,
        epoch_seconds=seconds / epochs,
        started=started,
        versions={"python": "3.11.0", "torch": "2.15.0"},
        hardware=Hardware("a processor", 2, 1, "cpu"),
        data=Data("Digits", {"digits.csv.gz": "sha256:0123"}, CLASSES, 1000, 100, test_size),
        git=Git("0123456789abcdef"),
        parameters=61_706,
        code="0123456789abcdef",
    )
    run_folder.write_manifest(folder, manifest)
    config = {
        "seed_everything": seed,
        "name": "fake",
        "trainer": {"max_epochs": epochs},
        "model": {},
        "data": {"class_path": "Digits", "init_args": {}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


STUDY = """
name: fake
title: A fake study
base: base.yaml
seeds: {seeds}
groups:
  easy: {{title: Easy}}
  hard: {{title: Hard}}
settings:
  adam: {{title: "Adam", model.network.initializer: he_normal}}
  glorot: {{title: "GlorotNormal", model.network.initializer: glorot_normal}}
  ones: {{title: "Ones", model.network.initializer: ones}}
  half: {{title: "Half", groups: [easy], data.train_polarity: half}}
figures:
  - {{name: "1.1", kind: activation_functions, title: "Fig 1.1: activations"}}
  - name: "1.b.1"
    kind: accuracy
    title: "Fig 1.b.1: Easy"
    panels: {{a: easy_adam, b: easy_glorot, c: easy_ones}}
  - {{name: "1.c.1", kind: negative_example, title: "Fig 1.c.1", setting: easy_adam}}
  - name: "1.c.2"
    kind: accuracy_and_loss
    title: "Fig 1.c.2"
    setting: easy_adam
    images: negative
claims:
  - {{says: "over 85 %", kind: at_least, measure: best_accuracy, setting: [adam, glorot],
      value: 0.85, groups: [easy, hard]}}
  - {{says: "nearly the same", kind: near_equal, measure: best_accuracy, setting: adam,
      against: glorot, margin: 0.05, groups: [easy]}}
  - {{says: "far lower", kind: lower, measure: best_accuracy, setting: ones, against: adam,
      margin: 0.2, groups: [easy]}}
  - {{says: "smoother", kind: lower, measure: variation, setting: ones, against: adam,
      groups: [easy]}}
  - {{says: "loss much higher", kind: higher, measure: last_loss_negative,
      against_measure: last_loss, setting: easy_adam, against: easy_adam, margin: 1}}
"""

ACCURACY = {"adam": 0.95, "glorot": 0.94, "ones": 0.25, "half": 0.9}


def write_study(folder: Path, seeds: int = 3, skip: tuple[str, ...] = (), **changes: Any) -> Path:
    """A whole study's folder; `skip` names runs (``easy_adam/seed_0``) that are left out."""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY.format(seeds=list(range(seeds))))
    for group, factor in (("easy", 1.0), ("hard", 0.7)):
        for name, accuracy in ACCURACY.items():
            for seed in range(seeds):
                key = f"{group}_{name}/seed_{seed}"
                if key in skip or (name == "half" and group == "hard"):
                    continue
                options = {"accuracy": factor * accuracy, "seed": seed} | changes
                write_run(folder / key / "version_0", **options)
    return folder
