"""The commands in README and the docs do what the pages say, shortened and on tiny datasets."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from lenet_lightning import files
from tests.conftest import REPOSITORY, Run
from tests.data import fakes
from tests.docs.test_pages import PAGES

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
OURS = "python -m lenet_lightning "
SHORT = "--trainer.accelerator cpu --trainer.logger false --data.subset 100 --data.batch_size 20"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
WRITTEN_BY_COMMANDS = {"report.md", "robustness.md"}


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in one of the languages; "" is a block without one."""
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def commands(page: Path) -> list[str]:
    """Return the commands of a page, in order: lines of shell blocks, one a command, unrepeated."""
    text = "".join(blocks(page, "sh", "bash", "console", "")).replace("\\\n", "")
    lines = [part.strip() for line in text.splitlines() for part in line.split(" && ")]
    quoted = [code for code in INLINE.findall(page.read_text()) if code.startswith(OURS)]
    return list(dict.fromkeys(line for line in [*lines, *quoted] if line))


def words(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def pages_with(*starts: str) -> list[object]:
    found = [page for page in PAGES if any(line.startswith(starts) for line in commands(page))]
    named = [page for page in found if page.name not in WRITTEN_BY_COMMANDS]
    return [pytest.param(page, id=str(page.relative_to(REPOSITORY))) for page in named]


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the repository's configurations and some pictures."""
    Path("configs").symlink_to(REPOSITORY / "configs")
    fakes.write_pictures(Path("pictures"), 200)
    monkeypatch.setattr(files, "user_cache", lambda: Path("cache").absolute())
    Path("my_pictures").mkdir()
    shutil.copy(REPOSITORY / "docs/images/curves.png", "my_pictures")


@pytest.mark.docs
@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("page", pages_with(OURS))
def test_our_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch, page: Path, digits_run: Path
) -> None:
    """Training is shortened, studies are planned only, checkpoints are those of a short run."""
    monkeypatch.syspath_prepend(Path.cwd())  # as python -m does
    for block in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            Path(name[1]).write_text(block)
    for command in (line for line in commands(page) if line.startswith(OURS)):
        name, *args = words(command.removeprefix(OURS))
        expected, reason = 0, ""
        if "..." in args or "gpu" in args or "ray" in args or "--help" in args:
            continue
        if name == "fit":
            args += SHORT.split()
            if "--data.num_folds" not in args:
                args += ["--data.val_size", "50"]
            if "distilled" in command:  # its teachers are trained by the command before it
                expected, reason = 2, "teachers"
            else:
                args += ["--trainer.max_epochs", "1"]
        elif name == "sweep" and not find_spec("optuna"):
            continue
        elif name in ("study", "sweep") and args[0].startswith("-"):
            args.append("--dry_run")
        elif name in ("robustness", "first_layer", "study"):
            expected, reason = 2, next(word for word in args if not word.startswith("-"))
        elif "--ckpt_path" in args and not Path("lightning_logs/mnist").exists():
            shutil.copytree(digits_run, "lightning_logs/mnist/version_0")
        with monkeypatch.context() as patch:
            # Plans check the settings against the facts of the real datasets.
            if name not in ("study", "sweep"):
                fakes.install_tiny(patch, Path("datasets"))
            outcome = run(name, *args)
        assert outcome.code == expected, f"{command}: {outcome.err}"
        assert reason in outcome.err, command


@pytest.mark.docs
@pytest.mark.filterwarnings("ignore")  # Lightning's advice to whoever runs an example
@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_examples(page: Path, digits_run: Path) -> None:
    """The blocks of a page run in order, in one namespace, as in a notebook."""
    shutil.copytree(digits_run, "lightning_logs/mnist/version_0")
    namespace: dict[str, object] = {"__name__": "example"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_other_commands(page: Path) -> None:
    """Extras, marks, scripts and configurations that a page names exist."""
    text = page.read_text()
    extras = {name for found in re.findall(r"pip install -e '\.\[(.+?)\]'", text)
              for name in found.split(",")}  # fmt: skip
    assert extras <= set(PYPROJECT["project"]["optional-dependencies"])
    marks = set(re.findall(r"pytest -m (\w+)", text))
    known = PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]
    assert marks <= {mark.partition(":")[0] for mark in known}
    if page.name in WRITTEN_BY_COMMANDS:
        return
    for path in re.findall(r"\bconfigs/[\w/]+\.yaml", text):
        assert (REPOSITORY / path).is_file(), path
    for script, options in re.findall(r"python ((?:benchmarks|docs)/\w+\.py)([^`\n]*)", text):
        shared = (REPOSITORY / "benchmarks/common.py").read_text()
        code = (REPOSITORY / script).read_text() + shared
        for option in re.findall(r"--\w+", options):
            assert f'"{option}"' in code, f"{script} {option}"
