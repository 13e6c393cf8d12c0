"""The docs site builds without a warning and documents every public name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lenet_lightning
from tests.conftest import REPOSITORY


@pytest.mark.docs
def test_the_site_builds_without_a_warning() -> None:
    pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "-qW", "--keep-going", "-d", "trees"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    done = subprocess.run(
        [*command, str(REPOSITORY / "docs"), "site"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "LeNet-5" in Path("site/index.html").read_text()
    assert Path("site/draw.html").exists()


def test_every_public_name_is_in_the_site() -> None:
    text = (REPOSITORY / "docs/api.md").read_text()
    for name in set(lenet_lightning.__all__) - {"__version__"}:
        assert f"   ~lenet_lightning.{name}\n" in text, name


def test_every_page_is_in_the_site() -> None:
    """Sphinx says so too; this is the same in a second."""
    index = (REPOSITORY / "docs/index.md").read_text()
    for page in (REPOSITORY / "docs").rglob("*.md"):
        name = str(page.relative_to(REPOSITORY / "docs").with_suffix(""))
        written = name.startswith("networks/")  # by the site's configuration
        assert written or name == "index" or f"\n{name}\n" in index or f"<{name}>" in index, name
