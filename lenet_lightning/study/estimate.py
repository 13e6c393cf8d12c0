"""How long runs take: from runs of the same work where there are any, else a stated guess."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder

# Milliseconds of a step on one processor core: this much, and this much for each image.
STEP, IMAGE = 0.5, 0.02
# So many times as long where teachers predict each image as well.
TAUGHT = 2
IMAGES = {"MNIST": 60_000, "FashionMNIST": 60_000, "CIFAR10": 50_000, "Digits": 1_437}

Work = tuple[str, str, str, bool]


def work(config: Mapping[str, Any]) -> Work:
    """What makes epochs take the same time: dataset, batch size, accelerator and teachers."""
    data, trainer = config.get("data") or {}, config.get("trainer") or {}
    batch = (data.get("init_args") or {}).get("batch_size", "")
    given = trainer.get("callbacks") or []
    callbacks = given if isinstance(given, list) else [given]
    taught = any(each["class_path"].endswith(".Distillation") for each in callbacks)
    return str(data.get("class_path", "")), str(batch), str(trainer.get("accelerator", "")), taught


def epochs(config: Mapping[str, Any]) -> int:
    """The epochs a configuration asks for."""
    return int((config.get("trainer") or {}).get("max_epochs") or 1)


def assumed_epoch_seconds(config: Mapping[str, Any]) -> float:
    """A guess for one core, for a plan without any finished run."""
    name, batch, _, taught = work(config)
    images = IMAGES.get(name.rsplit(".", 1)[-1], max(IMAGES.values()))
    size = images if not batch.isdigit() else min(int(batch), images)
    seconds = math.ceil(images / size) * (STEP + IMAGE * size) / 1000
    return seconds * TAUGHT if taught else seconds


class EpochTimes:
    """Seconds of an epoch by the kind of work, learnt from manifests and from running runs."""

    def __init__(self) -> None:
        self.measured: dict[Work, list[float]] = {}

    def learn(self, config: Mapping[str, Any], seconds: float | None) -> None:
        """Take in the epoch time of one run."""
        if seconds:
            self.measured.setdefault(work(config), []).append(float(seconds))

    def learn_folder(self, logs: Path) -> None:
        """Take in every run below a folder of runs."""
        for file in logs.glob(f"**/version_*/{run_folder.MANIFEST}"):
            try:
                run = run_folder.read(file.parent)
            except UserError:  # a damaged run teaches nothing
                continue
            if run.manifest.status == "finished":
                self.learn(run.config, run.manifest.epoch_seconds)

    def seconds(self, config: Mapping[str, Any]) -> float:
        """Seconds of one epoch of a configuration."""
        known = self.measured.get(work(config))
        return statistics.median(known) if known else assumed_epoch_seconds(config)

    def source(self, configs: Iterable[Mapping[str, Any]]) -> str:
        """Where the figures for these configurations come from, in words."""
        kinds = {work(config) for config in configs}
        known = sum(len(self.measured.get(kind, [])) for kind in kinds)
        if kinds and all(kind in self.measured for kind in kinds):
            return f"measured in {known} finished runs"
        guess = f"assumed {STEP:g} ms a step and {IMAGE:g} ms an image on one core"
        if any(taught for *_, taught in kinds):
            guess += f", {TAUGHT} times that with teachers"
        return f"{guess} where no finished run tells" if known else guess
