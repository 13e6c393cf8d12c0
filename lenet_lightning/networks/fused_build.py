"""Build of the fused kernel: compiled once by the system's compiler, cached, checked, loaded.

A library is code that every later command runs. It is therefore loaded only from a folder that
belongs to this user and that no one else can write to, and only if its content has the digest in
its name, ``fused-<key>-<digest>.so``. Anything else is ignored, and the kernel compiled again.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from lenet_lightning import files

OPTIONS = ["-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math"]
if sys.platform == "darwin":
    OPTIONS.append("-Wl,-undefined,dynamic_lookup")

LARGEST_LIBRARY = 1 << 24  # bytes; a compiled kernel has some 100,000


def load(source: bytes) -> ctypes.CDLL:
    """Return the library of a C source, from a cache or compiled.

    Safe among concurrent processes. A cache that cannot be used is done without.

    Raises:
        RuntimeError: there is no working compiler; in one sentence.
        OSError: there is no folder to compile in, or the system loads no library from it.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    key = _key(source, compiler)
    built = b""
    for folder in _caches():
        with suppress(OSError):  # absent, full, read-only, or no program may be run from it
            _make(folder)
            if _is_private(folder):
                path = _find(folder, key)
                if path is None:
                    built = built or _compile(compiler, source)
                    path = _keep(built, folder, key)
                return _open(path)
    with tempfile.TemporaryDirectory(prefix="lenet_lightning-") as temporary:
        return _open(_keep(built or _compile(compiler, source), Path(temporary), key))


def _key(source: bytes, compiler: list[str]) -> str:
    """Return what a compiled kernel depends on, as 32 hexadecimal digits."""
    version = _run([*compiler, "--version"])
    built_by = f"{version}{compiler}{OPTIONS}{_cpu()}".encode()
    return hashlib.sha256(source + built_by).hexdigest()[:32]


def _caches() -> list[Path]:
    """Return where the library may be kept: absolute, the parents without symbolic links."""
    places = [os.path.split(files.user_cache())]
    with suppress(OSError):  # no folder for temporary files
        # The home folder may be absent, full or read-only.
        places.append((tempfile.gettempdir(), f"lenet_lightning-{os.geteuid()}"))
    return [
        Path(os.path.realpath(parent)) / name for parent, name in places if os.path.isabs(parent)
    ]


def _make(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _is_private(folder: Path) -> bool:
    """Whether a folder is this user's own, and no other can write to it or replace it."""
    status = folder.lstat()  # of a symbolic link itself, which is not a folder
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not _others_write(status)
        and all(
            not _others_write(above) or above.st_mode & stat.S_ISVTX
            for above in map(os.lstat, folder.parents)
        )
    )


def _others_write(status: os.stat_result) -> bool:
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _find(folder: Path, key: str) -> Path | None:
    """Return a library whose content has the digest in its name, None if there is none."""
    for path in sorted(folder.glob(f"fused-{key}-*.so")):
        status = path.lstat()
        if (
            stat.S_ISREG(status.st_mode)
            and status.st_uid == os.geteuid()
            and not _others_write(status)
            and status.st_size <= LARGEST_LIBRARY
            and path.name == _name(key, path.read_bytes())
        ):
            return path
    return None


def _name(key: str, content: bytes) -> str:
    return f"fused-{key}-{hashlib.sha256(content).hexdigest()}.so"


def _keep(content: bytes, folder: Path, key: str) -> Path:
    """Write a library to a folder, so that it is complete or not there."""
    path = folder / _name(key, content)
    with files.written(path, content):
        pass
    path.chmod(0o600)  # whatever the umask lets others do
    return path


def _open(path: Path) -> ctypes.CDLL:
    """Load a library; through memory where no program may be run from its folder (noexec)."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        if not hasattr(os, "memfd_create"):
            raise
        with open(os.memfd_create("fused"), "wb") as file:
            file.write(path.read_bytes())
            file.flush()
            return ctypes.CDLL(f"/proc/self/fd/{file.fileno()}")


def _compile(compiler: list[str], source: bytes) -> bytes:
    with tempfile.TemporaryDirectory(prefix="lenet_lightning-") as temporary:
        folder = Path(temporary)
        code, library = folder / "fused.c", folder / "fused.so"
        code.write_bytes(source)
        command = [*compiler, *OPTIONS, "-o", str(library), str(code), "-lm"]
        try:
            _run([*command, "-march=native"], folder)
        except RuntimeError:
            _run(command, folder)  # Some compilers do not know the machine's own instruction set.
        return library.read_bytes()


def _run(command: list[str], folder: Path | None = None) -> str:
    """Run a compiler; return what it prints, or raise a RuntimeError of one sentence.

    Args:
        command: the compiler and its arguments.
        folder: for its temporary files.
    """
    environment = os.environ | {"LC_ALL": "C"} | ({"TMPDIR": str(folder)} if folder else {})
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(
            f"no working C compiler ({command[0]!r}: {getattr(error, 'strerror', None) or error}); "
            "install one, or name it in the environment variable CC."
        ) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        line = next((line for line in lines if "error" in line), lines[-1])
        line = line[max(line.find("error"), 0) :]  # Without the name of a temporary file.
        raise RuntimeError(f"the C compiler {command[0]!r} failed: {line}")
    return done.stdout


def _cpu() -> str:
    """Identify the processor: code compiled for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    names = ("model name", "flags", "Features", "CPU part", "isa")
    return "".join(sorted({line for line in lines if line.startswith(names)}))
