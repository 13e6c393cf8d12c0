"""Augmentation against shifts, mirrors and turns that torch can do exactly."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lenet_lightning.data.augmentation import (
    Augmentation,
    bicubic_curves,
    by_numpy,
    cut_out,
    inside,
    move,
    pixel_mean,
    places,
    shift,
    smooth,
    tta_images,
)
from lenet_lightning.errors import UserError
from tests.conftest import REPOSITORY
from tests.rounding import inexact_operators

SIZE = 32
# Bilinear weights are exact to the rounding of coordinates in a 32-pixel image.
NEAR = {"rtol": 0, "atol": 2e-5}


def images(count: int = 3, channels: int = 1, size: int = SIZE) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def affine(rows: list[list[float]], count: int = 3) -> torch.Tensor:
    return torch.tensor(rows).expand(count, 2, 3)


def draw(augmentation: Augmentation, count: int, seed: int = 0) -> torch.Tensor:
    return augmentation.draw(count, SIZE, torch.Generator().manual_seed(seed))


def shifted(x: torch.Tensor, right: int, down: int) -> torch.Tensor:
    """Shift by up to 8 whole pixels; black comes in."""
    padded = torch.nn.functional.pad(x, (8, 8, 8, 8))
    return padded[..., 8 - down : 8 - down + SIZE, 8 - right : 8 - right + SIZE]


def test_off_by_default():
    assert not Augmentation().moves
    assert not Augmentation(invert=0.5).moves
    assert Augmentation().invert == 0


@pytest.mark.parametrize("option", ["rotation", "translation", "horizontal_flip"])
def test_moves(option):
    assert Augmentation(**{option: 0.1}).moves


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_moves_when_all_is_zero(channels):
    x = images(5, channels)
    maps = draw(Augmentation(), 5)
    assert torch.equal(maps, affine([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], 5))
    torch.testing.assert_close(move(x, maps), x, **NEAR)


def test_no_images():
    maps = draw(Augmentation(rotation=10), 0)
    assert move(images(0), maps).shape == (0, 1, SIZE, SIZE)


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_mirrors_left_and_right(channels):
    x = images(4, channels)
    torch.testing.assert_close(
        move(x, draw(Augmentation(horizontal_flip=1.0), 4)), x.flip(-1), **NEAR
    )


def test_flip_has_its_probability():
    maps = draw(Augmentation(horizontal_flip=0.3), 2000)
    assert float((maps[:, 0, 0] == -1).float().mean()) == pytest.approx(0.3, abs=0.04)


@settings(max_examples=12, deadline=None)
@given(right=st.integers(-5, 5), down=st.integers(-5, 5), channels=st.sampled_from([1, 3]))
def test_whole_pixels_shift_exactly_and_black_comes_in(right, down, channels):
    x = images(2, channels)
    # The map says where each pixel comes from: the image moves the other way.
    maps = affine([[1.0, 0.0, -2 * right / SIZE], [0.0, 1.0, -2 * down / SIZE]], 2)
    torch.testing.assert_close(move(x, maps), shifted(x, right, down), **NEAR)


def test_half_a_pixel_is_the_mean_of_two():
    x = images()
    moved = move(x, affine([[1.0, 0.0, 1 / SIZE], [0.0, 1.0, 0.0]]))
    torch.testing.assert_close(moved[..., :-1], (x[..., :-1] + x[..., 1:]) / 2, **NEAR)
    torch.testing.assert_close(moved[..., -1], x[..., -1] / 2, **NEAR)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_exact(turns):
    x = images()
    cos, sin = round(math.cos(turns * math.pi / 2)), round(math.sin(turns * math.pi / 2))
    moved = move(x, affine([[float(cos), -float(sin), 0.0], [float(sin), float(cos), 0.0]]))
    torch.testing.assert_close(moved, x.rot90(turns, (-2, -1)), **NEAR)


def test_translation_is_uniform_in_pixels():
    maps = draw(Augmentation(translation=3.0), 5000)
    for axis in range(2):
        pixels = maps[:, axis, 2] * SIZE / 2
        assert pixels.abs().max() <= 3
        assert pixels.min() < -2.9 and pixels.max() > 2.9
        assert float(pixels.mean()) == pytest.approx(0, abs=0.1)
        assert float(pixels.var()) == pytest.approx(3, rel=0.1)
    correlation = torch.corrcoef(maps[:, :, 2].T)[0, 1]
    assert abs(float(correlation)) < 0.06


def test_rotation_is_uniform_in_degrees():
    maps = draw(Augmentation(rotation=15.0), 5000)
    angle = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert angle.abs().max() <= 15.001
    assert angle.min() < -14.9 and angle.max() > 14.9
    assert float(angle.var()) == pytest.approx(75, rel=0.1)
    torch.testing.assert_close(torch.det(maps[:, :, :2]), torch.ones(5000))


def test_a_rotated_mirror_image_is_not_deformed():
    maps = draw(Augmentation(rotation=90.0, horizontal_flip=0.5), 100)[:, :, :2]
    torch.testing.assert_close(maps @ maps.mT, torch.eye(2).expand(100, 2, 2), rtol=0, atol=1e-5)
    assert set(torch.det(maps).round().tolist()) == {-1.0, 1.0}


def test_rotation_leaves_the_size_drawn():
    turned, upright = (
        draw(Augmentation(rotation=90, zoom=0.5), 50),
        draw(Augmentation(zoom=0.5), 50),
    )
    areas = [torch.linalg.det(maps[:, :, :2]) for maps in (turned, upright)]
    torch.testing.assert_close(*areas)
    assert areas[0].std() > 0.1


def test_rotation_keeps_the_centre():
    spot = torch.zeros(20, 1, SIZE, SIZE)
    spot[:, :, 15:17, 15:17] = 1
    moved = move(spot, draw(Augmentation(rotation=180.0), 20))
    torch.testing.assert_close(moved.sum((1, 2, 3)), torch.full((20,), 4.0), rtol=0.2, atol=0)
    assert moved[..., 13:19, 13:19].sum() == pytest.approx(float(moved.sum()))


def test_corners_turn_black():
    white = torch.ones(1, 1, SIZE, SIZE)
    root = math.sqrt(0.5)
    moved = move(white, affine([[root, -root, 0.0], [root, root, 0.0]], 1))
    assert all(moved[0, 0, row, column] == 0 for row in (0, -1) for column in (0, -1))
    assert moved[0, 0, SIZE // 2, SIZE // 2] == 1


@settings(max_examples=15, deadline=None)
@given(
    rotation=st.floats(0, 180),
    translation=st.floats(0, 8),
    flip=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_values_stay_in_range(rotation, translation, flip, seed):
    augmentation = Augmentation(rotation, translation, flip)
    maps = draw(augmentation, 3, seed)
    assert torch.equal(maps, draw(augmentation, 3, seed))
    moved = move(images(), maps)
    assert moved.shape == (3, 1, SIZE, SIZE) and moved.dtype == torch.float32
    assert moved.min() >= 0 and moved.max() <= 1 + 1e-5


NEAREST = {"interpolation": "nearest", "translation": 5.0, "horizontal_flip": 0.5}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_whole_pixels_are_what_grid_sample_gives(padding, channels):
    augmentation = Augmentation(padding=padding, **NEAREST)
    x, maps = images(60, channels), draw(augmentation, 60)
    assert augmentation.whole_pixels
    torch.testing.assert_close(
        augmentation.apply(x, maps), move(x, maps, "bilinear", padding), **NEAR
    )


def test_whole_shifts_are_equally_likely():
    pixels = draw(Augmentation(**NEAREST | {"translation": 2.7}), 6000)[:, :, 2] * SIZE / 2
    values, counts = pixels.unique(return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    assert float(counts.min()) > 0.18 * 12_000


def test_shifts_beyond_the_image_show_what_lies_outside():
    x = images(2)
    far = affine([[1.0, 0.0, 2 * 40 / SIZE], [0.0, 1.0, 0.0]], 2)
    assert not shift(x, far, "zeros").any()
    torch.testing.assert_close(shift(x, far, "border"), x[..., -1:].expand_as(x))


def test_interpolation_and_padding_reach_rotation():
    augmentation = Augmentation(rotation=30, interpolation="nearest", padding="border")
    x, maps = images(5), draw(Augmentation(rotation=30), 5)
    assert not augmentation.whole_pixels
    torch.testing.assert_close(augmentation.apply(x, maps), move(x, maps, "nearest", "border"))


def test_no_images_to_shift():
    assert shift(images(0), draw(Augmentation(**NEAREST), 0), "zeros").shape == (0, 1, SIZE, SIZE)


@pytest.mark.parametrize(
    ("pixels", "flip", "count"), [(0, False, 1), (0, True, 2), (1, False, 9), (2, True, 50)]
)
def test_tta_images(pixels, flip, count):
    x = images()
    seen = list(tta_images(x, pixels, flip))
    assert len(seen) == count
    expected = [x, *([x.flip(-1)] if flip else [])]
    assert all(any(torch.equal(view, one) for view in seen) for one in expected)
    inner = slice(pixels, SIZE - pixels)
    corner = x[..., : SIZE - 2 * pixels, : SIZE - 2 * pixels]
    assert any(torch.equal(view[..., inner, inner], corner) for view in seen)
    assert len({view.numpy().tobytes() for view in seen}) == count


def test_tta_images_are_mirrored_at_the_edge():
    x = images(1, size=4)
    first, *_, last = tta_images(x, 2, False)
    for view, rows in ((first, [1, 0, 0, 1]), (last, [2, 3, 3, 2])):
        assert torch.equal(view, x[:, :, rows][..., rows])


def test_places_outside_the_image():
    index = torch.arange(-4, 8)
    expected = {
        "reflection": [3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0],
        "border": [0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3],
    }
    for padding, pixels in expected.items():
        assert inside(index, 4, padding).tolist() == pixels


def test_the_generator_decides_all_draws():
    augmentation = Augmentation(rotation=9.0, zoom=0.1, translation=2.0, cutout=4, elastic=1.0)
    for draw in (augmentation.draw, augmentation.draw_warp, augmentation.draw_corners):
        one, same, other = (draw(5, SIZE, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
        assert torch.equal(one, same) and not torch.equal(one, other)


def test_distortions_end_after_their_epochs():
    options = {"rotation": 9.0, "invert": 0.5, "translation": 2.0}
    distorted = Augmentation(cutout=4, elastic=1.0, distortion_epochs=3, **options)
    assert [distorted.at(epoch) == distorted for epoch in range(5)] == [True] * 3 + [False] * 2
    assert distorted.at(3) == Augmentation(**options)
    with pytest.raises(UserError, match=r"distortion_epochs is 3, but data.augmentation.cutout"):
        Augmentation(distortion_epochs=3)
    for option in ({"cutout": 4}, {"elastic": 1.0}):
        assert Augmentation(distortion_epochs=3, **option).at(3) == Augmentation()
    always = Augmentation(cutout=4, elastic=1.0)
    assert always.at(1000) == always


def test_zoom_is_uniform_in_size():
    maps = draw(Augmentation(zoom=0.2), 5000)
    assert Augmentation(zoom=0.2).moves
    sizes = 1 / torch.linalg.det(maps[:, :, :2]).sqrt()
    assert 0.8 <= sizes.min() < 0.802 and 1.198 < sizes.max() <= 1.2001
    assert float(sizes.mean()) == pytest.approx(1, abs=0.01)
    assert not maps[:, :, 2].any()


def test_a_larger_size_enlarges():
    spot = torch.zeros(1, 1, SIZE, SIZE)
    spot[:, :, 12:20, 12:20] = 1
    maps = affine([[1 / 1.5, 0.0, 0.0], [0.0, 1 / 1.5, 0.0]], 1)
    assert float(move(spot, maps).sum()) == pytest.approx(64 * 1.5**2, rel=0.05)


@settings(max_examples=50, deadline=None)
@given(
    row=st.integers(-12, 40), column=st.integers(-12, 40), side=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
)  # fmt: skip
def test_cut_out(row, column, side, channels):
    x = images(2, channels)
    expected = x.clone()
    rows, columns = (slice(max(at, 0), max(at + side, 0)) for at in (row, column))
    expected[1, :, rows, columns] = x[1].mean((1, 2))[:, None, None]
    outside = [SIZE, SIZE]
    torch.testing.assert_close(cut_out(x, torch.tensor([outside, [row, column]]), side), expected)


def test_centres_of_squares_are_anywhere():
    for side in (1, 7, 8):
        generator = torch.Generator().manual_seed(0)
        corners = Augmentation(cutout=side).draw_corners(5000, SIZE, generator)
        centres = corners + side // 2
        assert corners.shape == (5000, 2)
        assert (centres.min(), centres.max()) == (0, SIZE - 1)
        torch.testing.assert_close(
            centres.float().mean(0), torch.full((2,), 15.5), rtol=0, atol=0.5
        )


class TestElastic:
    def test_points_that_move_alike_shift_the_image(self):
        x = images(2)
        still = Augmentation().draw(2, SIZE, torch.Generator().manual_seed(0))
        right = still.clone()
        right[:, 0, 2] = 2 / SIZE * 3
        warp = torch.zeros(2, 2, 5, 5)
        warp[:, 0] = 2 / SIZE * 3
        torch.testing.assert_close(move(x, still, warp=warp), move(x, right), rtol=0, atol=1e-4)

    def test_each_place_moves_by_its_own_point(self):
        x = images(1)
        still = Augmentation().draw(1, SIZE, torch.Generator().manual_seed(0))
        warp = torch.zeros(1, 2, 5, 5)
        warp[:, :, 0, 0] = 0.3
        warped = move(x, still, warp=warp)
        assert not torch.equal(warped[..., :6, :6], x[..., :6, :6])
        torch.testing.assert_close(warped[..., 18:, 18:], x[..., 18:, 18:], rtol=0, atol=1e-5)

    def test_draws(self):
        warp = Augmentation(elastic=1.5).draw_warp(4000, SIZE, torch.Generator().manual_seed(0))
        assert warp.shape == (4000, 2, 5, 5)
        pixels = warp * SIZE / 2
        assert float(pixels.mean()) == pytest.approx(0, abs=0.02)
        assert float(pixels.std()) == pytest.approx(1.5, rel=0.01)

    def test_is_applied(self):
        x = images(2)
        elastic = Augmentation(elastic=1.5)
        still, warp = draw(elastic, 2), elastic.draw_warp(2, SIZE, torch.Generator().manual_seed(0))
        assert torch.equal(elastic.apply(x, still, warp), move(x, still, warp=warp))
        assert not torch.equal(elastic.apply(x, still, warp), elastic.apply(x, still))

    def test_is_a_motion_that_blurs(self):
        assert Augmentation(elastic=1.0).moves
        assert not Augmentation(elastic=1.0, interpolation="nearest").whole_pixels


def test_places_are_those_of_affine_grid():
    affine = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    for height, width in ((32, 32), (28, 13)):
        theirs = F.affine_grid(affine, [7, 1, height, width], align_corners=False)
        ours = places(affine, height, width).permute(0, 2, 3, 1)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_warp_is_as_smooth_as_interpolate():
    warp = torch.randn(7, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    for size in ((32, 32), (28, 13)):
        theirs = F.interpolate(warp, size, mode="bicubic", align_corners=True)
        torch.testing.assert_close(smooth(warp, *size), theirs, rtol=0, atol=1e-6)


MOST = 70
AFFINE = {"rotation": 10, "zoom": 0.1, "translation": 2.5, "horizontal_flip": 0.5}
WHOLE_PIXELS = {"interpolation": "nearest", "translation": 2.5, "horizontal_flip": 0.5}
CHANGES = [
    *({name: value} for name, value in AFFINE.items()),
    {"elastic": 1.0},
    {"cutout": 7},
    WHOLE_PIXELS,
    *(
        AFFINE | {"elastic": 1.0, "cutout": 8, "interpolation": interpolation, "padding": padding}
        for interpolation in ("bilinear", "nearest")
        for padding in ("zeros", "border", "reflection")
    ),
    *(WHOLE_PIXELS | {"cutout": 7, "padding": padding} for padding in ("border", "reflection")),
]


class Augmented:
    """What an augmentation makes of the parts of a batch."""

    def __init__(self, options: dict, channels: int = 1) -> None:
        self.augmentation = augmentation = Augmentation(**options)
        generator = torch.Generator().manual_seed(0)
        self.images = images(MOST, channels)
        self.maps = augmentation.draw(MOST, SIZE, generator)
        warp = augmentation.draw_warp(MOST, SIZE, generator)
        self.warp = warp if augmentation.elastic else None
        self.corners = augmentation.draw_corners(MOST, SIZE, generator)

    def of(self, first: int, last: int) -> torch.Tensor:
        x, maps, corners = (i[first:last] for i in (self.images, self.maps, self.corners))
        warp = None if self.warp is None else self.warp[first:last]
        if self.augmentation.moves:
            x = self.augmentation.apply(x, maps, warp)
        return cut_out(x, corners, self.augmentation.cutout) if self.augmentation.cutout else x

    def in_parts(self, *bounds: int) -> torch.Tensor:
        ends = [*bounds, MOST]
        return torch.cat([self.of(a, b) for a, b in zip([0, *bounds], ends, strict=True)])


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("options", CHANGES, ids=str)
def test_an_image_does_not_depend_on_its_neighbours(options):
    """Not in the last bit: a sum or a matrix product of a batch is rounded as its size wants."""
    augmented = Augmented(options)
    alone = augmented.in_parts(*range(1, MOST))
    assert not torch.equal(alone, augmented.images)
    for size in range(2, MOST + 1):
        assert torch.equal(augmented.in_parts(*range(size, MOST, size)), alone), size


# A matrix product gives the same on some processors: this finds it on all.
@pytest.mark.parametrize("options", CHANGES, ids=str)
def test_no_operator_that_rounds_by_the_batch(options):
    augmented = Augmented(options)
    assert inexact_operators(lambda: augmented.of(0, MOST)) == set()
    generator = torch.Generator()
    assert inexact_operators(lambda: augmented.augmentation.draw(9, SIZE, generator)) == set()


def test_operators_that_round_by_the_batch_are_found():
    x = torch.rand(3, 3)
    assert inexact_operators(lambda: x @ x) == {"matmul", "mm"}
    assert inexact_operators(lambda: x.clone().exp_()) == {"exp"}


@settings(max_examples=40, deadline=None)
@given(
    options=st.sampled_from(CHANGES),
    channels=st.sampled_from([1, 3]),
    bounds=st.sets(st.integers(1, MOST - 1)).map(sorted),
)
@example(CHANGES[-3], 1, [1, 4, 5])
@example(CHANGES[-3], 3, [3, 64, 65])
def test_any_division_into_batches_gives_the_same_images(options, channels, bounds):
    augmented = Augmented(options, channels)
    assert torch.equal(augmented.in_parts(*bounds), augmented.of(0, MOST))


def test_draws_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    maps = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        maps.append(draw(Augmentation(**AFFINE), 70_001))
    torch.set_num_threads(before)
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[0], maps[2])


# What torch and MKL take on other processors; each is another order of sums.
PROCESSORS = [
    {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OMP_NUM_THREADS": "2"},
    {"ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512"},
]


@pytest.mark.nightly
@pytest.mark.parametrize("variables", PROCESSORS, ids=lambda v: v["ATEN_CPU_CAPABILITY"])
def test_on_other_processors(variables):
    tests = "neighbours or division or position or share_every or steps_per_execution"
    where = ("tests/data", "tests/networks/test_lenet5.py", "tests/robustness")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", tests, *where]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | variables, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 33), width=st.integers(1, 33))
def test_mean_of_each_channel(height, width):
    x = torch.rand(2, 3, height, width)
    torch.testing.assert_close(pixel_mean(x), x.double().mean((2, 3), keepdim=True).float())


@pytest.mark.parametrize("length", [1, 5, 28, 32])
def test_a_curve_passes_through_its_own_point(length):
    curves = bicubic_curves(5, length, torch.device("cpu"))
    assert curves.shape == (5, length)
    torch.testing.assert_close(curves.sum(0), torch.ones(length))
    if length == 5:
        torch.testing.assert_close(curves, torch.eye(5))


def test_functions_of_numpy_are_rounded_once():
    x = torch.linspace(-3, 3, 1001)
    for function in (np.exp, np.cos, np.arctan):
        ours = by_numpy(function, x)
        assert ours.dtype == torch.float32
        exact = torch.tensor([function(float(value)) for value in x]).float()
        assert torch.equal(ours, exact)
