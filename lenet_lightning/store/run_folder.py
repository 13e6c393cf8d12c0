"""Run folders: making one, reading one, finding one of the same configuration.

``<logs>/<name>/version_N/`` holds config.yaml, run.json, metrics.csv, curves.png,
test_predictions.npz, checkpoints/ and TensorBoard's event files. This module needs neither torch
nor Lightning, so a report can be made on a machine that has only the folders.
"""

import contextlib
import csv
import io
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from lenet_lightning import files, strict_yaml
from lenet_lightning.errors import UserError
from lenet_lightning.renamed import current
from lenet_lightning.store import manifest
from lenet_lightning.store.code_version import code_version
from lenet_lightning.store.manifest import Manifest

CONFIG, MANIFEST, METRICS = "config.yaml", "run.json", "metrics.csv"
PREDICTIONS = "test_predictions.npz"

MAX_BYTES = 10_000_000

# Settings that cannot change a result: where things lie and what is shown.
NEUTRAL_KEYS = (
    ("logs",),
    ("name",),
    ("resume",),
    ("ckpt_path",),
    ("weights_only",),
    ("allow_imports",),
    ("trainer", "enable_progress_bar"),
    ("trainer", "default_root_dir"),
    ("data", "init_args", "root"),
    ("data", "init_args", "download"),
)


NO_REPLICAS = (
    "is no longer an option, since every seed is a run of its own: leave it out, and run seeds "
    "side by side with python -m lenet_lightning study --config CONFIG --seeds 0-4."
)


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
        folder: where it lies.
        config: config.yaml.
        manifest: run.json.
        metrics: metrics.csv, one float64 array ``[epochs]`` per column, empty before the first.
    """

    folder: Path
    config: dict[str, Any]
    manifest: Manifest
    metrics: dict[str, np.ndarray]


def create(root: str | Path, name: str) -> Path:
    """Make and return the next free ``root/name/version_N``, safe among concurrent runs.

    Raises:
        UserError: the folder cannot be written, or a link leads out of ``root``.
    """
    parent = Path(root) / name
    try:
        for depth in range(len(Path(name).parts)):
            files.make_folder(Path(root, *Path(name).parts[: depth + 1]))
        number = max(map(version, parent.iterdir()), default=-1) + 1
        while True:
            folder = parent / f"version_{number}"
            try:
                folder.mkdir()
                (folder / "checkpoints").mkdir()
                return folder
            except FileExistsError:
                number += 1
    except OSError as error:
        raise UserError(
            f"The run folder {parent} cannot be written ({error.strerror}): "
            "free it, or choose another with --logs."
        ) from error


def discard(folder: Path) -> None:
    """Remove a run folder in which nothing was recorded, and its parent if that is then empty."""
    if (folder / MANIFEST).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def hold(folder: Path) -> IO[bytes] | None:
    """Mark a run folder as in use until the returned file or the process ends.

    What killed processes left half-written in it is removed.

    Returns:
        The locked file; None if another process holds it.

    Raises:
        UserError: its ``.lock`` cannot be opened, or a link leads out of it.
    """
    files.check_links(folder)
    try:
        held = files.lock(folder / ".lock")
    except OSError as error:
        raise UserError(
            f"{folder / '.lock'} cannot be opened ({error.strerror}): make its folder writable."
        ) from error
    if held is None:
        return None
    file, _ = held
    files.remove_leftovers(folder)
    return file


def read(folder: str | Path) -> Run:
    """Read a run folder.

    Raises:
        UserError: it is not a run folder, or one of its files is damaged.
    """
    folder = Path(folder)
    return Run(
        folder,
        read_file(folder / CONFIG, parse_config),
        read_file(folder / MANIFEST, manifest.loads),
        read_metrics(folder / METRICS),
    )


def read_file(path: Path, parse: Callable[[str], Any]) -> Any:
    """Read one file of a run folder.

    Args:
        path: the file.
        parse: returns what its text means; raises a ``ValueError`` if it is damaged.

    Raises:
        UserError: it is absent, cannot be read, or is damaged.
    """
    try:
        return parse(files.read(path, MAX_BYTES).decode())
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a run folder: {path.name} is missing.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """Return the sentence for a file of a run folder that cannot be understood."""
    reason = " ".join(str(error).split())[:300]
    return UserError(f"{path} is damaged ({reason}): restore it, or remove its run.")


def parse_config(text: str) -> dict[str, Any]:
    """Read a complete configuration.

    Raises:
        ValueError: it is not valid YAML, or does not describe a model, data and training.
    """
    try:
        config = current(strict_yaml.loads(text))
    except yaml.YAMLError as error:
        raise ValueError(strict_yaml.reason(error)) from error
    for key in ("model", "data", "trainer"):
        if not isinstance(config, dict) or not isinstance(config.get(key), dict):
            raise ValueError(f"{key} is not a mapping")
    data = config["data"]
    if not isinstance(data.get("class_path"), str) or not isinstance(data.get("init_args"), dict):
        raise ValueError("data has no class_path or init_args")
    for key, kind in (("seed_everything", int), ("name", str)):
        if not isinstance(config.get(key), kind):
            raise ValueError(f"{key} is not of type {kind.__name__}")
    drop_replicas(config)
    return dict(config)


def drop_replicas(config: Any) -> None:
    """Remove ``replicas: 1``, which earlier versions wrote, from a configuration."""
    for keys in (("model",), ("data", "init_args")):
        node = config
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get("replicas") == 1:
            del node["replicas"]


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Read a metrics.csv; empty cells become NaN, an absent file an empty dict.

    Raises:
        UserError: it is damaged.
    """
    rows = read_rows(path)
    columns = rows[0] if rows else {}
    return {c: np.array([float(row[c] or "nan") for row in rows]) for c in columns}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a metrics.csv as text, one dict per epoch; an absent file is an empty list.

    Raises:
        UserError: it is damaged.
    """
    return read_file(path, parse_rows) if path.exists() else []


def parse_rows(text: str) -> list[dict[str, str]]:
    """Read the text of a metrics.csv.

    Raises:
        ValueError: a row has other columns than the header, or a cell that is not a number.
    """
    try:
        columns, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if len(set(columns)) < len(columns) or "epoch" not in columns:
        raise ValueError("its columns are not different, or epoch is not among them")
    rows = [dict(zip(columns, line, strict=True)) for line in lines if line]
    for row in rows:
        for value in row.values():
            float(value or "nan")
        if not re.fullmatch(r"\d{1,9}", row["epoch"]):
            raise ValueError(f"{row['epoch']} is not an epoch")
    return rows


def read_predictions(path: Path, classes: int) -> dict[str, np.ndarray]:
    """Read a test_predictions.npz.

    Args:
        path: the file.
        classes: how many classes there are.

    Returns:
        ``labels``, ``original`` and ``negative``, int64 ``[images]`` below ``classes``.

    Raises:
        UserError: it is damaged.
    """
    try:
        content = io.BytesIO(files.read(path, MAX_BYTES))
        with zipfile.ZipFile(content) as archive:
            sizes = [member.file_size for member in archive.infolist()]
        if sum(sizes) > 10 * MAX_BYTES:
            raise ValueError("it unpacks to too much")
        with np.load(content, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("labels", "original", "negative")}
        for name, values in found.items():
            whole = values.ndim == 1 and values.dtype.kind in "iu"
            if not whole or len(values) != len(found["labels"]):
                raise ValueError(f"{name} is not a whole number for each image")
            if len(values) and not 0 <= values.min() <= values.max() < classes:
                raise ValueError(f"{name} is not from 0 to {classes - 1}")
    except UserError:
        raise
    except Exception as error:  # damaged archives raise whatever they like
        raise damaged(path, error) from error
    return {name: values.astype(np.int64) for name, values in found.items()}


def write_manifest(folder: Path, record: Manifest) -> None:
    """Write run.json."""
    files.replace(folder / MANIFEST, manifest.dumps(record))


def folder_of(checkpoint: str | Path) -> Path | None:
    """Return the run folder a checkpoint lies in, None if it lies in none."""
    folder = Path(checkpoint).parent.parent
    return folder if (folder / CONFIG).is_file() else None


def checkpoint_in(path: str, name: str = "best.ckpt") -> str:
    """Return the checkpoint of a run folder, or the path itself if it is not a run folder."""
    folder = Path(path)
    return str(folder / "checkpoints" / name) if (folder / CONFIG).is_file() else path


def is_config(path: str | Path) -> bool:
    """Tell whether a path is the config.yaml of a run folder."""
    path = Path(path)
    return path.name == CONFIG and path.with_name(MANIFEST).is_file()


def find(root: str | Path, name: str, config: dict[str, Any]) -> list[Run]:
    """Return the runs under ``root/name`` of this configuration and code, newest first."""
    return [
        run
        for run in read_all(Path(root) / name)
        if run.manifest.code == code_version() and not changes(run.config, config)
    ]


def read_all(parent: Path) -> list[Run]:
    """Read every ``version_N`` in a folder, newest first; warn of damaged ones."""
    found = []
    for folder in parent.glob("version_*"):
        # Without its configuration, nothing was recorded in it.
        if version(folder) >= 0 and (folder / CONFIG).exists():
            try:
                found.append(read(folder))
            except UserError as error:
                warnings.warn(f"{error} It is passed over.", stacklevel=2)
    return sorted(found, key=lambda run: version(run.folder), reverse=True)


def version(folder: Path) -> int:
    """Return N of a run folder ``version_N``, -1 of any other path."""
    found = re.fullmatch(r"version_(\d+)", folder.name)
    return int(found[1]) if found else -1


def why_not_found(root: str | Path, name: str, config: dict[str, Any]) -> str:
    """Say why no run under ``root/name`` can be continued with this configuration."""
    parent = Path(root) / name
    unfinished = [run for run in read_all(parent) if run.manifest.status != "finished"]
    if not unfinished:
        return f"there is no unfinished run in {parent}"
    run = unfinished[0]
    if run.manifest.code != code_version():
        return (
            f"{run.folder} was made by another version of the code; to resume from it all the "
            f"same, give --ckpt_path {run.folder / 'checkpoints' / 'last.ckpt'}"
        )
    if differing := changes(run.config, config):
        key, (old, new) = next(iter(differing.items()))
        option = key.replace(".init_args", "")  # as it is typed
        return f"{run.folder} has another configuration ({option} was {old}, is {new})"
    return f"{run.folder} is in use by another process, or has no checkpoint"


def changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return ``key: (old value, new value)`` of every setting that differs and can matter."""
    a, b = flatten(old), flatten(new)
    keys = sorted(
        key for key in a.keys() | b.keys() if not any(key[: len(n)] == n for n in NEUTRAL_KEYS)
    )
    return {".".join(k): (a.get(k), b.get(k)) for k in keys if a.get(k) != b.get(k)}


def flatten(config: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Turn nested mappings into one with tuple keys; an empty one has none."""
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in config.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            flat |= flatten(value, (*prefix, str(key)))
        else:
            flat[(*prefix, str(key))] = value
    return flat
