"""A study's folder around one finished run on Digits, so that no test trains another."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from lenet_lightning.store import checkpoints

STUDY = """
name: tiny
title: A tiny study
base: base.yaml
seeds: [0, 1]
settings:
  plain: {title: Plain}
  shaken: {title: Shaken}
"""


def write_study(run: Path, folder: Path) -> Path:
    """Two seeds of ``plain``, and one of ``shaken``, the same network with some noise added."""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    for key, noise in (("plain/seed_0", 0.0), ("plain/seed_1", 0.1), ("shaken/seed_0", 0.2)):
        copy = folder / key / "version_0"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("events*", "last*", "*.sha256"))
        shake(copy / "checkpoints" / checkpoints.BEST, noise)
    return folder


def shake(path: Path, noise: float) -> None:
    checkpoint = checkpoints.load(path)
    generator = torch.Generator().manual_seed(0)
    for value in checkpoint["state_dict"].values():
        if value.is_floating_point():
            value += noise * value.abs().mean() * torch.randn(value.shape, generator=generator)
    torch.save(checkpoint, path)
