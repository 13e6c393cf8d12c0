"""Every alteration keeps shape, type and range, and depends on the image's position alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lenet_lightning.data.polarity import negate
from lenet_lightning.robustness import corruptions
from lenet_lightning.robustness.corruptions import CORRUPTIONS
from lenet_lightning.robustness.draws import Draws
from lenet_lightning.robustness.perturbations import LEVELS, Level
from tests.rounding import inexact_operators

RANDOM = (
    "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "rotate", "translate",
    "fog", "spatter", "dotted_line", "zigzag",
)  # fmt: skip


def pictures(channels: int = 1, count: int = 12) -> Tensor:
    """Soft blots on black, and one picture each of black and of white."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, channels, 32, 32, generator=generator)
    images = (corruptions.blur(images, 2) * 8 - 3.5).clamp(0, 1)
    images[1], images[2] = 0, 1
    return images


def level(perturbation: str, wanted: float | str) -> Level:
    return next(x for x in LEVELS if (x.perturbation, x.level) == (perturbation, wanted))


def draws(count: int = 12, seed: int = 0) -> Draws:
    return Draws((seed,), 0, count)


def test_levels() -> None:
    counts = {"contrast": 21, "brightness": 11, "inversion": 9, "corruption": 17}
    kinds = [x.perturbation for x in LEVELS]
    assert {kind: kinds.count(kind) for kind in kinds} == counts
    assert len({x[:2] for x in LEVELS}) == len(LEVELS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("each", LEVELS, ids=lambda x: f"{x.perturbation}-{x.level}")
def test_contract(each: Level, channels: int) -> None:
    images = pictures(channels)
    before = images.clone()
    altered = each.apply(images, seed=3)
    assert torch.equal(images, before), "the images are left alone"
    assert altered.shape == images.shape and altered.dtype == torch.float32
    assert altered.min() >= 0 and altered.max() <= 1
    assert torch.equal(altered, each.apply(images, seed=3))
    for size in (1, 3, 5):
        parts = [each.apply(images[i : i + size], 3, i) for i in range(0, len(images), size)]
        assert torch.equal(torch.cat(parts), altered)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_depends_on_its_position_alone(name: str, threads: int) -> None:
    """Whatever the batch and the number of threads, to the last bit."""
    images, each = pictures(count=70), level("corruption", name)
    whole, before = each.apply(images, 3), torch.get_num_threads()
    torch.set_num_threads(threads)
    for size in (1, 7, 33, 69, 70):
        parts = [each.apply(images[i : i + size], 3, i) for i in range(0, 70, size)]
        assert torch.equal(torch.cat(parts), whole)
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_is_random(name: str) -> None:
    images = pictures()[:1].expand(12, -1, -1, -1)
    each = level("corruption", name)
    altered = each.apply(images, seed=0)
    varies = not torch.equal(altered, altered[:1].expand_as(altered))
    assert varies == (name in RANDOM), "from image to image"
    assert torch.equal(altered, each.apply(images, seed=1)) == (name not in RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_no_operator_that_rounds_by_the_batch(name: str) -> None:
    images, each = pictures(3), level("corruption", name)
    found = inexact_operators(lambda: each.apply(images, 3))
    assert found - ({"sum"} if name == "shot_noise" else set()) == set()  # it counts there


def test_contrast() -> None:
    images = pictures(3)
    for step in range(-10, 11):
        c = step / 10
        expected = 0.5 + c * (images - 0.5)
        assert torch.allclose(level("contrast", c).apply(images, 0), expected, atol=1e-6)
    assert torch.equal(level("contrast", 1.0).apply(images, 0), images)
    assert torch.equal(level("contrast", -1.0).apply(images, 0), negate(images))
    assert torch.equal(CORRUPTIONS["inverse"](images, draws()), negate(images))


def test_brightness() -> None:
    images = pictures()
    for step in range(-5, 6):
        expected = (images + step / 10).clamp(0, 1)
        assert torch.equal(level("brightness", step / 10).apply(images, 0), expected)
    # On grey images, MNIST-C's brightness is the brightest of these.
    brightest = level("brightness", 0.5).apply(images, 0)
    assert torch.allclose(CORRUPTIONS["brightness"](images, draws()), brightest, atol=1e-6)


def test_brightness_keeps_hue_and_saturation() -> None:
    colours = torch.tensor([[0.2, 0.1, 0.0], [0.0, 0.0, 0.0], [0.8, 0.4, 0.8]])
    images = colours.view(3, 3, 1, 1).expand(-1, -1, 32, 32)
    brighter = CORRUPTIONS["brightness"](images, draws(3))[:, :, 0, 0]
    expected = torch.tensor([[0.7, 0.35, 0.0], [0.5, 0.5, 0.5], [1.0, 0.5, 1.0]])
    assert torch.allclose(brighter, expected, atol=1e-6)


def test_inversion() -> None:
    images = pictures(3)
    for eighths in range(9):
        altered = level("inversion", eighths / 8).apply(images, 0)
        assert torch.equal(altered[..., : 4 * eighths], 1 - images[..., : 4 * eighths])
        assert torch.equal(altered[..., 4 * eighths :], images[..., 4 * eighths :])


def test_noise() -> None:
    grey = torch.full((20, 1, 32, 32), 0.4)
    shot = CORRUPTIONS["shot_noise"](grey, draws(20))
    for photons, chance in enumerate(math.exp(-1.2) * 1.2**k / math.factorial(k) for k in range(3)):
        share = ((shot * 3).round() == photons).float().mean()
        assert abs(float(share) - chance) < 0.02
    impulse = CORRUPTIONS["impulse_noise"](grey, draws(20))
    for value in (0, 1):
        assert abs(float((impulse == value).float().mean()) - 0.085) < 0.01
    assert ((impulse == 0) | (impulse == 1) | (impulse == grey)).all()


def test_moves() -> None:
    dot = torch.zeros(40, 1, 32, 32)
    dot[:, :, 15:17, 23:25] = 1  # 8 pixels right of the centre

    def centre(images: Tensor) -> Tensor:
        place = torch.arange(32) - 15.5
        total = images.sum((1, 2, 3))
        return (
            torch.stack([(images.sum((1, 2)) * place).sum(1), (images.sum((1, 3)) * place).sum(1)])
            / total
        )

    shifted = centre(CORRUPTIONS["translate"](dot, draws(40)))
    assert torch.allclose(
        (shifted - torch.tensor([[8.0], [0.0]])).abs(), torch.tensor(3.0), atol=0.01
    )
    x, y = centre(CORRUPTIONS["rotate"](dot, draws(40)))
    assert torch.allclose(x, torch.tensor(8 * math.cos(0.4)), atol=0.1)
    assert torch.allclose(y.abs(), torch.tensor(8 * math.sin(0.4)), atol=0.1)
    x, y = centre(CORRUPTIONS["scale"](dot, draws(40)))
    assert torch.allclose(x, torch.tensor(8 * 0.7), atol=0.1) and y.abs().max() < 0.01
    x, y = centre(CORRUPTIONS["shear"](dot.mT, draws(40)))  # 8 pixels below the centre
    assert torch.allclose(x.abs(), torch.tensor(8 * math.tan(0.4)), atol=0.1)
    assert torch.allclose(y, torch.tensor(8 / math.cos(0.4)), atol=0.1)


def test_stripe() -> None:
    images = pictures()
    altered = CORRUPTIONS["stripe"](images, draws())
    assert torch.equal(altered[..., 8:24], images[..., 8:24])
    for side in (slice(8), slice(24, 32)):
        assert torch.equal(altered[..., side], 1 - images[..., side])


@pytest.mark.parametrize("name", ["glass_blur", "motion_blur"])
def test_blurs_keep_what_is_even(name: str) -> None:
    grey = torch.full((5, 3, 32, 32), 0.3)
    assert torch.allclose(CORRUPTIONS[name](grey, draws(5)), grey, atol=1e-5)
    blurred = CORRUPTIONS[name](pictures(), draws())
    steps = [(x[..., 1:] - x[..., :-1]).abs().mean() for x in (blurred, pictures())]
    assert steps[0] < steps[1]


def test_motion_blur_is_one_sided() -> None:
    dot = torch.zeros(30, 1, 32, 32)
    dot[:, :, 16, 16] = 1
    blurred = CORRUPTIONS["motion_blur"](dot, draws(30))
    assert blurred[..., 17:].sum() == 0 and (blurred[..., 16] > 0).any()
    assert torch.allclose(blurred.sum((1, 2, 3)), torch.tensor(1.0), atol=1e-5)


def test_blur_is_gaussian() -> None:
    dot = torch.zeros(1, 1, 32, 32)
    dot[..., 16, 16] = 1
    blurred = corruptions.blur(dot, 1.0)[0, 0]
    assert abs(float(blurred[16, 16]) - 1 / (2 * math.pi)) < 1e-3
    assert abs(float(blurred[15, 16] / blurred[16, 16]) - math.exp(-0.5)) < 1e-5
    assert torch.allclose(blurred, blurred.T)


def test_fog_keeps_the_brightest_value() -> None:
    images = 0.5 * pictures()
    foggy = CORRUPTIONS["fog"](images, draws())
    assert (foggy.amax((1, 2, 3)) <= images.amax((1, 2, 3)) + 1e-6).all()
    assert foggy[1].max() == 0, "a black image has no value to reach"
    patterns = corruptions.fog_patterns((0,), 32)
    assert patterns.shape == (corruptions.FOG_MAPS, 32, 32)
    assert patterns.min() >= 0 and patterns.max() <= 1
    rough, smooth = patterns.diff(dim=2).abs().mean(), patterns.std((1, 2)).mean()
    assert rough < smooth, "neighbours are alike"


def test_spatter_is_dark_grey() -> None:
    white = torch.ones(20, 3, 32, 32)
    muddy = CORRUPTIONS["spatter"](white, draws(20))
    assert 0.02 < float((muddy < 1).float().mean()) < 0.5
    assert muddy.min() >= 63 / 255 - 1e-6
    assert torch.equal(muddy[:, 0], muddy[:, 2]), "channels share the mud"


@pytest.mark.parametrize("name", ["dotted_line", "zigzag"])
def test_lines_are_drawn_on_top(name: str) -> None:
    black = torch.zeros(30, 3, 32, 32)
    drawn = CORRUPTIONS[name](black, draws(30))
    assert (drawn.amax((1, 2, 3)) > 0.5).all()
    assert 0.02 < float((drawn > 0.5).float().mean()) < 0.15
    images = pictures()
    assert (CORRUPTIONS[name](images, draws()) >= images).all()


def test_dotted_line_has_gaps() -> None:
    drawn = CORRUPTIONS["dotted_line"](torch.zeros(30, 1, 32, 32), draws(30))
    bright = drawn.amax((0, 1, 2)) > 0
    assert bright.tolist() == [column // 2 % 2 == 1 and column < 31 for column in range(32)]


def test_zigzag_turns() -> None:
    drawn = CORRUPTIONS["zigzag"](torch.zeros(30, 1, 32, 32), draws(30))
    assert (drawn[..., 2:28].amax((0, 1, 2)) > 0.5).all()
    # Rows of the brightest pixels go up and down by four about a line.
    rows = drawn[:, 0, :, 4:28].argmax(1).float()
    changes = rows.diff(dim=1).sign()
    assert ((changes > 0).sum(1) >= 5).float().mean() > 0.8
    assert ((changes < 0).sum(1) >= 5).float().mean() > 0.8


def test_canny_outlines() -> None:
    square = torch.zeros(1, 1, 32, 32)
    square[..., 10:22, 10:22] = 1
    edges = CORRUPTIONS["canny_edges"](square, draws(1))[0, 0]
    assert set(edges.unique().tolist()) == {0, 1}
    assert edges[13:19, 13:19].sum() == 0 and edges[:8].sum() == 0
    for row in (edges[16], edges[:, 16]):
        assert row[8:12].sum() in (1, 2) and row[20:24].sum() in (1, 2)


def test_canny_follows_weak_edges() -> None:
    """A step that fades along its length is drawn as far as it is weak, where it starts strong."""
    fading = torch.zeros(2, 1, 32, 32)
    # Of a step of height h blurred with sigma 1, the gradient is about 2.9 h.
    fading[..., 16:] = torch.linspace(0.10, 0.04, 32).view(32, 1)
    fading[1] *= 0.6  # weak everywhere
    edges = CORRUPTIONS["canny_edges"](fading, draws(2))
    assert edges[0, 0, 1:-1].amax(1).sum() > 25
    assert edges[1].sum() == 0
