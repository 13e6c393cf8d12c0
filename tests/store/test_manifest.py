"""run.json: written and read without a change, typed, and harmless whatever it holds."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_lightning.store import manifest
from lenet_lightning.store.manifest import Data, Git, Hardware, Manifest

WHOLE = Manifest(
    status="finished",
    error=None,
    data=Data("Digits", {"digits.csv": "sha256:0"}, ["0", "1"], 3, 2, 1),
    hardware=Hardware("cpu", 2, 1, "cpu"),
    git=Git("0", True),
    continued_from={"checkpoint": "a.ckpt", "changed": {"model.l2": [0, 0.1]}},
    test={"acc": 0.5, "loss": 1.0},
    best_epoch=3,
    evaluations=[{"checkpoint": "best.ckpt", "stage": "test", "data": "Digits", "acc": 0.5}],
    other={"future": [1]},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_round_trip() -> None:
    assert manifest.loads(manifest.dumps(WHOLE)) == WHOLE
    assert json.loads(manifest.dumps(WHOLE))["future"] == [1], "kept for the version that wrote it"


def test_of_an_earlier_version() -> None:
    """A field that it did not know has its default."""
    assert manifest.loads('{"status": "failed", "replica": null}').seconds == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "status is missing"),
        ("{}", "status is missing"),
        ('{"status": "done"}', "status is not"),
        ('{"status": ["finished"]}', "status is not"),
        ('{"status": "finished", "epochs": true}', "epochs is not of type int"),
        ('{"status": "finished", "epochs": 1.5}', "epochs is not of type int"),
        ('{"status": "finished", "data": {"classes": [1]}}', "data.classes is not of type str"),
        ('{"status": "finished", "data": []}', "data is not of type Data"),
        ('{"status": "finished", "test": {"acc": "x"}}', "test is not"),
        ('{"status": "finished", "seconds": ' + "9" * 5000 + "}", "digits"),
        ("{", "Expecting"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        manifest.loads(text)


def test_no_text_controls_a_terminal() -> None:
    text = json.dumps({"status": "failed", "error": "\x1b[2Ja\nb", "data": {"name": "\x07"}})
    read = manifest.loads(text)
    assert (read.error, read.data.name) == ("\ufffd[2Ja\nb", "\ufffd")


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from([each.name for each in fields(Manifest)]), JSON))
def test_any_values(values: dict[str, Any]) -> None:
    """Whatever its fields hold, a file is refused by a ValueError or read and written alike."""
    text = json.dumps({"status": "finished"} | values)
    try:
        read = manifest.loads(text)
    except ValueError:
        return
    again = manifest.dumps(read)
    assert manifest.dumps(manifest.loads(again)) == again
