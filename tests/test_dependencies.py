"""The releases that must never be installed are outside pyproject.toml's bounds."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
REQUIREMENTS = {r.name: r for r in map(Requirement, PROJECT["dependencies"])}


# Malicious releases, releases that run code from a checkpoint, one that LightningCLI fails with.
@pytest.mark.parametrize(
    ("package", "release"),
    [
        ("lightning", "2.6.2"),
        ("lightning", "2.6.3"),
        ("lightning", "2.6.5"),
        ("pytorch-lightning", "2.6.2"),
        ("pytorch-lightning", "2.6.3"),
        ("pytorch-lightning", "2.6.5"),
        ("torch", "2.9.1"),
        ("pillow", "11.2.1"),
        ("tqdm", "4.66.2"),
        ("jsonargparse", "4.51.0"),
        ("jsonargparse", "5.0"),
    ],
)
def test_bad_release_is_excluded(package: str, release: str) -> None:
    assert release not in REQUIREMENTS[package].specifier


@pytest.mark.parametrize("package", sorted(REQUIREMENTS))
def test_floor_has_its_reason_and_is_kept_here(package: str) -> None:
    requirement = REQUIREMENTS[package]
    assert any(specifier.operator == ">=" for specifier in requirement.specifier)
    assert requirement.specifier.contains(version(package), prereleases=True)
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert re.search(rf'# .+\n(?: *#.*\n)* *"{re.escape(package)}[\[>]', text), "no reason above it"
