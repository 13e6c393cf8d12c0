"""Files in folders of others: bounded reads, atomic writes, locks, no link followed."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lenet_lightning import files
from lenet_lightning.errors import UserError


class TestRead:
    def test_content(self) -> None:
        Path("a").write_bytes(b"abc")
        assert files.read(Path("a"), 3) == b"abc"

    def test_limit(self) -> None:
        Path("a").write_bytes(b"abc")
        with pytest.raises(UserError, match="a has more than 2 bytes"):
            files.read(Path("a"), 2)

    def test_pipes_devices_and_folders(self) -> None:
        os.mkfifo("pipe")
        Path("folder").mkdir()
        Path("link").symlink_to("/dev/zero")
        for name in ("pipe", "folder", "link", "/dev/zero"):
            with pytest.raises(UserError, match=f"{name} is not a regular file"):
                files.read(Path(name), 10)

    def test_absent(self) -> None:
        with pytest.raises(FileNotFoundError):
            files.read(Path("a"), 10)


class TestReplace:
    def test_whole_or_not_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = Path("run.json")
        path.write_text("old")

        def fail(*args: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match=r"run.json cannot be written \(No space left"):
            files.replace(path, "new")
        assert path.read_text() == "old" and list(Path().iterdir()) == [path]

    def test_names_of_files_that_are_no_utf_8(self) -> None:
        files.replace(Path("table.csv"), os.fsdecode(b"caf\xe9.png"))
        assert Path("table.csv").read_bytes() == b"caf\xe9.png"

    def test_replaces(self) -> None:
        path = Path("a")
        for text in ("old", "new"):
            files.replace(path, text)
            assert path.read_text() == text
        assert list(Path().iterdir()) == [path]

    def test_permissions_are_those_of_any_new_file(self) -> None:
        Path("plain").touch()
        files.replace(Path("a"), "")
        assert stat.S_IMODE(os.stat("a").st_mode) == stat.S_IMODE(os.stat("plain").st_mode)

    @pytest.mark.parametrize("victim", ["victim", "absent"])
    def test_a_link_is_replaced(self, victim: str) -> None:
        Path("victim").write_text("keep")
        Path("a").symlink_to(victim)
        files.replace(Path("a"), "new")
        assert not Path("a").is_symlink() and Path("a").read_text() == "new"
        assert Path("victim").read_text() == "keep" and not Path("absent").exists()

    @given(st.binary(max_size=1000), st.binary(max_size=1000))
    @settings(max_examples=30)  # each is flushed to disk
    def test_any_content(self, old: bytes, new: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a")
            for content in (old, new):
                files.replace(path, content)
                assert files.read(path, 1000) == content
            assert os.listdir(folder) == ["a"]


class TestMakeFolder:
    def test_made_or_there(self) -> None:
        for _ in range(2):
            assert files.make_folder(Path("a/b")).is_dir()

    def test_link(self) -> None:
        Path("elsewhere").mkdir()
        Path("figures").symlink_to("elsewhere")
        with pytest.raises(UserError, match="figures is a link"):
            files.make_folder(Path("figures"))


class TestCheckLinks:
    @pytest.mark.parametrize("target", ["../victim", "/etc", "../absent", "a/../../victim"])
    @pytest.mark.parametrize("name", ["link", "a/link"])
    def test_out_of_the_folder(self, name: str, target: str) -> None:
        Path("run/a").mkdir(parents=True)
        Path("victim").touch()
        Path("run", name).symlink_to(os.path.join("../" * name.count("/"), target))
        with pytest.raises(UserError, match=f"run/{name} is a link that leads out of run"):
            files.check_links(Path("run"))

    def test_within_it(self) -> None:
        Path("run/a").mkdir(parents=True)
        Path("run/a/last.ckpt").symlink_to("epoch.ckpt")
        Path("link").symlink_to("run")
        for folder in ("run", "link"):
            files.check_links(Path(folder))


class TestLeftovers:
    def test_only_those_are_removed(self) -> None:
        """Of the runs of today and of earlier versions, whose number was that of a process."""
        stale = ["checkpoints/.last.ckpt.999999", ".run.json.0a1b2c3d", ".metrics.csv.12"]
        kept = [".lock", "checkpoints/last.ckpt", ".hidden.txt.12", ".a.ckpt.old", "a.ckpt.12"]
        Path("run/checkpoints").mkdir(parents=True)
        for name in (*stale, *kept):
            Path("run", name).touch()
        files.remove_leftovers(Path("run"))
        assert [name for name in (*stale, *kept) if Path("run", name).exists()] == kept

    @given(st.sampled_from(["last.ckpt", "run.json", "last.ckpt.sha256", "curves.png"]))
    @example("test_predictions.npz")
    def test_every_name_that_is_written(self, name: str) -> None:
        with tempfile.TemporaryDirectory() as folder, files.written(Path(folder, name), b""):
            (temporary,) = os.listdir(folder)
            assert files.LEFTOVER.fullmatch(temporary)


class TestLock:
    def test_one_at_a_time(self) -> None:
        held = files.lock(Path("lock"))
        assert held is not None and held[1] and files.lock(Path("lock")) is None
        held[0].close()
        again = files.lock(Path("lock"))
        assert again is not None
        again[0].close()

    def test_content_is_kept(self) -> None:
        Path("victim").write_text("keep")
        os.link("victim", "lock")
        held = files.lock(Path("lock"))
        assert held is not None
        held[0].close()
        assert Path("victim").read_text() == "keep"

    def test_link(self) -> None:
        Path("lock").symlink_to("victim")
        with pytest.raises(OSError, match="lock"):
            files.lock(Path("lock"))
        assert not Path("victim").exists()
