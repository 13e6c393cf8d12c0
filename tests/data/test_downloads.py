"""Downloads over bad connections."""

from __future__ import annotations

import gc
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from lenet_lightning.data import downloads, fetch
from lenet_lightning.data.downloads import SourceError
from lenet_lightning.errors import UserError
from tests.data import fakes
from tests.data.fakes import visible

pytestmark = pytest.mark.usefixtures("nothing_outside")

IMAGES = "train-images-idx3-ubyte"


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
        for _ in range(100):  # a fault in the bound must not fill the disk
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
