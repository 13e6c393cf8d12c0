"""What run.json says of the code that made a run."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lenet_lightning.callbacks import recorder
from lenet_lightning.callbacks.recorder import EPOCH_COLUMNS

ROW: dict[str, Any] = {
    "epoch": 2,
    **{name: 0.12345 for name in EPOCH_COLUMNS},
    "seconds": 12.34,
}


def test_epochs_are_lines_of_a_table_that_count_from_1() -> None:
    columns = list(EPOCH_COLUMNS)[:5]
    lines = [
        *recorder.epoch_header(columns).splitlines(),
        recorder.epoch_line(ROW, columns, 30, best=True),
        recorder.epoch_line(ROW | {"train/loss": 12345678.9}, columns, -1),
        recorder.epoch_line({"epoch": 99, "train/acc": 1.0, "seconds": 3600.0}, columns),
    ]
    assert lines == [
        "           train              val",
        "  epoch     loss     acc     loss     acc    neg.    time",
        "   3/30   0.1235  12.35%   0.1235  12.35%  12.35%  12.3 s best",
        "      3 1.23e+07  12.35%   0.1235  12.35%  12.35%  12.3 s",
        "    100          100.00%                           3600 s",
    ]


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("loss", [1e-9, 99.99999, 123.456, 1e30, float("nan")])
def test_no_line_of_an_epoch_is_wider_than_80_and_no_columns_touch(
    share: float, loss: float
) -> None:
    row = {n: loss if "loss" in n else share for n in EPOCH_COLUMNS}
    row |= {"epoch": 999, "seconds": 99999.0}
    line = recorder.epoch_line(row, list(EPOCH_COLUMNS), 1000, best=True)
    assert len(line) <= 80 and len(line.split()) == len(EPOCH_COLUMNS) + 4
    assert all(len(head) <= 80 for head in recorder.epoch_header(list(EPOCH_COLUMNS)).split("\n"))


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this system")
def test_a_repository_around_an_installed_package_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], check=True, capture_output=True)

    file = Path("installed.py").absolute()
    file.touch()
    Path("own.py").touch()
    git("init")
    git("add", "own.py")
    git("commit", "-m", "a")
    monkeypatch.setattr(recorder, "__file__", str(file))
    assert recorder.git_state() is None
    monkeypatch.setattr(recorder, "__file__", str(file.with_name("own.py")))
    state = recorder.git_state()
    assert state is not None and state.dirty and len(state.revision) == 40
