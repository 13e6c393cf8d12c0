"""Whatever a study's files hold, the answer is a study or one sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lenet_lightning.errors import UserError
from lenet_lightning.study import plan, results
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.fuzz

SMOKE = (REPOSITORY / "configs/studies/smoke.yaml").read_text()
CONTENT = yaml.safe_load(SMOKE)
KEYS = st.text(max_size=5) | st.sampled_from(["1.1", "name", "digits", "model.lr", "class_path"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=3),
    max_leaves=5,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested mappings and lists, as keys."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    found = [path] if path else []
    for key, value in inner:
        nested = isinstance(value, dict | list)
        found += places(value, (*path, key)) if nested else [(*path, key)]
    return found


def check(text: str) -> None:
    path = Path("study.yaml")
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        study = plan.load(path, check_base=False)
    except UserError as refusal:
        assert "\n" not in str(refusal).strip()
        return
    assert study.settings and study.seeds and study.trials()


@given(st.sampled_from(places(CONTENT)), VALUES)
def test_any_value_anywhere(place: tuple[Any, ...], value: Any) -> None:
    content = copy.deepcopy(CONTENT)
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    check(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))


@given(
    st.integers(0, len(SMOKE)),
    st.integers(0, 40),
    st.text(max_size=3)
    | st.sampled_from(["&a ", "*a", "{{ x }}", "? ", "[", "}", ": ", "- ", "\n"]),
)
def test_the_text_edited(start: int, removed: int, inserted: str) -> None:
    check(SMOKE[:start] + inserted + SMOKE[start + removed :])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("../a"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5) | st.sampled_from(["folder", "error", "a/seed_0"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["command", "runs", "more"]), JSON) | JSON,
    st.none() | st.tuples(st.integers(0, 200), st.text(max_size=3)),
)
def test_any_index(content: Any, edit: tuple[int, str] | None) -> None:
    text = json.dumps(content)
    if edit:
        text = text[: edit[0]] + edit[1] + text[edit[0] :]
    Path(results.INDEX).write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        index = results.read_index(Path())
    except UserError as refusal:
        assert results.INDEX in str(refusal) and "\n" not in str(refusal)
        return
    for entry in index.get("runs", {}).values():
        assert ".." not in Path(entry.get("folder", "")).parts
