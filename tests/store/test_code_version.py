"""What makes finished runs invalid, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import lenet_lightning
from lenet_lightning.store.code_version import code_version

PACKAGE = Path(lenet_lightning.__file__).parent


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "package", ignore=ignored))


def changed(package: Path, name: str, old: str, new: str) -> bool:
    """Whether a change of a file changes the version of the code."""
    file = package / name
    text = file.read_text()
    assert old in text
    before = code_version.__wrapped__(package)
    file.write_text(text.replace(old, new, 1))
    return code_version.__wrapped__(package) != before


def test_is_a_digest_of_the_package() -> None:
    assert len(code_version()) == 16 and int(code_version(), 16) >= 0


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("data/splits.py", "import", "x = 1\nimport"),
        ("data/datasets.toml", "transposed = true", "transposed = false"),
        ("networks/lenet5.py", "16 * 5 * 5, 120)", "16 * 5 * 5, 121)"),
        ("networks/fused.c", "0.5f", "0.25f"),
        ("training/losses.py", "return", "return 2 *"),
        ("training/optimizers.py", "= 1e-7", "= 1e-8"),
        ("callbacks/run_callbacks.py", '"max"', '"min"'),
        ("process.py", "set_flush_denormal(True)", "set_flush_denormal(False)"),
    ],
)
def test_depends_on_what_decides_the_numbers(package: Path, name: str, old: str, new: str) -> None:
    assert changed(package, name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("data/splits.py", '"""', '"""Once upon a time. '),
        ("data/datasets.toml", "# Of the files", "# Of these files"),
        ("training/classifier.py", "\n\n\n", "\n# A comment.\n\n\n"),
        ("training/classifier.py", "UserError(", "UserError('In other words: ' + "),
        ("networks/fused.c", "/* the same, unfolded */", "/* the same, // unfolded\n again */"),
        ("networks/fused.c", "\n    float", "\n  float"),
        ("callbacks/recorder.py", "epoch", "EPOCH"),
        ("cli/messages.py", "return", "return 2 *"),
        ("store/run_folder.py", "import", "x = 1\nimport"),
        ("study/plan.py", "import", "x = 1\nimport"),
        ("errors.py", "return", "return 2 *"),
    ],
)
def test_depends_on_nothing_else(package: Path, name: str, old: str, new: str) -> None:
    assert not changed(package, name, old, new)


def test_a_file_more_or_less_counts(package: Path) -> None:
    before = code_version.__wrapped__(package)
    (package / "training" / "more.py").write_text("")
    assert code_version.__wrapped__(package) != before
