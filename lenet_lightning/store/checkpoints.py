"""Checkpoints that survive: written beside their place, flushed, renamed, proven by digest."""

import hashlib
import io
import os
import pickle
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
import yaml
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.errors import UserError
from lenet_lightning.renamed import current
from lenet_lightning.store import run_folder

# What torch.load raises on a file that is no checkpoint.
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, BadZipFile)

# Under this key a checkpoint holds what its network must know of its input.
SPEC_KEY = "lenet_lightning_input"

# Under this key a checkpoint holds the complete configuration of its run, as YAML.
CONFIG_KEY = "lenet_lightning_config"

# Words that Lightning takes for a search of its own instead of a file.
KEYWORDS = ("last", "best", "hpc", "registry")

LAST, BEST, PREVIOUS = "last.ckpt", "best.ckpt", "last.previous.ckpt"


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints that are whole or not there; the last but one is kept too."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``; what was there stays valid until the last moment.

        Raises:
            UserError: the file cannot be written (full disk, read-only folder).
        """
        path = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(exist_ok=True)  # not its parents: a run's folder may have vanished
            with temporary.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            # The digest first, beside the one it follows: whichever file is there, it is known.
            write_digest(path, hashlib.sha256(buffer.getbuffer()).hexdigest())
            if path.name == LAST and path.exists():
                previous = path.with_name(PREVIOUS)
                run_folder.replace(digest_path(previous), digest_path(path).read_bytes())
                path.replace(previous)
            temporary.replace(path)
        except OSError as error:
            raise UserError(run_folder.unwritable(path, error)) from error
        finally:
            with suppress(OSError):
                temporary.unlink()

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load tensors and plain values only; see :func:`load`."""
        return load(path)


def digest_path(path: Path) -> Path:
    """Return where the digests of a checkpoint stand."""
    return path.with_name(path.name + ".sha256")


def write_digest(path: Path, digest: str) -> None:
    """Put ``digest`` before that of the file which is there, if that one is known."""
    known = digest_path(path).read_text().split() if digest_path(path).exists() else []
    present = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    kept = [present] if present in known else []
    run_folder.replace(digest_path(path), "\n".join([digest, *kept]) + "\n")


def load(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of this package, after proving it; nothing in it is executed.

    Returns:
        Lightning's checkpoint dictionary, tensors on the CPU.

    Raises:
        UserError: there is no such file, it is damaged, or it is no checkpoint of this package.
    """
    if str(path) in KEYWORDS:
        raise UserError(
            f"ckpt_path is {path}: expected a file; to continue the newest unfinished run of a "
            "configuration, give fit --resume auto."
        )
    # A path object holds a single slash of the two in an address.
    if ":/" in str(path):
        raise UserError(
            f"ckpt_path is {path}, but checkpoints are read from local files only: fetch it first, "
            "from someone you trust."
        )
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The checkpoint {path} cannot be read ({error.strerror}): expected a .ckpt file such "
            "as lightning_logs/mnist/version_0/checkpoints/best.ckpt."
        ) from error
    known = digest_path(path).read_text().split() if digest_path(path).exists() else None
    if known is not None and hashlib.sha256(data).hexdigest() not in known:
        raise UserError(
            f"The checkpoint {path} is damaged: it does not match {digest_path(path).name}; "
            "use another one of its folder."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on files that are refused below
            checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UNREADABLE:
        checkpoint = None
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise UserError(
            f"{path} is damaged or no checkpoint of lenet_lightning: expected a .ckpt file that "
            "fit wrote; only tensors and plain values are ever read from it."
        )
    return checkpoint


def spec_of(checkpoint: dict[str, Any]) -> InputSpec:
    """Return what the checkpoint's network expects of its input."""
    return InputSpec.from_dict(checkpoint[SPEC_KEY])


def config_of(path: str | Path, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return the configuration a checkpoint was trained with; None if nothing tells.

    Args:
        path: where it lies.
        checkpoint: what :func:`load` returned for it.

    Raises:
        UserError: the run folder it lies in is damaged.
    """
    with suppress(yaml.YAMLError):
        config = current(yaml.safe_load(str(checkpoint.get(CONFIG_KEY))))
        if isinstance(config, dict):
            run_folder.drop_replicas(config)
            return config
    folder = run_folder.folder_of(path)
    return run_folder.read_config(folder) if folder else None


def newest_valid(folder: Path) -> Path | None:
    """Return the newest undamaged checkpoint from which a run folder can continue.

    A damaged one is named in a warning and passed over.
    """
    for name in (LAST, PREVIOUS, BEST):
        path = folder / "checkpoints" / name
        if not path.exists():
            continue
        try:
            load(path)
            return path
        except UserError as error:
            warnings.warn(f"{error} The one before it is tried.", stacklevel=2)
    return None
