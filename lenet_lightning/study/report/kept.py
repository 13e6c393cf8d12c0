"""``runs.tar.xz``: all that a report is made from, in one small file beside it.

Of each run config.yaml, run.json, metrics.csv and test_predictions.npz; of the study its plan, its
index and the pictures of its data. No weights.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lenet_lightning import files
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.study.report.figure_sections import ASSETS
from lenet_lightning.study.results import INDEX, PLAN, Result

RUNS = "runs.tar.xz"
MAX_BYTES = 300_000_000  # of a thousand runs and more, unpacked
MAX_FILES = 100_000
FILES = (run_folder.CONFIG, run_folder.MANIFEST, run_folder.METRICS, run_folder.PREDICTIONS)


def pack(folder: Path, results: Sequence[Result]) -> bytes:
    """Return the archive of a study's folder; the same runs give the same bytes."""
    paths = [folder / PLAN, folder / INDEX, *sorted((folder / ASSETS).glob("*"))]
    paths += [
        folder / result.folder / name for result in results if result.folder for name in FILES
    ]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=9) as archive:
        for path in paths:
            if path.is_file():
                content = path.read_bytes()
                if path.name == run_folder.PREDICTIONS:
                    content = _uncompressed(content)
                entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _uncompressed(content: bytes) -> bytes:
    """The arrays as plain bytes: xz finds what the runs have in common."""
    buffer = io.BytesIO()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        np.savez(buffer, **arrays)
    return buffer.getvalue()


@contextmanager
def opened(folder: Path) -> Iterator[Path]:
    """Give a study's folder with its runs: itself if it has the plan, or what its archive holds.

    Raises:
        UserError: The archive is damaged or would fill the disk.
    """
    path = folder / RUNS
    if (folder / PLAN).is_file() or not path.is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        try:
            unpacker = lzma.LZMADecompressor(memlimit=MAX_BYTES)
            content = unpacker.decompress(files.read(path, MAX_BYTES), MAX_BYTES)
            if not unpacker.eof:
                raise EOFError(f"it ends early, or unpacks to more than {MAX_BYTES:,} bytes")
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                for count, entry in enumerate(archive):
                    if count == MAX_FILES:
                        raise tarfile.TarError(f"it holds more than {MAX_FILES:,} files")
                    archive.extract(entry, place, filter="data")
        except Exception as error:  # damaged archives raise whatever they like
            raise UserError(
                f"{path} is damaged ({error}): restore it, or rebuild the report from the run "
                "folders with 'study report FOLDER --output DIR'."
            ) from error
        yield Path(place)
