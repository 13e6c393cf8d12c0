from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lenet_lightning.data import readers
from lenet_lightning.errors import UserError
from tests.data import fakes

IMAGES, LABELS = fakes.tiny_split("MNIST", 20, seed=0)
COLOUR_IMAGES, COLOUR_LABELS = fakes.tiny_split("CIFAR10", 20, seed=0)
BATCH = readers.cifar_records(COLOUR_IMAGES, COLOUR_LABELS)
SHEET = fakes.png_sheet(COLOUR_IMAGES)
DIGITS = "\n".join(",".join([str(i % 17)] * 64 + [str(i % 10)]) for i in range(30)).encode()

# parser, a valid file
PARSERS: dict[str, tuple[Callable[..., object], bytes]] = {
    "idx images": (readers.parse_idx_images, fakes.idx_bytes(IMAGES[:, 0])),
    "idx labels": (readers.parse_idx_labels, fakes.idx_bytes(LABELS)),
    "cifar": (readers.parse_cifar, BATCH),
    "pickle": (readers.parse_cifar_pickle, fakes.cifar_pickle(BATCH)),
    "sheet": (readers.parse_sheet, SHEET),
    "json": (readers.parse_json_labels, json.dumps(LABELS.tolist()).encode()),
    "digits": (readers.parse_digits, DIGITS),
    "gzip": (lambda data, name: readers.gunzip(data, name, 10_000), gzip.compress(DIGITS)),
}


def refused(parser: Callable[..., object], data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parser(data, "the-file")
    message = str(caught.value)
    assert message.startswith("the-file ")
    assert message.endswith(".")
    assert "\n" not in message


class TestIdx:
    def test_round_trip(self) -> None:
        images = readers.parse_idx_images(fakes.idx_bytes(IMAGES[:, 0]), "x")
        labels = readers.parse_idx_labels(fakes.idx_bytes(LABELS), "x")
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(images, IMAGES)
        np.testing.assert_array_equal(labels, LABELS)

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "too short"),
            (b"\0\0\x08\x03\0\0", "too short"),
            (fakes.idx_bytes(LABELS) + bytes(16), "starts with 2049, not 2051"),
            (
                fakes.idx_bytes(IMAGES[:, 0])[:-1],
                r"declares 15,680 bytes of images and holds 15,679",
            ),
            (fakes.idx_bytes(IMAGES[:, 0]) + b"x", "and holds 15,681"),
            (struct.pack(">4I", 2051, *[2**32 - 1] * 3), "and holds 0"),
            (struct.pack(">4I", 2051, 0, 28, 28), "declares no images"),
        ],
    )
    def test_malformed_images(self, data: bytes, words: str) -> None:
        refused(readers.parse_idx_images, data, words)

    def test_labels_out_of_range(self) -> None:
        refused(readers.parse_idx_labels, fakes.idx_bytes(np.array([3, 10])), r"outside 0\.\.9")


class TestCifar:
    def test_round_trip(self) -> None:
        images, labels = readers.parse_cifar(BATCH, "x")
        np.testing.assert_array_equal(images, COLOUR_IMAGES)
        np.testing.assert_array_equal(labels, COLOUR_LABELS)

    @pytest.mark.parametrize("data", [b"", BATCH[:-1], BATCH + b"x"])
    def test_wrong_length(self, data: bytes) -> None:
        refused(readers.parse_cifar, data, "expected images of 3,073 bytes each")

    def test_labels_out_of_range(self) -> None:
        refused(readers.parse_cifar, b"\x0a" + bytes(3072), r"outside 0\.\.9")

    def test_pickle(self) -> None:
        assert readers.parse_cifar_pickle(fakes.cifar_pickle(BATCH), "x") == BATCH

    def test_pickle_is_never_executed(self, tmp_path: Path) -> None:
        marker = tmp_path / "marker"

        class Evil:
            def __reduce__(self) -> tuple[object, ...]:
                return Path.touch, (marker,)

        refused(readers.parse_cifar_pickle, pickle.dumps(Evil(), 2), "not a pickled CIFAR-10")
        assert not marker.exists()

    @pytest.mark.parametrize("data", [b"", b"no pickle", fakes.cifar_pickle(BATCH)[:-5000]])
    def test_bad_pickle(self, data: bytes) -> None:
        refused(readers.parse_cifar_pickle, data, "not a pickled CIFAR-10 batch")

    def test_pickle_with_too_few_pixels(self) -> None:
        # One label more than there are images.
        data = fakes.cifar_pickle(BATCH).replace(b"]q\x05(", b"]q\x05(K\x01")
        refused(readers.parse_cifar_pickle, data, "holds 21 labels and 61,440 bytes")


class TestSheet:
    def test_round_trip(self) -> None:
        np.testing.assert_array_equal(readers.parse_sheet(SHEET, "x"), COLOUR_IMAGES)

    @pytest.mark.parametrize(
        "data",
        [b"", b"GIF89a" + SHEET, SHEET[:1000], SHEET[:60] + bytes([SHEET[60] ^ 1]) + SHEET[61:]],
    )
    def test_damaged(self, data: bytes) -> None:
        refused(readers.parse_sheet, data, "not a sheet of 32x32 colour images")

    @pytest.mark.parametrize("size", [(1023, 20), (2**31 - 1, 20), (1024, 2**31 - 1), (1024, 0)])
    def test_other_sizes(self, size: tuple[int, int]) -> None:
        head = b"IHDR" + struct.pack(">II5B", *size, 8, 2, 0, 0, 0)
        data = SHEET[:12] + head + struct.pack(">I", zlib.crc32(head)) + SHEET[33:]
        refused(readers.parse_sheet, data, "not a sheet of 32x32 colour images")

    def test_grey_sheet(self) -> None:
        buffer = io.BytesIO()
        Image.new("L", (1024, 4)).save(buffer, format="PNG")
        refused(readers.parse_sheet, buffer.getvalue(), "1024 pixels wide, mode L")


class TestJsonLabels:
    def test_round_trip(self) -> None:
        np.testing.assert_array_equal(readers.parse_json_labels(b"[3, 0, 9]", "x"), [3, 0, 9])

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"[1, 2", "not a JSON file"),
            (b"\xff\xfe", "not a JSON file"),
            (b"[" * 100_000, "not a JSON file"),
            (b'{"a": 1}', "not a JSON list"),
            (b"[1, 2.0]", "not a JSON list"),
            (b"[true]", "not a JSON list"),
            (b"[10]", "outside"),
            (b"[-1]", "outside"),
            (b"[1" + b"0" * 40 + b"]", "outside"),
        ],
    )
    def test_malformed(self, data: bytes, words: str) -> None:
        refused(readers.parse_json_labels, data, words)


class TestDigits:
    def test_scale(self) -> None:
        images, labels = readers.parse_digits(DIGITS, "x")
        assert images.shape == (30, 1, 8, 8)
        assert [images[i, 0, 0, 0] for i in (0, 8, 16)] == [0, 128, 255]
        assert labels.tolist() == [i % 10 for i in range(30)]

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "64 pixels and a label"),
            (b"1,2,3", "64 pixels and a label"),
            (DIGITS[:-3], "not a table"),
            (DIGITS.replace(b"7", b"x"), "not a table"),
            (DIGITS.replace(b"16", b"17"), r"outside 0\.\.16"),
            (DIGITS.replace(b"16", b"9" * 30), "not a table"),
        ],
    )
    def test_malformed(self, data: bytes, words: str) -> None:
        refused(readers.parse_digits, data, words)


def test_gzip_bomb_is_bounded() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    refused(lambda data, name: readers.gunzip(data, name, 1000), bomb, "more than the 1,000 bytes")


class TestReadPicture:
    def save(self, path: Path, mode: str, colour: object = 0, **options: object) -> Path:
        Image.new(mode, (12, 7), colour).save(path, **options)
        return path

    @pytest.mark.parametrize(
        ("name", "mode", "expected"),
        [
            ("a.png", "L", "L"),
            ("a.png", "1", "L"),
            ("a.png", "LA", "L"),
            ("a.png", "I;16", "L"),
            ("a.png", "RGB", "RGB"),
            ("a.png", "RGBA", "RGB"),
            ("a.png", "P", "RGB"),
            ("a.jpg", "L", "L"),
            ("a.jpg", "RGB", "RGB"),
            ("a.jpg", "CMYK", "RGB"),
            ("a.bmp", "1", "L"),
            ("a.bmp", "RGB", "RGB"),
            ("a.tif", "L", "L"),
            ("a.tif", "I;16", "L"),
            ("a.tif", "I;16B", "L"),
            ("a.tiff", "CMYK", "RGB"),
            ("a.webp", "RGBA", "RGB"),
        ],
    )
    def test_modes(self, tmp_path: Path, name: str, mode: str, expected: str) -> None:
        picture = readers.read_picture(self.save(tmp_path / name, mode))
        assert (picture.mode, picture.size) == (expected, (12, 7))

    @pytest.mark.parametrize(
        ("name", "mode"), [("a.png", "I;16"), ("a.tif", "I;16B"), ("a.tif", "I")]
    )
    def test_sixteen_bits_are_scaled(self, tmp_path: Path, name: str, mode: str) -> None:
        for value, expected in ((0, 0), (51 * 257, 51), (65535, 255)):
            picture = readers.read_picture(self.save(tmp_path / name, mode, value))
            assert picture.getextrema() == (expected, expected)

    @pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 65536), ("I", -1)])
    def test_more_than_sixteen_bits_are_refused(self, tmp_path: Path, mode: str, value) -> None:
        self.refused(self.save(tmp_path / "a.tif", mode, value), "do not fit into 16 bits")

    def transparent(self, path: Path, mode: str, ink: int, alpha: int, colour: int) -> list[int]:
        """Return background and ink of a drawing on nothing, whose pixels have a colour yet."""
        ink_colour = (ink, alpha) if mode == "LA" else (ink, ink, ink, alpha)
        nothing = (colour, 0) if mode == "LA" else (colour, colour, colour, 0)
        drawing = Image.new(mode, (20, 20), nothing)
        drawing.paste(ink_colour, (9, 2, 11, 18))
        drawing.save(path, lossless=True)
        picture = readers.read_picture(path).convert("L")
        return [picture.getpixel((0, 0)), picture.getpixel((10, 10))]

    @pytest.mark.parametrize("colour", [0, 255])
    @pytest.mark.parametrize(
        ("name", "mode"), [("a.png", "LA"), ("a.png", "RGBA"), ("a.webp", "RGBA")]
    )
    def test_transparent_turns_to_what_contrasts(
        self, tmp_path: Path, name: str, mode: str, colour: int
    ) -> None:
        path = tmp_path / name
        for ink, background in ((0, 255), (100, 255), (160, 0), (255, 0)):
            assert self.transparent(path, mode, ink, 255, colour) == [background, ink]
        assert self.transparent(path, mode, 255, 128, colour) == [0, 128]
        assert self.transparent(path, mode, 0, 128, colour) == [255, 127]
        assert self.transparent(path, mode, 0, 0, colour) == [255, 255]

    @pytest.mark.parametrize(("mode", "clear"), [("1", 0), ("L", 0), ("P", 0), ("RGB", (0, 0, 0))])
    def test_one_colour_may_be_transparent(self, tmp_path: Path, mode: str, clear) -> None:
        """As GIF's palettes have it, and PNG for any kind of picture."""
        drawing = Image.new(mode, (20, 20), clear)
        drawing.paste(1 if mode in "1P" else 250 if mode == "L" else (250, 250, 250), (5, 5, 9, 9))
        if mode == "P":
            drawing.putpalette([255, 255, 255, 250, 250, 250])
        drawing.save(tmp_path / "a.png", transparency=clear)
        picture = readers.read_picture(tmp_path / "a.png").convert("L")
        assert picture.getpixel((0, 0)) == 0 and picture.getpixel((6, 6)) >= 250

    def test_turned_by_exif(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright
        path = self.save(tmp_path / "a.jpg", "L", exif=exif)
        assert readers.read_picture(path).size == (7, 12)

    def refused(self, path: Path, words: str) -> None:
        with pytest.raises(UserError, match=words) as caught:
            readers.read_picture(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_absent(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "a.png", "does not exist")

    def test_folder(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "cannot be read")

    @pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
    def test_no_picture(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(content)
        self.refused(path, "is not a picture: expected PNG|cannot be read")

    def test_other_format(self, tmp_path: Path) -> None:
        self.refused(self.save(tmp_path / "a.gif", "L"), "is not a picture: expected PNG")

    @pytest.mark.parametrize("name", ["a.png", "a.jpg"])
    def test_truncated(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-600])
        self.refused(path, "cannot be read")

    def test_pipes_and_devices(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.png")
        self.refused(tmp_path / "a.png", "not a regular file")
        self.refused(Path("/dev/zero"), "not a regular file")

    @pytest.mark.parametrize(
        "size", [(10_000, 10_000), (60_000, 60_000), (1, 89_000_000), (65_536, 1)]
    )
    def test_decompression_bomb(self, tmp_path: Path, size: tuple[int, int]) -> None:
        path = self.save(tmp_path / "a.png", "L")
        data = path.read_bytes()
        head = b"IHDR" + struct.pack(">II5B", *size, 8, 0, 0, 0, 0)
        path.write_bytes(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])
        self.refused(path, "too large: at most 89,478,485 pixels are read, 65,535 a side")


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """Return the valid file with a piece replaced, or cut, or any bytes at all."""
    place = st.integers(0, len(valid))
    spliced = st.builds(
        lambda start, length, piece: valid[:start] + piece + valid[start + length :],
        # Headers are short: half of the damage goes there.
        place | st.integers(0, min(64, len(valid))),
        place | st.integers(0, 8),
        st.binary(max_size=16),
    )
    return spliced | st.binary(max_size=200)


def check_parser(kind: str, data: bytes) -> None:
    """A parser returns or refuses; nothing else reaches the user."""
    try:
        PARSERS[kind][0](data, "the-file")
    except UserError as error:
        assert str(error).startswith("the-file ")


def check_picture(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        assert readers.read_picture(path).mode in ("L", "RGB")
    except UserError as error:
        assert str(path) in str(error)


def picture_bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[0, 0]).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.fuzz
@given(data=st.data())
def test_parsers_on_damaged_files(kind: str, data: st.DataObject) -> None:
    check_parser(kind, data.draw(damaged(PARSERS[kind][1])))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.fuzz
@given(data=st.data())
def test_pictures_on_damaged_files(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    check_picture(tmp_path / "picture", data.draw(damaged(picture_bytes(kind))))
