"""A dataset is one entry of the registry."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lenet_lightning
from lenet_lightning.data.datasets import DATAMODULES
from lenet_lightning.data.registry import DATASETS
from tests.conftest import REPOSITORY

NEW_ENTRY = """
import sys
from pathlib import Path
from lenet_lightning.data import registry
from tests.data import fakes

files = fakes.tiny_files("MNIST")
fakes.write_files(Path("datasets/Letters"), files)
text = "[Letters]\\ntitle = 'Letters'\\ndescription = 'Ten letters.'\\nchannels = 1\\nsize = 28\\n"
text += "classes = 'ABCDEFGHIJ'\\nlayout = 'idx'\\n"
facts = fakes.tiny_facts("MNIST", files)
for split, stored in (("train", facts.train), ("test", facts.test)):
    tables = [f"{{name = '{f.name}', size = {f.size}, digest = '{f.digest}'}}" for f in stored]
    text += f"{split} = [{', '.join(tables)}]\\n"
registry.DATASETS |= registry.read(text)

from lenet_lightning.__main__ import main

assert main(["data", "verify", "Letters"]) == 0
sys.exit(main("fit --data Letters --trainer.max_epochs 1 --trainer.logger false".split()))
"""


def test_a_new_entry_is_a_dataset_everywhere() -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", NEW_ENTRY],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Letters test set, 100 images" in done.stdout
    assert Path("lightning_logs/letters/version_0/run.json").exists()


@pytest.mark.parametrize("name", DATASETS)
def test_datamodule_of_each_entry(name: str) -> None:
    facts, module = DATASETS[name], DATAMODULES[name]
    assert getattr(lenet_lightning, name) is module
    assert (module.__name__, module.dataset) == (name, name)
    assert (module.__doc__ or "").startswith(f"{facts.title}: {facts.description}")
    data = module()
    assert (data.channels, data.classes) == (facts.channels, facts.classes)


@pytest.mark.parametrize("name", DATASETS)
def test_facts_agree_with_the_files(name: str) -> None:
    facts = DATASETS[name]
    pixels = facts.channels * facts.size**2
    images = [file for file in facts.files if "labels" not in file.name]
    if facts.layout == "idx":
        assert all((file.size - 16) % pixels == 0 for file in images)
    elif facts.layout == "cifar":
        assert all(file.size == 10_000 * (1 + pixels) for file in images)
    digests = {file.digest for file in facts.files}
    assert len(digests) == len(facts.files)
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", d) for d in digests)
