"""Fixtures of the tests of the datasets."""

import pytest

from tests.data import fakes


@pytest.fixture
def nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No mirror, no package client: what a test needs, it installs."""
    fakes.install_torchvision(monkeypatch, ["http://127.0.0.1:9/"], "http://127.0.0.1:9/")
    fakes.install_client(monkeypatch, tmp_path / "nothing", {})
    monkeypatch.setenv("no_proxy", "127.0.0.1")
