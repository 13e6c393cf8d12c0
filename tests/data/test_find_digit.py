"""Own pictures: the digit is found, turned light on black and laid out as MNIST's are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from lenet_lightning.data import find_digit, readers
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.find_digit import Layout, find
from lenet_lightning.data.pictures import as_trained

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MNIST = Layout(28, 20)


@pytest.fixture
def own_pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The generator of the benchmark's pictures."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module("own_pictures")
    for name in ("common", "own_pictures"):
        sys.modules.pop(name, None)


def seven(ink: int = 20, paper: int = 230, size: tuple[int, int] = (200, 150)) -> Image.Image:
    """A digit 40 by 60 pixels in the lower right of a page."""
    picture = Image.new("L", size, paper)
    draw = ImageDraw.Draw(picture)
    draw.line([(120, 70), (160, 70), (135, 130)], ink, 7)
    return picture


def agree(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two images."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


class TestFind:
    def test_layout_of_mnist(self) -> None:
        found = find(seven(), MNIST)
        assert found and found.reversed and found.image.shape == (28, 28)
        rows, columns = np.nonzero(found.image)
        assert np.ptp(rows) + 1 == 20 and np.ptp(columns) + 1 <= 20
        centre = np.array(ndimage.center_of_mass(found.image.astype(float)))
        assert np.abs(centre + 0.5 - 14).max() <= 0.5
        assert found.image.max() == 255 and found.image[0, 0] == 0

    def test_polarity_is_decided_by_the_picture_or_given(self) -> None:
        dark, light = find(seven(), MNIST), find(seven(230, 20), MNIST)
        assert dark and light and dark.reversed and not light.reversed
        np.testing.assert_array_equal(dark.image, light.image)
        given = find(seven(230, 20), MNIST, "dark")
        assert given is None or given.reversed

    @pytest.mark.parametrize("value", [0, 128, 255])
    @pytest.mark.parametrize("size", [(1, 1), (3, 200), (28, 28), (300, 200)])
    def test_nothing_is_found_on_an_empty_page(self, value: int, size: tuple[int, int]) -> None:
        assert find(Image.new("L", size, value), MNIST) is None
        assert find(Image.new("L", size, value), Layout(28, 28, strokes=False)) is None

    @pytest.mark.parametrize("size", [(1, 2), (2, 40), (5, 5), (28, 28), (90, 47), (300, 20)])
    def test_noise_of_any_size_is_no_error(self, size: tuple[int, int]) -> None:
        noise = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
        for layout in (MNIST, Layout(8, 8), Layout(28, 28, strokes=False)):
            found = find(Image.fromarray(noise), layout)
            assert found is None or found.image.shape == (layout.size, layout.size)

    def test_uneven_light_noise_and_lines(self) -> None:
        clean = find(seven(), MNIST)
        page = np.asarray(seven(), np.float32)
        page[10::24] -= 40  # ruled
        page *= np.linspace(1, 0.45, page.shape[1])
        page += np.random.default_rng(0).normal(0, 6, page.shape)
        found = find(Image.fromarray(np.clip(page, 0, 255).astype(np.uint8)), MNIST)
        assert clean and found and found.reversed
        assert agree(found.image, clean.image) > 0.85  # a pixel apart

    @pytest.mark.parametrize(
        ("ink", "paper"),
        [
            ((255, 250, 60), (255, 255, 255)),
            ((225, 70, 60), (70, 135, 80)),
            ((40, 60, 200), (90, 70, 30)),
        ],
    )
    def test_colours_of_nearly_one_grey(
        self, ink: tuple[int, int, int], paper: tuple[int, int, int]
    ) -> None:
        picture = Image.new("RGB", (200, 150), paper)
        ImageDraw.Draw(picture).line([(120, 70), (160, 70), (135, 130)], ink, 7)
        found, clean = find(picture, MNIST), find(seven(), MNIST)
        assert found and clean and agree(found.image, clean.image) > 0.95

    def test_specks_are_left_out_and_a_broken_stroke_is_not(self) -> None:
        picture = seven()
        clean = find(picture, MNIST)
        draw = ImageDraw.Draw(picture)
        draw.ellipse((20, 20, 24, 24), 20)
        speck = find(picture, MNIST)
        draw.rectangle((100, 95, 180, 99), 230)
        broken = find(picture, MNIST)
        assert clean and speck and broken
        np.testing.assert_array_equal(speck.image, clean.image)
        assert agree(broken.image, clean.image) > 0.85

    def test_small_in_a_large_photograph(self) -> None:
        """It is cut out of the pixels that are there, not out of the reduced picture."""
        large = Image.new("L", (2400, 1800), 230)
        large.paste(seven(), (900, 700))
        found, near = find(large, MNIST), find(seven(), MNIST)
        assert found and near and agree(found.image, near.image) > 0.97

    def test_sheet_on_a_table(self) -> None:
        table = Image.new("L", (320, 260), 60)
        table.paste(seven(), (50, 40))
        found, alone = find(table, MNIST), find(seven(), MNIST)
        assert found and alone and found.reversed and agree(found.image, alone.image) > 0.95

    def test_thin_lines_become_as_thick_as_a_pens(self) -> None:
        picture = Image.new("L", (300, 300), 255)
        ImageDraw.Draw(picture).line([(90, 60), (210, 60), (130, 240)], 0, 1)
        found = find(picture, MNIST)
        assert found and (found.image > 100).sum() > 40

    def test_shades_of_a_garment_are_kept(self) -> None:
        picture = Image.new("L", (120, 160), 255)
        picture.paste(150, (30, 40, 90, 120))
        picture.paste(60, (50, 60, 70, 100))
        found = find(picture, Layout(28, 28, strokes=False))
        assert found and found.reversed
        assert abs(int(found.image[14, 14]) - 195) < 6
        assert abs(int(found.image[3, 14]) - 105) < 6
        assert found.image[14, 0] == 0


class TestSets:
    """200 pictures of the benchmark's first set; what is known of each is checked."""

    def test_polarity_and_place(self, own_pictures: ModuleType) -> None:
        wrong = 0
        for picture, _ in own_pictures.drawn_set():
            plain = readers.plain(picture).convert("L")
            found = find(plain, MNIST)
            border = np.asarray(plain)[[0, -1]]
            light_paper = float(np.median(border)) > 110
            wrong += found is None or found.reversed != light_paper
            if found:
                rows, columns = np.nonzero(found.image)
                assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        assert wrong <= 2

    def test_pasted_digits_look_like_what_was_pasted(self, own_pictures: ModuleType) -> None:
        glyphs = [own_pictures.pen_glyph(np.random.default_rng(i), i % 10, 40) for i in range(20)]
        laid_out = [find(Image.fromarray((255 * g).astype(np.uint8)), MNIST) for g in glyphs]
        images = np.stack([found.image for found in laid_out if found])
        pictures = own_pictures.pasted_set(images, np.arange(20) % 10, count=40)
        matched = 0
        for picture, digit in pictures:
            found = find(picture.convert("L"), MNIST)
            assert found
            likeness = [agree(found.image, image) for image in images]
            matched += int(np.argmax(likeness)) % 10 == digit
        assert matched >= 34  # they are turned and sheared

    def test_the_same_on_every_call(self, own_pictures: ModuleType) -> None:
        one, other = own_pictures.drawn_set(3, 5), own_pictures.drawn_set(3, 5)
        for (a, _), (b, _) in zip(one, other, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


class TestAsTrained:
    @pytest.mark.parametrize("name", ["CIFAR10", "mine"])
    def test_nothing_is_looked_for_where_it_makes_no_sense(self, name: str) -> None:
        channels = 3 if name == "CIFAR10" else 1
        spec = InputSpec(name, channels, 32, ("a",), (0.0,), (1.0,))
        array, reverse = as_trained(seven(), spec)
        assert reverse is None and array.shape == (channels, 32, 32) and array[0, 0, 0] == 230

    def test_switched_off(self) -> None:
        spec = InputSpec("MNIST", 1, 28, ("a",), (0.0,), (1.0,))
        array, reverse = as_trained(seven(), spec, find_digit=False)
        assert reverse is None and array[0, 0, 0] == 230


def test_otsu_separates_two_classes() -> None:
    values = np.concatenate([np.full(900, 2.0), np.full(100, 80.0)]).astype(np.float32)
    assert 2 < find_digit.otsu(values) < 80
