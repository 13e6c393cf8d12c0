"""Whatever a configuration holds, the answer is a run or one sentence: never a traceback."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lenet_lightning.__main__ import main
from lenet_lightning.cli import lightning_cli
from lenet_lightning.cli.evaluate import Evaluation
from lenet_lightning.cli.fit import Training
from lenet_lightning.store import run_folder
from tests.conftest import REPOSITORY

# Keys of lists, and keys that no class has.
MORE_KEYS = (
    "trainer.callbacks",
    "trainer.plugins",
    "trainer.logger",
    "model.optimizer",
    "model.optimizer.lr",
    "model.scheduler",
    "model.scheduler.step_size",
    "data",
    "data.batch_sise",
    "optimizer",
    "seed",
    "data.init_args.nothing",
    "model.",
    ".",
    "config",
    "ckpt_path",
    "resume",
    "logs",
    "allow_imports",
)

WORDS = st.sampled_from(
    [
        "auto",
        "null",
        "true",
        "cpu",
        "MNIST",
        "Digits",
        "SGD",
        "torch.optim.SGD",
        "torch.nn.Linear",
        "EarlyStopping",
        "StepLR",
        "full",
        "1e30",
        "-1",
        "[1",
        "{a: b",
        "!!python/name:os.system",
        "../..",
        "a: b: c",
        "\x00",
        "val/acc",
        "bf16-mixed",
        "ddp",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-2, 70),
    st.floats(),
    WORDS,
    st.text(max_size=12),
)
CLASSES = st.fixed_dictionaries(
    {"class_path": st.one_of(WORDS, SCALARS)},
    optional={"init_args": st.dictionaries(st.text(max_size=8), SCALARS, max_size=2)},
)
VALUES = st.recursive(
    st.one_of(SCALARS, CLASSES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=4,
)


def keys() -> list[str]:
    """Every key that a configuration has, and some that none has."""
    config = lightning_cli.parse(["fit", "--data", "Digits"])
    return [".".join(key) for key in run_folder.flatten(config)] + list(MORE_KEYS)


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go as far as the trainer, and no further."""
    monkeypatch.setattr(Training, "run", lambda *args: None)
    monkeypatch.setattr(Evaluation, "run", lambda *args: None)


def nest(changes: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {"data": {"class_path": "Digits"}}
    for key, value in changes.items():
        *path, last = key.split(".")
        node = config
        for part in path:
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
        node[last] = value
    return config


def assert_answered(args: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(args)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 2
    assert code in (0, 2), (code, err.getvalue())
    assert "Traceback" not in err.getvalue()
    assert code == 0 or err.getvalue().startswith("lenet_lightning: ")


def as_argument(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


@given(
    changes=st.dictionaries(st.sampled_from(keys()), VALUES, min_size=1, max_size=3),
    on_the_command_line=st.booleans(),
)
def test_any_setting(changes: dict[str, Any], on_the_command_line: bool) -> None:
    if on_the_command_line:
        args = [f"--{key}={as_argument(value)}" for key, value in changes.items()]
        assert_answered(["fit", "--data", "Digits", *args])
    else:
        Path("config.yaml").write_text(yaml.safe_dump(nest(changes), allow_unicode=True))
        assert_answered(["fit", "--config", "config.yaml"])


pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.usefixtures("ready"),
    # Remarks on a configuration are not what is looked for.
    pytest.mark.filterwarnings("ignore"),
]


@given(text=st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin1"))))
def test_any_file(text: str) -> None:
    Path("config.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    assert_answered(["fit", "--config", "config.yaml"])


REAL = (REPOSITORY / "configs/digits.yaml").read_text()
FRAGMENTS = st.sampled_from(
    [
        *(
            "&a ",
            "*a",
            "<<: ",
            "{{ x }}",
            "!!set ",
            "!!binary ",
            "!!python/none ",
            "? ",
            "|\n",
            "---\n",
        ),
        *("[", "]", "{", "}", ": ", "\n", "  ", "- ", "#", '"', "'", "\\0", "\t", "%", "@", ", "),
        *("9" * 5000, "[" * 100, "1e999", "-.inf", ".nan", "~", "0x", "~/x", "true", "null"),
        *(
            "class_path: ",
            "init_args: ",
            "lenet_lightning.data.datamodule.ImageDataModule",
            "a.yaml",
        ),
    ]
)
EDITS = st.lists(
    st.tuples(st.integers(0, len(REAL)), st.integers(0, 40), FRAGMENTS | st.text(max_size=3)),
    min_size=1,
    max_size=4,
)


@given(EDITS)
def test_a_real_file_edited(edits: list[tuple[int, int, str]]) -> None:
    text = REAL
    for start, removed, inserted in edits:
        text = text[:start] + inserted + text[start + removed :]
    Path("config.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    assert_answered(["fit", "--config", "config.yaml"])


@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_characters="\x00"), max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_any_words(words: list[str]) -> None:
    assert_answered(words)
