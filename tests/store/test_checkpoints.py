"""Checkpoints: whole or not there, proven before they are read, nothing in them executed."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lenet_lightning.errors import UserError
from lenet_lightning.store import checkpoints, run_folder
from lenet_lightning.store.checkpoint_schema import SPEC_KEY
from tests.conftest import PLAIN, Run
from tests.store.test_run_folder import CONFIG, write

SPEC = {"name": "Digits", "channels": 1, "size": 8, "classes": ["0", "1"]}
CHECKPOINT = {
    SPEC_KEY: SPEC | {"mean": [0.5], "std": [0.5]},
    "epoch": 0,
    "global_step": 1,
    "pytorch-lightning_version": "2.6.6",
    "state_dict": {"weight": torch.zeros(2)},
}


def save(number: int, name: str = "last.ckpt") -> Path:
    path = Path(name)
    checkpoints.DurableCheckpointIO().save_checkpoint(
        CHECKPOINT | {"n": torch.tensor(number)}, path
    )
    return path


def number(path: str | Path) -> int:
    return int(checkpoints.load(path)["n"])


class Killed(BaseException):
    """The process ended here."""


def die_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the process end after so many changes of the file system; nothing runs after that."""
    count = 0

    def counted(original: Callable) -> Callable:
        def change(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count > steps:
                raise Killed
            return original(*args, **kwargs)

        return change

    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
        patch.setattr(owner, name, counted(getattr(owner, name)))


class TestSave:
    def test_round_trip(self) -> None:
        assert number(save(3, "best.ckpt")) == 3

    def test_what_lightning_reads(self) -> None:
        loaded = checkpoints.DurableCheckpointIO().load_checkpoint(save(3))
        assert loaded["n"] == 3 and list(checkpoints.spec_of(loaded).classes) == ["0", "1"]

    def test_last_but_one_is_kept(self) -> None:
        for i in range(4):
            save(i)
        assert (number("last.ckpt"), number("last.previous.ckpt")) == (3, 2)

    @pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
    @pytest.mark.parametrize("step", range(7))
    def test_killed_at_any_moment(
        self, monkeypatch: pytest.MonkeyPatch, name: str, step: int
    ) -> None:
        """Wherever the process ends, the newest or the one before it is there and valid."""
        folder = Path("checkpoints")
        folder.mkdir()
        for i in (1, 2):
            save(i, f"checkpoints/{name}")
        with monkeypatch.context() as patch:
            die_after(patch, step)
            with contextlib.suppress(Killed):
                save(3, f"checkpoints/{name}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged one is named and passed over
            newest = checkpoints.newest_valid(Path())
        assert newest is not None and number(newest) in (2, 3)

    def test_cannot_be_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save(1)

        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(UserError, match=r"last.ckpt cannot be written \(No space left"):
                save(2)
        assert number(path) == 1
        assert not [p for p in Path().iterdir() if p.name.startswith(".")]


class TestLoad:
    def test_without_digest(self) -> None:
        path = save(1)
        checkpoints.digest_path(path).unlink()
        assert number(path) == 1

    def test_changed_byte(self) -> None:
        path = save(1)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"last.ckpt is damaged: it does not match last.ckpt.s"):
            checkpoints.load(path)

    @pytest.mark.parametrize(
        ("content", "part"),
        [(b"", "damaged"), (b"PK\x03\x04", "damaged"), (pickle.dumps([1]), "damaged")],
    )
    def test_no_checkpoint(self, content: bytes, part: str) -> None:
        Path("a.ckpt").write_bytes(content)
        with pytest.raises(UserError, match=f"a.ckpt is {part} or not a checkpoint"):
            checkpoints.load("a.ckpt")

    def test_digest_that_is_no_text(self) -> None:
        path = save(1)
        checkpoints.digest_path(path).write_bytes(b"\xff\x00")
        with pytest.raises(UserError, match=r"last.ckpt is damaged: it does not match"):
            checkpoints.load(path)

    @pytest.mark.parametrize("word", checkpoints.KEYWORDS)
    def test_words_that_lightning_would_search_for(self, word: str) -> None:
        with pytest.raises(UserError, match=rf"ckpt_path is {word}: .*fit --resume auto\."):
            checkpoints.load(word)

    @pytest.mark.parametrize(
        ("path", "reason"),
        [("absent.ckpt", "No such file or directory"), ("a\0b", "embedded null byte")],
    )
    def test_cannot_be_read(self, path: str, reason: str) -> None:
        with pytest.raises(UserError, match=rf"{path} cannot be read \({reason}\): .*best\.ckpt"):
            checkpoints.load(path)

    def test_another_programs(self) -> None:
        torch.save({"state_dict": {}, "epoch": 3}, "a.ckpt")
        with pytest.raises(UserError, match="not a checkpoint of lenet_lightning"):
            checkpoints.load("a.ckpt")

    def test_changed_by_hand(self) -> None:
        torch.save(CHECKPOINT | {"epoch": -1}, "a.ckpt")
        with pytest.raises(UserError, match=r"a\.ckpt was changed by hand .*\(epoch is not"):
            checkpoints.load("a.ckpt")

    def test_archive_that_unpacks_to_more(self) -> None:
        with zipfile.ZipFile("a.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(10_000_000))
        with pytest.raises(UserError, match=r"a.ckpt is damaged or not a checkpoint"):
            checkpoints.load("a.ckpt")

    def test_pipe(self) -> None:
        os.mkfifo("a.ckpt")
        with pytest.raises(UserError, match=r"a.ckpt is not a regular file"):
            checkpoints.load("a.ckpt")

    @pytest.mark.parametrize("address", ["https://example.org/a.ckpt", "s3://bucket/a.ckpt"])
    def test_address(self, address: str) -> None:
        for path in (address, Path(address)):
            with pytest.raises(UserError, match="local files only"):
                checkpoints.load(path)


class TestConfigOf:
    @pytest.mark.parametrize(
        "text", ["a: " + "[" * 5000, "a: &a [*a]", "- 1", "model: {}", "[", "a: " + "9" * 5000]
    )
    def test_changed_by_hand(self, text: str) -> None:
        with pytest.raises(UserError, match=r"a.ckpt was changed .*lenet_lightning_config"):
            checkpoints.config_of("a.ckpt", {checkpoints.CONFIG_KEY: text})

    def test_nothing_tells(self) -> None:
        assert checkpoints.config_of("a.ckpt", {}) is None

    def test_of_its_run_folder(self) -> None:
        """A checkpoint that holds none has that of the run folder it lies in."""
        folder = write(Path("version_0"))
        config = checkpoints.config_of(folder / "checkpoints/a.ckpt", {})
        assert config is not None and config["data"] == CONFIG["data"]


class TestNewestValid:
    def test_order(self) -> None:
        Path("checkpoints").mkdir()
        assert checkpoints.newest_valid(Path()) is None
        save(1, "checkpoints/best.ckpt")
        assert checkpoints.newest_valid(Path()) == Path("checkpoints/best.ckpt")
        for i in (2, 3):
            save(i, "checkpoints/last.ckpt")
        for name in ("last.ckpt", "last.previous.ckpt", "best.ckpt"):
            assert checkpoints.newest_valid(Path()) == Path("checkpoints", name)
            Path("checkpoints", name).unlink()

    def test_damaged_last(self) -> None:
        Path("checkpoints").mkdir()
        for i in (1, 2):
            path = save(i, "checkpoints/last.ckpt")
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.warns(UserWarning, match="last.ckpt is damaged.*The one before it is tried"):
            newest = checkpoints.newest_valid(Path())
        assert newest == Path("checkpoints/last.previous.ckpt") and number(newest) == 1


def test_full_disk_in_mid_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with one sentence; what was saved before is valid, and can be continued."""
    write_digest, calls = checkpoints.write_digest, []

    def full(path: Path, digest: str) -> None:
        calls.append(path)
        if len(calls) > 3:  # a first checkpoint, then two an epoch
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_digest(path, digest)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_digest", full)
        outcome = run(f"{PLAIN} --name full")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "cannot be written (No space left on device)" in outcome.err
    folder = Path("lightning_logs/full/version_0")
    assert run_folder.read(folder).manifest.status == "failed"
    assert run(f"{PLAIN} --name full --resume must").code == 0
    assert run_folder.read(folder).manifest.status == "finished"
