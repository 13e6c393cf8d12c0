"""``--resume``: which run is continued, and which is not."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from lenet_lightning.cli import lightning_cli
from lenet_lightning.store import run_folder
from tests.cli.test_lightning_cli import metrics
from tests.conftest import PLAIN, Run
from tests.test_interrupt import interrupt_at

FOLDER = Path("lightning_logs/cut")


@pytest.fixture
def cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run interrupted in its second epoch."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, lightning_cli.Classifier, "training_step", 3, signal.SIGINT)
        assert run(f"{PLAIN} --name cut").code == 130
    return FOLDER / "version_0"


def test_auto_with_nothing_there(run: Run) -> None:
    assert run(f"{PLAIN} --name cut --resume auto").code == 0
    assert run_folder.read(FOLDER / "version_0").manifest.status == "finished"


def test_never_starts_anew(run: Run, cut: Path) -> None:
    before = {path: path.read_bytes() for path in cut.rglob("*") if path.is_file()}
    assert run(f"{PLAIN} --name cut").code == 0
    assert (FOLDER / "version_1").exists()
    assert {path: path.read_bytes() for path in cut.rglob("*") if path.is_file()} == before


def test_finished_run_is_not_continued(run: Run, cut: Path) -> None:
    assert run(f"{PLAIN} --name cut --resume must").code == 0
    again = run(f"{PLAIN} --name cut --resume must")
    assert again.code == 2 and f"there is no unfinished run in {FOLDER}" in again.err
    assert run(f"{PLAIN} --name cut --resume auto").code == 0
    assert sorted(p.name for p in FOLDER.iterdir()) == ["version_0", "version_1"]


def test_other_configuration(run: Run, cut: Path) -> None:
    refused = run(f"{PLAIN} --name cut --resume must --model.network.dropout 0.1")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert f"{cut} has another configuration (model.network.dropout was 0.0, is 0.1)" in refused.err
    assert run(f"{PLAIN} --name cut --resume auto --model.network.dropout 0.1").code == 0
    assert run_folder.read(FOLDER / "version_1").manifest.epochs == 2
    assert run_folder.read(cut).manifest.status == "interrupted"


def test_other_code(run: Run, cut: Path) -> None:
    manifest = run_folder.read(cut).manifest
    run_folder.write_manifest(cut, replace(manifest, code="0" * 16))
    refused = run(f"{PLAIN} --name cut --resume must")
    assert refused.code == 2
    assert "made by another version of the code" in refused.err
    assert f"--ckpt_path {cut}/checkpoints/last.ckpt" in refused.err


def test_where_things_lie_does_not_matter(run: Run, cut: Path) -> None:
    """The whole folder of runs moved, and the data are elsewhere."""
    shutil.move("lightning_logs", "moved")
    command = f"{PLAIN} --name cut --logs moved --data.root elsewhere --resume must"
    continued = run(command)
    assert (continued.code, continued.err) == (0, "")
    folder = Path("moved/cut/version_0")
    assert run(f"{PLAIN} --name whole").code == 0
    whole = Path("lightning_logs/whole/version_0")
    assert metrics(folder) == metrics(whole)
    assert run_folder.read(folder).manifest.test == run_folder.read(whole).manifest.test


def test_run_in_use_is_left_alone(run: Run, cut: Path) -> None:
    with run_folder.hold(cut):
        refused = run(f"{PLAIN} --name cut --resume must")
        assert refused.code == 2 and "is in use by another process" in refused.err
        assert run(f"{PLAIN} --name cut --resume auto").code == 0
    assert run_folder.read(cut).manifest.status == "interrupted"
    assert (FOLDER / "version_1").exists()


def test_damaged_neighbour_is_no_obstacle(run: Run, cut: Path) -> None:
    other = FOLDER / "version_1"
    other.mkdir()
    (other / "run.json").write_text("{")
    assert run(f"{PLAIN} --name cut --resume must").code == 0
    assert run_folder.read(cut).manifest.status == "finished"


def test_killed_without_a_word(run: Run, cut: Path) -> None:
    """A run that was killed outright still says running; nobody holds it, so it is continued."""
    manifest = run_folder.read(cut).manifest
    run_folder.write_manifest(cut, replace(manifest, status="running", error=None))
    assert run(f"{PLAIN} --name cut --resume must").code == 0
    finished = json.loads((cut / "run.json").read_text())
    assert (finished["status"], finished["epochs"]) == ("finished", 2)


def test_damaged_last_checkpoint(run: Run, cut: Path) -> None:
    last = cut / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"is damaged.*The one before it is tried"):
        assert run(f"{PLAIN} --name cut --resume must").code == 0
    assert run(f"{PLAIN} --name whole").code == 0
    assert metrics(cut) == metrics("lightning_logs/whole/version_0")


def test_continuation_of_another_run_can_be_continued(
    run: Run, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    """Interrupted in the first epoch after another run's checkpoint: nothing falls back to it."""
    longer = PLAIN.replace("max_epochs 2", "max_epochs 4")
    command = f"{longer} --ckpt_path {trained}/checkpoints/last.ckpt"
    assert run(f"{command} --name whole").code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, lightning_cli.Classifier, "training_step", 2, signal.SIGTERM)
        assert run(f"{command} --name cut").code == 143
    assert run(f"{longer} --name cut --resume must").code == 0
    whole, cut = Path("lightning_logs/whole/version_0"), FOLDER / "version_0"
    assert metrics(cut) == metrics(whole) and [row["epoch"] for row in metrics(cut)] == ["2", "3"]
    assert run_folder.read(cut).manifest.test == run_folder.read(whole).manifest.test
