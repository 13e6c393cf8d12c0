"""What run.json says of the code that made a run."""

import shutil
import subprocess
from pathlib import Path

import pytest

from lenet_lightning.callbacks import recorder


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
