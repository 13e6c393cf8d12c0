"""The cache of the compiled kernel: which file is loaded, and where it goes."""

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_lightning.networks import fused_build
from tests.networks.compiler import needs_kernel

pytestmark = needs_kernel

SOURCE = b"int answer(void) { return 42; }"
PLANTED = b"int answer(void) { return 13; }"
COMPILER = shlex.split(os.environ.get("CC", "")) or ["cc"]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of an empty cache; temporary files go to tmp_path as well."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tmp").mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "cache" / "lenet_lightning"


def second_place(cache: Path) -> Path:
    return cache.parents[1] / "tmp" / f"lenet_lightning-{os.geteuid()}"


def answer() -> int:
    return fused_build.load(SOURCE).answer()


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def plant(cache: Path) -> Path:
    """Write another library, under the name that this machine would look for."""
    content = fused_build._compile(COMPILER, PLANTED)
    key = fused_build._key(SOURCE, COMPILER)
    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(0o700)
    path = cache / fused_build._name(key, content)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_compiled_once_and_kept_private(cache, monkeypatch):
    before = os.umask(0)
    try:
        assert answer() == 42
    finally:
        os.umask(before)
    (library,) = libraries(cache)
    assert library.name.startswith("fused-") and library.suffix == ".so"
    assert cache.stat().st_mode & 0o777 == cache.parent.stat().st_mode & 0o777 == 0o700
    assert library.stat().st_mode & 0o077 == 0
    assert libraries(cache.parents[1] / "tmp") == []
    monkeypatch.setattr(fused_build, "_compile", None)  # A second compilation would fail.
    assert answer() == 42


def test_another_source_compiler_or_processor_has_another_name(monkeypatch):
    names = {fused_build._key(SOURCE, COMPILER), fused_build._key(PLANTED, COMPILER)}
    names.add(fused_build._key(SOURCE, [*COMPILER, "-g"]))
    monkeypatch.setattr(fused_build, "_cpu", lambda: "another")
    names.add(fused_build._key(SOURCE, COMPILER))
    monkeypatch.setattr(fused_build, "OPTIONS", ["-O2"])
    names.add(fused_build._key(SOURCE, COMPILER))
    monkeypatch.setattr(fused_build, "_run", lambda command: "another version")
    names.add(fused_build._key(SOURCE, COMPILER))
    assert len(names) == 6


def test_flushed_before_it_gets_its_name(cache, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        record = lambda *given, name=name, call=original: (calls.append(name), call(*given))  # noqa: E731
        monkeypatch.setattr(os, name, record)
    assert answer() == 42
    assert calls == ["fsync", "replace"]


def test_a_planted_library_would_be_found(cache):
    """What the cases below rest on."""
    plant(cache)
    assert answer() == 13


def through_link(library: Path) -> None:
    elsewhere = library.parent.rename(library.parent.with_name("elsewhere"))
    library.parent.symlink_to(elsewhere)


def linked(library: Path) -> None:
    elsewhere = library.rename(library.parents[2] / "elsewhere.so")
    library.symlink_to(elsewhere)


def piped(library: Path) -> None:
    library.unlink()
    os.mkfifo(library)


DANGERS: dict[str, Callable[[Path], None]] = {
    "folder for all": lambda library: library.parent.chmod(0o777),
    "folder for all, sticky": lambda library: library.parent.chmod(0o1777),
    "folder for a group": lambda library: library.parent.chmod(0o770),
    "parent for all": lambda library: library.parents[1].chmod(0o777),
    "parent for a group": lambda library: library.parents[1].chmod(0o770),
    "folder is a link": through_link,
    "library for all": lambda library: library.chmod(0o606),
    "library for a group": lambda library: library.chmod(0o660),
    "library is a link": linked,
    "library is a pipe": piped,
    "truncated": lambda library: os.truncate(library, library.stat().st_size // 2),
    "empty": lambda library: os.truncate(library, 0),
    "longer": lambda library: library.write_bytes(library.read_bytes() + b"\0"),
    "another digest": lambda library: library.rename(
        library.with_name(library.name[:-7] + "000.so")
    ),
    "too large": lambda library: os.truncate(library, 1 << 40),
}


@pytest.mark.parametrize("danger", DANGERS)
def test_a_library_that_may_be_foreign_or_damaged_is_not_loaded(cache, danger):
    DANGERS[danger](plant(cache))
    assert answer() == 42


def test_a_library_of_another_user_is_not_loaded(cache, monkeypatch):
    plant(cache)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert answer() == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("given", ["folder", "library"])
def test_a_library_that_belongs_to_another_user_is_not_loaded(cache, given):
    library = plant(cache)
    os.chown(library if given == "library" else library.parent, 65534, 65534)
    assert answer() == 42


def test_a_parent_for_all_is_safe_if_sticky(cache, monkeypatch):
    assert answer() == 42
    cache.parent.chmod(0o1777)
    monkeypatch.setattr(fused_build, "_compile", None)
    assert answer() == 42


def test_a_damaged_library_is_replaced(cache):
    assert answer() == 42
    (library,) = libraries(cache)
    content = library.read_bytes()
    library.unlink()  # This process uses what was in it.
    library.write_bytes(content[:100])
    assert answer() == 42
    assert libraries(cache) == [library] and library.read_bytes() == content


def no_home(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # neither HOME nor passwd


def no_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.touch()


def relative(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", "home")


def for_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)


def full(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def refuse(source: str, to: Path) -> None:
        if to.parent == cache:
            raise OSError(28, "No space left on device")
        replace(source, to)

    monkeypatch.setattr(os, "replace", refuse)


@pytest.mark.parametrize("trouble", [no_home, no_folder, relative, for_all, full])
def test_a_cache_that_cannot_be_used_has_a_second(cache, monkeypatch, trouble):
    trouble(cache, monkeypatch)
    assert answer() == 42
    assert libraries(cache) == [] and len(libraries(second_place(cache))) == 1
    assert not list(Path().iterdir())  # no folder of that name here
    assert answer() == 42


def test_without_any_cache_it_is_compiled_each_time(cache, monkeypatch):
    cache.parent.touch()
    second_place(cache).touch()
    assert answer() == answer() == 42
    assert libraries(cache.parents[1] / "tmp") == [second_place(cache)]


def test_the_home_folder_has_the_cache_by_default(cache, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(cache.parents[1] / "home"))
    (cache.parents[1] / "home").mkdir(mode=0o700)
    assert answer() == 42
    assert len(libraries(cache.parents[1] / "home" / ".cache" / "lenet_lightning")) == 1


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
def test_where_no_program_may_be_run_the_library_is_loaded_from_memory(cache, monkeypatch):
    load = ctypes.CDLL

    def noexec(path: str) -> object:
        if path.startswith("/proc/self/fd/"):
            return load(path)
        raise OSError("failed to map segment from shared object")

    monkeypatch.setattr(ctypes, "CDLL", noexec)
    assert answer() == answer() == 42


def test_temporary_files_of_the_compiler_go_with_it(cache, tmp_path):
    shutil.rmtree(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    assert answer() == 42
    assert libraries(tmp_path / "tmp") == []


def test_several_processes_compile_at_once(cache, tmp_path):
    code = (
        "from lenet_lightning.networks import fused_build as build; "
        f"exit(build.load({SOURCE!r}).answer() != 42)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(libraries(cache)) == 1
