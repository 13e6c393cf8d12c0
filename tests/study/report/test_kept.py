"""The archive of a study's runs: read again as it was, or refused in one sentence."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_lightning.errors import UserError
from lenet_lightning.study import results
from lenet_lightning.study.plan import load
from lenet_lightning.study.report import kept
from tests.study.fakes import write_study


def archive(write: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as file:
        write(file)
    return buffer.getvalue()


def entry(name: str, size: int = 0, **more: object) -> Callable[[tarfile.TarFile], None]:
    def write(file: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        for key, value in more.items():
            setattr(info, key, value)
        file.addfile(info, io.BytesIO(bytes(size)))

    return write


def many(file: tarfile.TarFile) -> None:
    for number in range(101):
        file.addfile(tarfile.TarInfo(f"{number}"))


def refused(content: bytes) -> str:
    Path("study").mkdir(exist_ok=True)
    Path("study", kept.RUNS).write_bytes(content)
    with (
        pytest.raises(UserError, match=r"runs\.tar\.xz is damaged") as caught,
        kept.opened(Path("study")),
    ):
        pass
    return str(caught.value)


def test_round_trip(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "fake", seeds=1)
    found = results.gather(load(folder / "study.yaml", check_base=False), folder)
    content = kept.pack(folder, found)
    assert content == kept.pack(folder, found)
    Path("copy").mkdir()
    Path("copy", kept.RUNS).write_bytes(content)
    with kept.opened(Path("copy")) as place:
        again = results.gather(load(place / "study.yaml", check_base=False), place)
        for old, new in zip(found, again, strict=True):
            assert (old.folder, old.status, old.manifest) == (new.folder, new.status, new.manifest)
            assert old.measure("best_accuracy") == new.measure("best_accuracy")
    assert not place.exists()


@pytest.mark.parametrize(
    "write",
    [
        entry("../outside"),
        entry("link", type=tarfile.SYMTYPE, linkname="../../outside"),
        entry("device", type=tarfile.CHRTYPE),
        entry("pipe", type=tarfile.FIFOTYPE),
        entry("large", 1_000_000),
        entry("header", pax_headers={"comment": "x" * 1_000_000}),
        many,
    ],
)
def test_hostile(monkeypatch: pytest.MonkeyPatch, write: Callable[[tarfile.TarFile], None]) -> None:
    """Nothing is written elsewhere, and neither memory nor the folder is filled."""
    monkeypatch.setattr(kept, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(kept, "MAX_FILES", 100)
    refused(archive(write))
    assert {path.name for path in Path().iterdir()} == {"study"}


def test_dictionary_that_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 24}]
    content = lzma.compress(archive(entry("a")), filters=filters)
    monkeypatch.setattr(kept, "MAX_BYTES", 1 << 23)
    assert "emory" in refused(content)


@pytest.mark.fuzz
@given(st.integers(0, 100), st.binary(max_size=20), st.booleans())
def test_damaged(place: int, noise: bytes, compressed: bool) -> None:
    """Changed bytes are refused, or what they say is unpacked within the folder."""
    whole = archive(entry("study.yaml", 600))
    if not compressed:
        whole = lzma.decompress(whole)
    start = min(len(whole), 700 if not compressed else len(whole)) * place // 100
    content = whole[:start] + noise + whole[start + len(noise) :]
    Path("study").mkdir(exist_ok=True)
    Path("study", kept.RUNS).write_bytes(content if compressed else lzma.compress(content))
    try:
        with kept.opened(Path("study")) as folder:
            assert folder != Path("study")
    except UserError as error:
        assert "runs.tar.xz is damaged" in str(error) and "\n" not in str(error)
    assert {path.name for path in Path().iterdir()} == {"study"}
