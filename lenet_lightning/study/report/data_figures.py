"""What a report needs of the data, made while the data is there and kept with the study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lenet_lightning import files
from lenet_lightning.data import fetch as datasets
from lenet_lightning.data import show
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.study.plan import Study
from lenet_lightning.study.report.figure_sections import ASSETS, stem


def fetch(configs: Iterable[Mapping[str, Any]]) -> None:
    """Fetch every dataset once, before any run needs it.

    Raises:
        UserError: One cannot be had.
    """
    for name, root, download in datasets_of(configs):
        datasets.fetch(name, root, download)


def datasets_of(configs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    """Name, root and permission to download of every dataset of this package that runs need."""
    return sorted(found for found in set(map(_dataset, configs)) if found[0] in DATASETS)


def write(study: Study, configs: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Make the pictures of negatives of the study's figures, unless they are there."""
    for figure in study.figures:
        target = folder / ASSETS / f"{stem(figure)}.png"
        if figure.kind != "negative_example" or target.is_file():
            continue
        setting = figure.panels[""]
        config = next((c for k, c in configs.items() if k.startswith(f"{setting}/")), None)
        if config is None or _dataset(config)[0] not in DATASETS:
            continue
        dataset = datasets.load(*_dataset(config))
        found = show.statistics(dataset)
        files.make_folder(target.parent)
        files.replace(target.with_suffix(".txt"), "\n".join(show.statistics_table(found)) + "\n")
        files.replace(target, show.picture(dataset, found))


def _dataset(config: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Name, root and permission to download of the dataset of a configuration."""
    data = config.get("data") or {}
    options = data.get("init_args") or {}
    name = str(data.get("class_path", "")).rsplit(".", 1)[-1]
    return name, str(options.get("root") or "datasets"), bool(options.get("download", True))
