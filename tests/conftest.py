"""Every test runs in an empty working directory and must leave the process as it found it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, settings

from lenet_lightning.__main__ import main
from lenet_lightning.distributed import RANK_VARIABLES
from tests.browser import Page, chromium

# What a launcher, a job or another program set for itself; before a test module imports Lightning.
FOREIGN = ("SLURM_", "MASTER_", "TORCHELASTIC_", "PL_", "LIGHTNING_", "MPL", "JSONARGPARSE_")
for variable in [*os.environ]:
    if variable in RANK_VARIABLES or variable.startswith(FOREIGN):
        del os.environ[variable]

REPOSITORY = Path(__file__).parents[1]

# For tests that set no number of examples, such as those marked fuzz; no limit of time on a busy
# machine. Another profile is chosen by --hypothesis-profile.
for profile, max_examples in (("quick", 200), ("nightly", 10_000)):
    settings.register_profile(
        profile,
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
settings.load_profile("quick")

# What Lightning and torch set for good: nothing a test could leak by mistake.
PERMITTED_VARIABLES = (
    "PL_GLOBAL_SEED",
    "PL_SEED_WORKERS",
    "PYTEST_CURRENT_TEST",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
    "CUDA_MODULE_LOADING",
    "KERAS_BACKEND",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "TF_CPP_MIN_LOG_LEVEL",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_CPP_LOG_LEVEL",
    "MPLCONFIGDIR",
    "MPLBACKEND",
)

# The quickest real training there is: 1,294 embedded images, no download.
DIGITS = "fit --data Digits --trainer.accelerator cpu --trainer.max_epochs 2"
PLAIN = f"{DIGITS} --trainer.logger false"  # TensorBoard's pictures take longer than the training


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Several threads on a shared machine wait for each other."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # nor is the number chosen by measurement


@pytest.fixture
def no_leaked_files() -> Iterator[None]:
    """Fail if the repository holds a new file or run afterwards; datasets are meant to stay."""
    before = repository_files()
    yield
    assert repository_files() - before == set(), "files left in the repository"


def repository_files() -> set[Path]:
    folders = (REPOSITORY, REPOSITORY / "lightning_logs")
    found = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    return {path for path in found if not path.name.startswith(".") and path.name != "datasets"}


@pytest.fixture
def no_leaked_variables() -> Iterator[None]:
    """Fail if the environment is another one afterwards."""
    before = dict(os.environ)
    yield
    changed = {k for k in before.keys() | os.environ.keys() if before.get(k) != os.environ.get(k)}
    assert changed - set(PERMITTED_VARIABLES) == set(), "environment variables left"


@pytest.fixture
def no_leaked_handlers() -> Iterator[None]:
    """Fail if a signal is handled by something else afterwards."""
    numbers = signal.valid_signals()
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    changed = {n for n in numbers if signal.getsignal(n) is not before[n]}
    for number in changed:
        signal.signal(number, before[number])
    assert changed == set(), "signal handlers left"


@pytest.fixture(autouse=True)
def clean_directory(
    no_leaked_files: None,
    no_leaked_variables: None,
    no_leaked_handlers: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Work in a folder of the test's own; `monkeypatch` is undone before leaks are looked for."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process, as one string or as a list of words."""

    def run(*words: str) -> Outcome:
        args = [part for word in words for part in (shlex.split(word) if " " in word else [word])]
        capfd.readouterr()
        code = main(args)
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page in Chromium, for tests marked ``browser``."""
    with chromium() as page:
        yield page


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run on Digits, to be copied before it is touched."""
    logs = tmp_path_factory.mktemp("digits")
    assert main([*DIGITS.split(), "--logs", str(logs), "--name", "trained"]) == 0
    return logs / "trained" / "version_0"


@pytest.fixture
def trained(digits_run: Path) -> Path:
    """A copy of that run in the working directory: ``lightning_logs/trained/version_0``."""
    folder = Path("lightning_logs/trained/version_0")
    shutil.copytree(digits_run, folder)
    return folder
