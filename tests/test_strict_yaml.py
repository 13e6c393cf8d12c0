"""The strict YAML reader: what it accepts, and one sentence for what it refuses."""

import math
import os
import threading
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from lenet_lightning import files, strict_yaml
from lenet_lightning.errors import UserError
from tests.conftest import REPOSITORY

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1.5E+2", -150.0),
        ("+.5", 0.5),
        (".inf", math.inf),
        ("017", 15),
        ("0x1f", 31),
        ("1_000", 1000),
        ("12:30:00:00", "12:30:00:00"),
        ("2026-01-01", "2026-01-01"),
        ("[on, off, yes, no]", [True, False, True, False]),
        ("[null, ~, e5, 1.2.3, '1']", [None, None, "e5", "1.2.3", "1"]),
        ("!!str 5", "5"),
        ("", None),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
    ],
)
def test_values(text, value):
    assert strict_yaml.loads(text) == value


def test_an_alias_is_a_value_of_its_own():
    loaded = strict_yaml.loads("a: &x [1]\nb: *x")
    loaded["a"].append(2)
    assert loaded["b"] == [1]


LAUGHS = "a0: &x0 [1, 2, 3, 4, 5, 6, 7, 8]\n" + "".join(
    f"a{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 8)}]\n" for i in range(1, 20)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", ["'a'", "twice", "lines 1 and 3"]),
        ("a: {{ value }}", ["key", "template", "line 1"]),
        ("\n[a]: 1", ["key", "line 2"]),
        ("<<: {a: 1}", ["<<"]),
        ("&x [*x]", ["*x", "within"]),
        (LAUGHS, ["values"]),
        ("[" * 3000 + "]" * 3000, ["deep", "line 1"]),
        ("{a: " * 3000, ["deep"]),
        ("- " * 3000, ["deep"]),
        ("9" * 5000, ["digits"]),
        ("0." + "9" * 5000, ["digits"]),
        ("!!int x", ["x is not a number"]),
        ("0b_", ["number"]),
        ("!!set {a, b}", ["!!set"]),
        ("!!binary aGk=", ["!!binary"]),
        ("!!timestamp 2026-01-01", ["!!timestamp"]),
        ("!!omap [a: 1]", ["!!omap"]),
        ("!!python/name:os.system", ["!!python/name"]),
        ("!custom 1", ["!custom"]),
        ('"a\\0b"', ["control", "x00"]),
        ('"\\e[31m"', ["control", "x1b"]),
        ("a\x00b", ["x00"]),
        ("a: 1\n---\nb: 2", ["single document"]),
        ("a: [1", ["line 1"]),
        ("!!bool maybe", ["maybe"]),
        ("x" * 1_000_001, ["longer"]),
    ],
)
def test_refused(text, words):
    with pytest.raises(yaml.YAMLError) as error:
        strict_yaml.loads(text)
    for word in words:
        assert word in strict_yaml.reason(error.value)
    assert "\n" not in strict_yaml.reason(error.value)


@pytest.mark.fuzz
@given(st.text(alphabet="ab:{}[]&*!|>-?<,'\"#%@` \n\t10.eE~"))
def test_nothing_but_yaml_errors(text):
    try:
        strict_yaml.loads(text)
    except yaml.YAMLError as error:
        assert strict_yaml.reason(error)


@pytest.mark.fuzz
@given(VALUES)
@example("\x85")
@example("a\u2028b\u2029")
def test_what_is_dumped_is_read_again(value):
    text = strict_yaml.dumps(value)
    try:
        loaded = strict_yaml.loads(text)
    except yaml.YAMLError as error:
        assert "control" in strict_yaml.reason(error)
    else:
        assert loaded == value


def test_files_and_pipes(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes("\ufeffa: é\n".encode())
    assert strict_yaml.read(file) == {"a": "é"}
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    content = "a: [" + "1, " * 9000 + "1]"  # more than one read of a pipe brings
    writer = threading.Thread(target=fifo.write_text, args=(content,))
    writer.start()
    assert strict_yaml.read(fifo) == {"a": [1] * 9001}
    writer.join()


def test_refused_files(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SILENCE", 0.01)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "latin").write_bytes(b"\xe9")
    (tmp_path / "large").write_bytes(b"#" * (strict_yaml.MAX_BYTES + 1))
    (tmp_path / "broken").write_text("a: 1\nb: [\n")
    expected = {
        "absent": "No such file",
        "fifo": "nothing writes",
        "latin": "UTF-8",
        "large": "more than",
        "broken": "line 3",
        ".": "regular file",
        "/dev/zero": "regular file",
        "nul\0": "null",
    }
    for name, word in expected.items():
        with pytest.raises(UserError, match=word) as error:
            strict_yaml.read(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


class TestLocate:
    """No test works in the checkout: what is found there is shipped."""

    SHIPPED = REPOSITORY / "configs"

    @pytest.mark.parametrize("name", ["mnist.yaml", "best/mnist.yaml", "studies/report.yaml"])
    def test_by_either_name(self, name):
        assert strict_yaml.locate(name) == strict_yaml.locate(f"configs/{name}")
        assert strict_yaml.locate(name) == self.SHIPPED / name
        assert strict_yaml.read(name) == strict_yaml.read(self.SHIPPED / name)

    @pytest.mark.parametrize("name", ["mnist.yaml", "configs/mnist.yaml"])
    def test_a_file_of_the_users_own_wins(self, name):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine: true")
        assert strict_yaml.locate(name) == Path(name)
        assert strict_yaml.read(name) == {"mine": True}

    @pytest.mark.parametrize(
        "name", ["nothing.yaml", "best", "/mnist.yaml", "best/../mnist.yaml", "other/mnist.yaml"]
    )
    def test_nothing_else_is_found(self, name):
        assert strict_yaml.locate(name) == Path(name)
        with pytest.raises(UserError, match=name):
            strict_yaml.read(name)

    def test_the_package_brings_them(self):
        build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
        wheel = build["targets"]["wheel"]
        assert strict_yaml.SHIPPED[0] == REPOSITORY / wheel["sources"]["configs"]
        assert "configs" in wheel["only-include"]

    def test_installed_package(self, monkeypatch, tmp_path):
        (tmp_path / "mine.yaml").write_text("a: 1")
        monkeypatch.setattr(strict_yaml, "SHIPPED", (tmp_path, self.SHIPPED))
        assert strict_yaml.read("configs/mine.yaml") == {"a": 1}

    def test_commands(self, run):
        fit = "fit --config digits.yaml --trainer.fast_dev_run true --trainer.logger false"
        assert run(fit).code == 0
        assert run("study --config configs/studies/smoke.yaml --dry_run").code == 0
