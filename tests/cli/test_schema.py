"""The schema for editors and the completion for shells say what the parser takes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lenet_lightning.cli import completion, schema
from tests.conftest import REPOSITORY

CONFIGS = [
    path
    for path in sorted(REPOSITORY.glob("configs/**/*.yaml"))
    if path.parent.name not in ("studies", "sweeps")
]
TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
    "number": (int, float), "null": type(None),
}  # fmt: skip


@pytest.fixture(scope="module")
def known() -> schema.Schema:
    return schema.generate()


def problems(value: Any, known: schema.Schema, key: str = "") -> list[str]:
    """What a JSON schema of the kind that is used here says of a value."""
    if "anyOf" in known:
        found = [problems(value, part, key) for part in known["anyOf"]]
        return [] if [] in found else [each for part in found for each in part]
    if "enum" in known:
        return [] if value in known["enum"] else [f"{key} is {value}"]
    kinds = known.get("type", list(TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = any(isinstance(value, TYPES[kind]) for kind in kinds)
    if not fits or (isinstance(value, bool) and "boolean" not in kinds):
        return [f"{key} is {value}"]
    found = []
    if isinstance(value, list) and "items" in known:
        found = [each for item in value for each in problems(item, known["items"], key)]
    if isinstance(value, dict) and "properties" in known:
        for name, inner in value.items():
            if name in known["properties"]:
                found += problems(inner, known["properties"][name], f"{key}.{name}")
            elif not known["additionalProperties"]:
                found.append(f"{key}.{name} is not known")
    return found


def test_the_shipped_schema_is_fresh() -> None:
    """If not: python -m lenet_lightning.cli.schema > configs/schema.json"""
    assert (REPOSITORY / "configs/schema.json").read_text() == schema.text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_configurations(path: Path, known: schema.Schema) -> None:
    text = path.read_text()
    assert problems(yaml.safe_load(text), known) == []
    (place,) = [line for line in text.splitlines() if line.startswith("# yaml-language-server: ")]
    assert (path.parent / place.partition("$schema=")[2]).resolve() == (
        REPOSITORY / "configs/schema.json"
    )


def test_the_configuration_of_a_run(trained: Path, known: schema.Schema) -> None:
    assert problems(yaml.safe_load((trained / "config.yaml").read_text()), known) == []


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"modle": {}}, ".modle"),
        ({"trainer": {"max_epoch": 1}}, ".trainer.max_epoch"),
        ({"trainer": {"max_epochs": "many"}}, ".trainer.max_epochs"),
        ({"model": {"loss": "mae"}}, ".model.loss"),
        ({"data": {"class_path": "MNIST", "init_args": {"batchsize": 1}}}, "batchsize"),
        ({"data": {"class_path": "MNIST", "init_args": {"augmentation": {"x": 1}}}}, ".x"),
        ({"monitor": "acc"}, ".monitor"),
    ],
)
def test_mistakes(config: dict[str, Any], key: str, known: schema.Schema) -> None:
    assert key in " ".join(problems(config, known))


def test_descriptions(known: schema.Schema) -> None:
    model = known["properties"]["model"]["anyOf"][1]["properties"]
    assert "softmax" in model["loss"]["description"]
    assert json.loads(schema.text()) == known


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("pred", ["predict"]),
        ("fit --model.los", ["--model.loss"]),
        ("fit --model.loss c", ["cross_entropy"]),
        ("fit --data Fa", ["FashionMNIST"]),
        ("fit --data.augmentation.rot", ["--data.augmentation.rotation"]),
        ("fit --model.optimizer.adam_", ["--model.optimizer.adam_lr"]),
        ("fit --config own.y", ["own.yaml"]),
    ],
)
def test_completion_in_bash(words: str, completed: list[str]) -> None:
    Path("own.yaml").touch()
    script = f"""{completion.text()}
COMP_WORDS=(lenet-lightning {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_lenet_lightning; echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == completed and done.stderr == ""
