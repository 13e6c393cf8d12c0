"""Durable checkpoints: written to a temporary file, flushed, renamed, verified by digest."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from lenet_lightning import files
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.errors import UserError
from lenet_lightning.store import archive, checkpoint_schema, run_folder
from lenet_lightning.store.checkpoint_schema import CONFIG_KEY, SPEC_KEY, SchemaError

MAX_BYTES = 1_000_000_000

# Words that Lightning takes for a search of its own instead of a file.
KEYWORDS = ("last", "best", "hpc", "registry")

LAST, BEST, PREVIOUS = "last.ckpt", "best.ckpt", "last.previous.ckpt"


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and keeps the last but one."""

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
        try:
            path.parent.mkdir(exist_ok=True)  # not its parents: a run's folder may have vanished
            with files.written(path, buffer.getbuffer()):
                # The digest first, beside the one it follows: whichever file is there, it is known.
                write_digest(path, hashlib.sha256(buffer.getbuffer()).hexdigest())
                if path.name == LAST and path.exists():
                    previous = path.with_name(PREVIOUS)
                    files.replace(digest_path(previous), digest_path(path).read_bytes())
                    path.replace(previous)
        except OSError as error:
            raise UserError(files.unwritable(path, error)) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load tensors and plain values only; see :func:`load`."""
        return load(path)


def digest_path(path: Path) -> Path:
    """Return where the digests of a checkpoint stand."""
    return path.with_name(path.name + ".sha256")


def digests(path: Path) -> list[str] | None:
    """Return the digests beside a checkpoint, None if there are none."""
    try:
        return files.read(digest_path(path), 10_000).decode("ascii", "replace").split()
    except FileNotFoundError:
        return None


def write_digest(path: Path, digest: str) -> None:
    """Put ``digest`` before that of the file which is there, if that one is known."""
    known = digests(path) or []
    present = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    kept = [present] if present in known else []
    files.replace(digest_path(path), "\n".join([digest, *kept]) + "\n")


def load(path: str | Path) -> dict[str, Any]:
    """Verify and load a checkpoint of this package; nothing in it is executed.

    Returns:
        Lightning's checkpoint dictionary, tensors on the CPU.

    Raises:
        UserError: there is no such file, it is damaged, or it is not a checkpoint of this package.
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
        data = files.read(path, MAX_BYTES)
        known = digests(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The checkpoint {path} cannot be read ({getattr(error, 'strerror', error)}): expected "
            "a .ckpt file such as lightning_logs/mnist/version_0/checkpoints/best.ckpt."
        ) from error
    if known is not None and hashlib.sha256(data).hexdigest() not in known:
        raise UserError(
            f"The checkpoint {path} is damaged: it does not match {digest_path(path).name}; "
            "use another one of its folder."
        )
    checkpoint = archive.unpack(data)
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise UserError(
            f"{path} is damaged or not a checkpoint of lenet_lightning: expected a .ckpt file that "
            "fit wrote; only tensors and plain values are ever read from it."
        )
    try:
        return checkpoint_schema.check(checkpoint)
    except SchemaError as error:
        raise changed(path, error) from error


def changed(path: str | Path, error: SchemaError) -> UserError:
    """Return the sentence for a checkpoint that is not what ``fit`` wrote."""
    return UserError(
        f"The checkpoint {path} was changed by hand or by another program ({error}): use another "
        "one of its folder."
    )


def spec_of(checkpoint: dict[str, Any]) -> InputSpec:
    """Return what the checkpoint's network expects of its input."""
    return InputSpec.from_dict(checkpoint[SPEC_KEY])


def config_of(path: str | Path, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return the configuration a checkpoint was trained with; None if it is not known.

    Args:
        path: where it lies.
        checkpoint: what :func:`load` returned for it.

    Raises:
        UserError: the configuration in it, or the run folder it lies in, is damaged.
    """
    if checkpoint.get(CONFIG_KEY):
        try:
            return run_folder.parse_config(checkpoint[CONFIG_KEY])
        except ValueError as error:
            raise changed(path, SchemaError(f"{CONFIG_KEY}: {error}")) from error
    folder = run_folder.folder_of(path)
    return run_folder.read(folder).config if folder else None


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
