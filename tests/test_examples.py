"""The scripts and the notebook of ``examples/``, and the Python of docs and README, run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
SCRIPTS = {
    "predict_pictures.py": ([], r"^1: 1 .+\n4: 4 .+\n7: 7 .+\n$"),
    "train_in_python.py": (["2"], r"originals \d+\.\d%, negatives \d+\.\d%\n$"),
    "own_training_loop.py": (["50"], r"step 50: loss \d\.\d+\ntest accuracy \d+\.\d%\n$"),
}
PAGES = ("docs/python.md",)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    arguments, printed = SCRIPTS[name]
    command = [sys.executable, EXAMPLES / name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(printed, done.stdout)


def test_every_script_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)


def run_blocks(blocks: list[str]) -> None:
    """Run blocks of Python one after another, as a notebook does."""
    names = {"__name__": "__main__"}
    with warnings.catch_warnings():
        # Lightning's advice on worker processes; there are none.
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(compile(block, "block", "exec"), names)


@pytest.mark.parametrize("path", [*EXAMPLES.glob("*.ipynb")], ids=lambda path: path.name)
def test_notebook(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells), "clear its outputs"
    run_blocks(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
    assert blocks
    run_blocks(blocks)
