"""Run folders: made without collisions, read with care, found by configuration."""

from __future__ import annotations

import io
import json
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.store.checkpoints import CONFIG_KEY
from lenet_lightning.store.manifest import Manifest
from tests.conftest import Run

CONFIG = {
    "seed_everything": 0,
    "trainer": {"max_epochs": 2, "enable_progress_bar": None},
    "model": {
        "network": {"class_path": "lenet_lightning.LeNet5", "init_args": {"dropout": 0.0}},
        "optimizer": {"class_path": "Adam", "init_args": {"lr": 0.1}},
    },
    "data": {"class_path": "Digits", "init_args": {"root": "datasets", "batch_size": 64}},
    "logs": "lightning_logs",
    "name": "digits",
}


def write(folder: Path, config: dict = CONFIG, **manifest: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = {"status": "interrupted", "code": run_folder.code_version()} | manifest
    (folder / "run.json").write_text(json.dumps(manifest))
    (folder / "metrics.csv").write_text("epoch,val/acc\n0,0.5\n1,\n")
    return folder


def with_value(value: object, *keys: str) -> dict:
    """Return `CONFIG` with one other value."""
    config = json.loads(json.dumps(CONFIG))
    node = config
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    return config


class TestCreate:
    def test_counts_up(self) -> None:
        assert [str(run_folder.create("logs", "a/b")) for _ in range(3)] == [
            f"logs/a/b/version_{i}" for i in range(3)
        ]
        assert Path("logs/a/b/version_2/checkpoints").is_dir()

    def test_never_takes_an_old_number(self) -> None:
        Path("logs/a/version_7").mkdir(parents=True)
        Path("logs/a/version_x").mkdir()
        assert run_folder.create("logs", "a").name == "version_8"

    def test_many_at_once(self) -> None:
        made: list[Path] = []
        threads = [
            threading.Thread(target=lambda: made.append(run_folder.create("logs", "a")))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(made)) == 16

    def test_not_writable(self) -> None:
        Path("logs").touch()
        with pytest.raises(UserError, match=r"run folder logs/a cannot be written .*--logs"):
            run_folder.create("logs", "a")

    def test_link(self) -> None:
        Path("elsewhere").mkdir()
        Path("logs").mkdir()
        Path("logs/a").symlink_to("../elsewhere")
        with pytest.raises(UserError, match="logs/a is a link"):
            run_folder.create("logs", "a/b")
        assert not list(Path("elsewhere").iterdir())

    def test_discard(self) -> None:
        empty = run_folder.create("logs", "a/b")
        run_folder.discard(empty)
        assert not Path("logs/a/b").exists() and Path("logs").exists()
        first, second = run_folder.create("logs", "a"), run_folder.create("logs", "a")
        run_folder.write_manifest(first, Manifest())
        run_folder.discard(first)
        run_folder.discard(second)
        assert first.exists() and not second.exists()


class TestRead:
    def test_all(self) -> None:
        run = run_folder.read(write(Path("version_0")))
        assert run.config == CONFIG and run.manifest.status == "interrupted"
        np.testing.assert_array_equal(run.metrics["val/acc"], [0.5, np.nan])

    def test_no_run_folder(self) -> None:
        with pytest.raises(UserError, match=r"nowhere is not a run folder: config.yaml is missing"):
            run_folder.read("nowhere")

    @pytest.mark.parametrize(
        ("name", "text"),
        [("run.json", "{"), ("config.yaml", "a: [1"), ("metrics.csv", "epoch\nx\n")],
    )
    def test_damaged(self, name: str, text: str) -> None:
        folder = write(Path("version_0"))
        (folder / name).write_text(text)
        with pytest.raises(UserError, match=f"{name} is damaged"):
            run_folder.read(folder)

    @pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.csv"])
    def test_pipes_links_and_folders(self, name: str) -> None:
        folder = write(Path("version_0"))
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(UserError, match=f"{name} is not a regular file"):
            run_folder.read(folder)
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
        with pytest.raises(UserError, match=f"{name} is not a regular file"):
            run_folder.read(folder)

    @pytest.mark.fuzz
    @given(st.sampled_from(["run.json", "config.yaml", "metrics.csv"]), st.data())
    def test_any_bytes(self, name: str, data: st.DataObject) -> None:
        """A changed file is read, or refused in one sentence."""
        with tempfile.TemporaryDirectory() as place:
            folder = write(Path(place, "version_0"))
            whole = (folder / name).read_bytes()
            start = data.draw(st.integers(0, len(whole)))
            noise = data.draw(
                st.binary(max_size=20) | st.text("0123456789[]{},:&*-\n\" '").map(str.encode)
            )
            (folder / name).write_bytes(whole[:start] + noise + whole[start + len(noise) :])
            try:
                run_folder.read(folder)
            except UserError as error:
                assert name in str(error) and "\n" not in str(error)

    def test_folder_of(self) -> None:
        folder = write(Path("version_0"))
        assert run_folder.folder_of(folder / "checkpoints" / "best.ckpt") == folder
        assert run_folder.folder_of("best.ckpt") is None


class TestPredictions:
    @staticmethod
    def save(**arrays: object) -> Path:
        known = {name: np.zeros(3, np.int16) for name in ("labels", "original", "negative")}
        np.savez_compressed("a.npz", **(known | arrays))  # type: ignore[arg-type]
        return Path("a.npz")

    def test_whole(self) -> None:
        found = run_folder.read_predictions(self.save(labels=np.arange(3)), 3)
        assert found["labels"].tolist() == [0, 1, 2] and found["original"].dtype == np.int64

    @pytest.mark.parametrize(
        "labels",
        [
            np.arange(4),
            np.array([0, 1, 3]),
            np.array([-1, 0, 0]),
            np.zeros((3, 1), int),
            np.zeros(3),
            np.array([None] * 3),
        ],
    )
    def test_damaged(self, labels: np.ndarray) -> None:
        with pytest.raises(UserError, match=r"a\.npz is damaged"):
            run_folder.read_predictions(self.save(labels=labels), 3)

    @pytest.mark.fuzz
    @given(st.binary(max_size=50), st.integers(0, 100))
    def test_any_bytes(self, noise: bytes, place: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            content, path = io.BytesIO(), Path(folder, "a.npz")
            np.savez(content, **dict.fromkeys(("labels", "original", "negative"), np.arange(3)))
            whole = content.getvalue()
            start = len(whole) * place // 100
            path.write_bytes(whole[:start] + noise + whole[start + len(noise) :])
            try:
                run_folder.read_predictions(path, 3)
            except UserError as error:
                assert "a.npz is damaged" in str(error)


class TestHold:
    def test_one_at_a_time(self) -> None:
        Path("a").mkdir()
        first = run_folder.hold(Path("a"))
        assert first is not None and run_folder.hold(Path("a")) is None
        first.close()
        second = run_folder.hold(Path("a"))
        assert second is not None
        second.close()

    def test_links_and_leftovers(self) -> None:
        """Nothing is written through a link; what a killed process left is removed."""
        folder = write(Path("a"))
        Path("victim").write_text("keep")
        (folder / ".run.json.123").touch()
        (folder / ".lock").symlink_to(Path("victim").absolute())
        with pytest.raises(UserError, match=r"a/\.lock is a link"):
            run_folder.hold(folder)
        assert Path("victim").read_text() == "keep"
        (folder / ".lock").unlink()
        held = run_folder.hold(folder)
        assert held is not None and not (folder / ".run.json.123").exists()
        held.close()


class TestFind:
    def test_newest_first(self) -> None:
        for i in (2, 10, 9):
            write(Path(f"logs/a/version_{i}"))
        found = run_folder.find("logs", "a", CONFIG)
        assert [run.folder.name for run in found] == ["version_10", "version_9", "version_2"]

    def test_none(self) -> None:
        assert run_folder.find("logs", "a", CONFIG) == []

    def test_damaged_and_foreign_folders_are_passed_over(self) -> None:
        write(Path("logs/a/version_0"))
        (write(Path("logs/a/version_1")) / "run.json").write_text("{")
        write(Path("logs/a/version_2_old"))
        Path("logs/a/version_3").mkdir()
        with pytest.warns(UserWarning, match="version_1/run.json is damaged.*It is passed over"):
            found = run_folder.find("logs", "a", CONFIG)
        assert [run.folder.name for run in found] == ["version_0"]

    def test_other_code(self) -> None:
        write(Path("logs/a/version_0"), code="0" * 16)
        assert run_folder.find("logs", "a", CONFIG) == []

    @pytest.mark.parametrize(
        ("value", "keys"),
        [
            (1, ("seed_everything",)),
            (3, ("trainer", "max_epochs")),
            (0.1, ("model", "network", "init_args", "dropout")),
            (0.2, ("model", "optimizer", "init_args", "lr")),
            ("MNIST", ("data", "class_path")),
        ],
    )
    def test_settings_that_matter(self, value: object, keys: tuple[str, ...]) -> None:
        write(Path("logs/a/version_0"))
        config = with_value(value, *keys)
        assert run_folder.find("logs", "a", config) == []
        reason = run_folder.why_not_found("logs", "a", config)
        option = ".".join(key for key in keys if key != "init_args")
        assert f"({option} was" in reason and reason.endswith(f", is {value})")

    @pytest.mark.parametrize(
        ("value", "keys"),
        [
            ("elsewhere", ("logs",)),
            ("b", ("name",)),
            ("must", ("resume",)),
            ("a.ckpt", ("ckpt_path",)),
            (False, ("weights_only",)),
            (["mine"], ("allow_imports",)),
            (False, ("trainer", "enable_progress_bar")),
            ("elsewhere", ("trainer", "default_root_dir")),
            ("/data", ("data", "init_args", "root")),
            (False, ("data", "init_args", "download")),
        ],
    )
    def test_settings_that_do_not(self, value: object, keys: tuple[str, ...]) -> None:
        write(Path("logs/a/version_0"))
        assert len(run_folder.find("logs", "a", with_value(value, *keys))) == 1


def test_keys_that_cannot_change_a_result() -> None:
    assert sorted(map(".".join, run_folder.NEUTRAL_KEYS)) == [
        "allow_imports",
        "ckpt_path",
        "data.init_args.download",
        "data.init_args.root",
        "logs",
        "name",
        "resume",
        "trainer.default_root_dir",
        "trainer.enable_progress_bar",
        "weights_only",
    ]


class TestConfigurationsOfEarlierVersions:
    """They hold ``replicas: 1``."""

    def test_every_command_reads_them(self, run: Run, trained: Path) -> None:
        config = yaml.safe_load((trained / "config.yaml").read_text())
        config["logs"] = "lightning_logs"
        config["model"]["replicas"] = config["data"]["init_args"]["replicas"] = 1
        for name in ("best", "last"):
            path = trained / f"checkpoints/{name}.ckpt"
            checkpoint = torch.load(path, weights_only=True)
            checkpoint[CONFIG_KEY] = yaml.safe_dump(config)
            path.with_name(f"{path.name}.sha256").unlink()
            torch.save(checkpoint, path)
        (trained / "config.yaml").write_text(yaml.safe_dump(config))
        manifest = json.loads((trained / "run.json").read_text())
        (trained / "run.json").write_text(json.dumps(manifest | {"status": "interrupted"}))

        resumed = run(f"fit --config {trained}/config.yaml --resume must")
        assert resumed.code == 0, resumed.err
        assert run_folder.read(trained).manifest.status == "finished"
        again = run(f"fit --config={trained}/config.yaml")
        assert again.code == 0, again.err
        saved = yaml.safe_load((trained.with_name("version_1") / "config.yaml").read_text())
        assert "replicas" not in saved["model"] | saved["data"]["init_args"]
        for command in ("test", "validate", "fit --data Digits --trainer.max_epochs 3"):
            done = run(f"{command} --ckpt_path {trained}/checkpoints/last.ckpt")
            assert (done.code, "replicas" in done.out) == (0, False), done.err

    def test_more_than_one_replica_stays(self) -> None:
        config = {"model": {"replicas": 2}, "data": "Digits"}
        run_folder.drop_replicas(config)
        assert config["model"] == {"replicas": 2}


def test_changes_name_what_differs() -> None:
    other = with_value(0.2, "model", "optimizer", "init_args", "lr")
    assert run_folder.changes(CONFIG, other) == {"model.optimizer.init_args.lr": (0.1, 0.2)}
    assert not run_folder.changes(CONFIG, CONFIG)
