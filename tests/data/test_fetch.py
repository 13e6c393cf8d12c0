from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from lenet_lightning import files
from lenet_lightning.data import fetch, registry
from lenet_lightning.errors import UserError
from tests.data import fakes
from tests.data.fakes import visible

REPOSITORY = Path(__file__).parents[2]
IMAGES = "train-images-idx3-ubyte"


pytestmark = pytest.mark.usefixtures("nothing_outside")


class TestLoad:
    @pytest.mark.parametrize(
        ("name", "shape"),
        [("MNIST", (1, 28, 28)), ("FashionMNIST", (1, 28, 28)), ("CIFAR10", (3, 32, 32))],
    )
    def test_from_disk(
        self, name: str, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fakes.install_tiny(monkeypatch, tmp_path)
        dataset = fetch.load(name, tmp_path, download=False)
        for split, count, seed in ((dataset.train, 200, 0), (dataset.test, 100, 1)):
            images, labels = fakes.tiny_split(name, count, seed)
            assert split.images.shape == (count, *shape)
            assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
            assert split.images.flags.writeable and split.images.flags.c_contiguous
            np.testing.assert_array_equal(split.images, images)
            np.testing.assert_array_equal(split.labels, labels)
        assert len(dataset.classes) == 10
        assert set(dataset.digests) == {file.name for file in registry.DATASETS[name].files}
        assert all(digest.startswith("sha256:") for digest in dataset.digests.values())
        assert not (tmp_path / name / ".lock").exists()  # nothing is written where all is well

    def test_digits(self, tmp_path: Path) -> None:
        dataset = fetch.load("Digits", tmp_path / "unused", download=False)
        assert dataset.train.images.shape == (1437, 1, 8, 8)
        assert dataset.test.images.shape == (360, 1, 8, 8)
        assert (dataset.train.images.min(), dataset.train.images.max()) == (0, 255)
        shares = np.bincount(dataset.test.labels) / np.bincount(dataset.train.labels)
        assert np.all(np.abs(shares - 0.25) < 0.02)  # stratified, four to one
        assert not (tmp_path / "unused").exists()

    def test_digits_split_is_fixed(self, tmp_path: Path) -> None:
        labels = fetch.load("Digits", tmp_path).test.labels
        assert hashlib.md5(labels.astype(np.uint8).tobytes()).hexdigest() == DIGITS_TEST_LABELS

    def test_digits_are_those_of_scikit_learn(self, tmp_path: Path) -> None:
        from sklearn.datasets import load_digits

        dataset = fetch.load("Digits", tmp_path)
        pixels = np.concatenate([dataset.train.images, dataset.test.images]).reshape(-1, 64)
        expected = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
        assert sorted(map(bytes, pixels)) == sorted(map(bytes, expected))

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("MNITS", "did you mean MNIST?"),
            ("fashion", "did you mean FashionMNIST?"),
            ("cifar100", "did you mean CIFAR10?"),
            ("imagenet", "expected MNIST, FashionMNIST, CIFAR10, Digits"),
        ],
    )
    def test_unknown_name(self, name: str, words: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=words):
            fetch.load(name, tmp_path)

    def test_import_is_light(self) -> None:
        code = (
            "import sys, lenet_lightning.data.fetch, lenet_lightning.data.command;"
            "print({'torch', 'torchvision', 'matplotlib', 'PIL', 'sklearn'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=REPOSITORY)
        assert done.stdout.strip() == b"set()"


DIGITS_TEST_LABELS = "99f9341d15ae1b0f26a0cf8aa8c03bc0"

DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda data: data[:-7], "bytes instead of 156,816"),
    "longer": (lambda data: data + b"x", "has 156,817 bytes instead of 156,816"),
    "empty": (lambda data: b"", "has 0 bytes instead of 156,816"),
    "bit flipped": (lambda data: data[:99] + bytes([data[99] ^ 4]) + data[100:], "is damaged"),
    "swapped": (
        lambda data: fakes.tiny_files("FashionMNIST")[IMAGES],
        f"is Fashion-MNIST's {IMAGES}",
    ),
}


class TestDamagedFiles:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_refused_without_download(
        self, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path)["MNIST"]
        change, words = DAMAGES[damage]
        (tmp_path / "MNIST" / IMAGES).write_bytes(change(files[IMAGES]))
        with pytest.raises(UserError, match=f"{IMAGES} .*{words}.*data fetch MNIST"):
            fetch.load("MNIST", tmp_path, download=False)
        assert visible(tmp_path / "MNIST") == set(files)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_named_and_fetched_again(
        self,
        damage: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path)["MNIST"]
        change, words = DAMAGES[damage]
        (tmp_path / "MNIST" / IMAGES).write_bytes(change(files[IMAGES]))
        with fakes.server(fakes.packed(files)) as (mirror, asked):
            fakes.install_torchvision(monkeypatch, [mirror])
            fetch.load("MNIST", tmp_path)
        assert asked == [f"{IMAGES}.gz"]  # the other files are left alone
        assert (tmp_path / "MNIST" / IMAGES).read_bytes() == files[IMAGES]
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if words in line and "it is fetched again" in line]

    def test_verify_names_each(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.install_tiny(monkeypatch, tmp_path)
        (tmp_path / "CIFAR10" / "data_batch_2.bin").unlink()
        (tmp_path / "CIFAR10" / "test_batch.bin").unlink()
        (tmp_path / "CIFAR10" / "test_batch.bin").mkdir()
        checks = {check.name: check for check in fetch.verify("CIFAR10", tmp_path)}
        assert checks["data_batch_2.bin"].problem == "is absent"
        assert "bytes instead of" in checks["test_batch.bin"].problem
        good = checks["data_batch_1.bin"]
        known = registry.DATASETS["CIFAR10"].train[0]
        assert (good.problem, f"sha256:{good.sha256}") == ("", known.digest)
        assert good.md5 == hashlib.md5(good.stored).hexdigest()

    def test_damaged_digits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "sklearn" / "datasets" / "data"
        folder.mkdir(parents=True)
        (tmp_path / "sklearn" / "__init__.py").touch()
        (folder / "digits.csv.gz").write_bytes(b"")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "sklearn", raising=False)
        with pytest.raises(UserError, match=r"Digits is incomplete.*install scikit-learn again"):
            fetch.load("Digits", tmp_path)


class TestUnwritableFolders:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_fault_at_the_write(
        self, call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object) -> None:
            raise OSError(number, os.strerror(number))

        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["MNIST"]
        with fakes.server(fakes.packed(files)) as (mirror, _):
            fakes.install_torchvision(monkeypatch, [mirror])
            monkeypatch.setattr(os, call, fail)
            words = f"MNIST cannot be written to .*MNIST: {os.strerror(number)}; .*--root"
            with pytest.raises(UserError, match=words):
                fetch.load("MNIST", tmp_path)
        assert visible(tmp_path / "MNIST") == set()

    def test_root_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"cannot be written to .*: Not a directory"):
            fetch.load("MNIST", tmp_path / "file")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root ignores permissions")
    def test_read_only_root(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match=r"cannot be written to .*: Permission denied"):
            fetch.load("MNIST", tmp_path)

    def test_whole_files_in_a_folder_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fakes.install_tiny(monkeypatch, tmp_path)
        monkeypatch.setattr(files, "lock", None)  # would fail if called
        fetch.load("MNIST", tmp_path)


class HeldServer:
    """A mirror that sends half of the first file and waits for `release`."""

    def __init__(self) -> None:
        self.files = fakes.tiny_files("MNIST")
        self.answers: dict[str, object] = dict(fakes.packed(self.files))
        self.body = self.answers[f"{IMAGES}.gz"]
        self.answers[f"{IMAGES}.gz"] = self.answer
        self.halfway, self.release = threading.Event(), threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        half = len(self.body) // 2
        fakes.send(handler, self.body[:half], declared=len(self.body))
        self.halfway.set()
        self.release.wait(60)
        handler.wfile.write(self.body[half:])


def fetching(root: Path, mirror: str) -> subprocess.Popen[str]:
    """Start a process that fetches tiny MNIST."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.data.fakes", str(root), mirror],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals and flock are POSIX's")
class TestProcesses:
    def test_two_at_once(self, tmp_path: Path) -> None:
        held = HeldServer()
        with fakes.server(held.answers) as (mirror, asked):
            try:
                with fetching(tmp_path, mirror) as first:
                    assert held.halfway.wait(300)
                    with fetching(tmp_path, mirror) as second:
                        line = second.stderr.readline()
                        held.release.set()
                        first.communicate()
                        second.communicate()
            finally:
                held.release.set()
        assert line == f"Another process is fetching MNIST into {tmp_path}/MNIST; waiting for it.\n"
        assert (first.returncode, second.returncode) == (0, 0)
        assert len(asked) == 4  # each file once
        assert visible(tmp_path / "MNIST") == set(held.files)

    def test_ctrl_c_leaves_nothing(self, tmp_path: Path) -> None:
        held = HeldServer()
        with fakes.server(held.answers) as (mirror, _):
            try:
                with fetching(tmp_path, mirror) as process:
                    assert held.halfway.wait(300)
                    process.send_signal(signal.SIGINT)
                    _, said = process.communicate()
            finally:
                held.release.set()
        assert process.returncode == 130
        assert said.splitlines()[-1] == "Interrupted; no file is half-written."
        assert "Traceback" not in said
        assert visible(tmp_path / "MNIST") == set()

    def test_a_killed_process_is_cleaned_up_after(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = HeldServer()
        with fakes.server(held.answers) as (mirror, _):
            try:
                with fetching(tmp_path, mirror) as process:
                    assert held.halfway.wait(300)
                    process.kill()
            finally:
                held.release.set()
            (leftover,) = visible(tmp_path / "MNIST")
            assert leftover.startswith(".fetch-")
            fakes.install_tiny(monkeypatch, tmp_path, ["MNIST"], write=False)
            fakes.install_torchvision(monkeypatch, [mirror])
            fetch.load("MNIST", tmp_path)
        assert visible(tmp_path / "MNIST") == set(held.files)


# As published; Fashion-MNIST's are those of the contents of the published .gz files.
PUBLISHED_MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    "CIFAR10": {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", fakes.NAMES)
def test_really_fetched(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real torchvision and the real clients
    dataset = fetch.load(name, tmp_path)
    assert len(dataset.train.labels) == (50_000 if name == "CIFAR10" else 60_000)
    assert np.bincount(dataset.test.labels).tolist() == EXPECTED_TEST_COUNTS[name]
    checks = fetch.verify(name, tmp_path)
    assert {check.name: check.md5 for check in checks} == PUBLISHED_MD5[name]
    assert not any(check.problem for check in checks)


EXPECTED_TEST_COUNTS = {
    "MNIST": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    "FashionMNIST": [1000] * 10,
    "CIFAR10": [1000] * 10,
}
