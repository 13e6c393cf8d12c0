"""The table of rooms counts what it says."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

CODE = '''class A:
    """Not code,

    nor this."""

    # nor this
    def one(self, first, second):
        pass

    def two(self):
        return """code"""
'''


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    return importlib.import_module("architecture").table


def test_table(table: object) -> None:
    Path("package/room").mkdir(parents=True)
    Path("package/room/a.py").write_text(CODE)
    Path("package/room/b.c").write_text("int x;\n")
    Path("package/c.py").write_text("def f(): ...\n")
    rows = table(Path("package"), files=False).splitlines()[2:]  # type: ignore[operator]
    assert rows == ["| `c.py` | 1 | 1 | 1 | 0 | 1 | 0 |", "| `room` | 2 | 12 | 5 | 2 | 2 | 2 |",
                    "| `all` | 3 | 13 | 6 | 2 | 2 | 2 |"]  # fmt: skip


def test_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table in the page is replaced, and nothing else."""
    for name in ("architecture.py", "architecture.md"):
        shutil.copy(REPOSITORY / "docs" / name, name)
    Path("package").mkdir()
    Path("package/c.py").write_text("def f(): ...\n")
    module = importlib.util.spec_from_file_location("copied", "architecture.py")
    assert module and module.loader
    copied = importlib.util.module_from_spec(module)
    module.loader.exec_module(copied)
    monkeypatch.setattr("sys.argv", ["architecture.py", "--write", "package"])
    before = Path("architecture.md").read_text()
    copied.main()
    after = Path("architecture.md").read_text()
    assert after.partition("| | files |")[0] == before.partition("| | files |")[0]
    assert after.partition("\nWhere a figure")[2] == before.partition("\nWhere a figure")[2]
    assert "| `all` | 1 | 1 | 1 | 0 | 1 | 0 |\n\nWhere" in after
