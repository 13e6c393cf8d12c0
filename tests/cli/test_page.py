"""The page to draw on: its numbers are torch's, and it works with mouse, keyboard and telephone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lenet_lightning import LeNet5, load
from lenet_lightning.cli import page as pages
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.find_digit import Layout, find
from lenet_lightning.errors import UserError
from lenet_lightning.networks.build import with_scaling
from lenet_lightning.training.trained import TrainedNetwork
from tests.browser import Page
from tests.conftest import Run

BEST = "lightning_logs/trained/version_0/checkpoints/best.ckpt"
DIGITS = InputSpec("Digits", 1, 8, tuple("0123456789"), (0.3,), (0.4,))


def data_of(path: Path) -> dict[str, Any]:
    """Return the data in a page."""
    text = path.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def untrained(
    channels: int = 1, size: int = 32, mean: Any = (), std: Any = (), **options: Any
) -> TrainedNetwork:
    """A network of random weights, whose answers differ for every option."""
    torch.manual_seed(0)
    network = LeNet5(channels, initializer="default", **options)
    if mean:
        with_scaling(network, mean, std)
    name = "CIFAR10" if channels == 3 else "Digits"
    spec = InputSpec(name, channels, size, tuple("0123456789"), (0.0,), (1.0,))
    return TrainedNetwork(network, spec)


class TestCommand:
    def test_of_a_checkpoint(self, run: Run, trained: Path) -> None:
        done = run(f"export --ckpt_path {BEST} --format html")
        assert done.code == 0, done.err
        data = data_of(trained / "checkpoints" / "best.html")
        assert data["layout"] == {"size": 8, "box": 8} and data["labels"] == list(range(10))
        assert len(data["networks"]) == 1  # the package has none for Digits
        assert len(data["samples"]) == 10

    def test_of_the_package_without_test_images(self, run: Run) -> None:
        done = run("export --pretrained mnist --format html")
        assert done.code == 0 and "MNIST is not on this disk" in done.out
        data = data_of(Path("mnist.html"))
        assert [each["invariance"] for each in data["networks"]] == ["none", "absolute"]
        assert data["samples"] == []
        text = Path("mnist.html").read_text()
        assert "http" not in text.replace("http-equiv", "")  # nothing is fetched

    def test_the_other_network_can_be_chosen(self, run: Run, trained: Path) -> None:
        command = f"export --ckpt_path {BEST} --format html --output a.html"
        assert run(command, f"--beside {BEST}").code == 0
        assert len(data_of(Path("a.html"))["networks"]) == 2
        refused = run(command.replace("a.html", "b.html"), "--beside mnist")
        assert refused.code == 2 and "--beside mnist was trained on MNIST" in refused.err

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ("--format html", "either --ckpt_path"),
            (f"--format html --pretrained mnist --ckpt_path {BEST}", "either --ckpt_path"),
            ("--format html --pretrained mnits", "did you mean mnist"),
            ("--format html --pretrained cifar10_polarity", "There is no test image of CIFAR10"),
            ("--format safetensors --pretrained mnist", "safetensors file already"),
            ("--format onnx --pretrained mnist", "give --ckpt_path"),
        ],
    )
    def test_refused(self, run: Run, options: str, part: str) -> None:
        refused = run(f"export {options}")
        assert refused.code == 2 and part in refused.err and not list(Path().glob("*.html"))


def test_other_networks_are_refused() -> None:
    with pytest.raises(UserError, match="LeNet-5 only"):
        pages.write([TrainedNetwork(torch.nn.Flatten(), DIGITS)], None)


def test_the_first_sample_is_one_whose_negative_alone_is_misclassified() -> None:
    class Brightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            light = images.mean((1, 2, 3)) > 0.5
            return torch.nn.functional.one_hot(light.long(), 2).float()

    spec = InputSpec("mine", 1, 32, ("dark", "light"), (0.0,), (1.0,))
    images = np.stack([np.full((1, 32, 32), value, np.uint8) for value in (250, 240, 10)])
    assert pages.telling(TrainedNetwork(Brightness(), spec), images, [0, 1, 0]) == 1


def test_class_names_cannot_leave_their_script() -> None:
    spec = InputSpec("Digits", 1, 8, ("</script><b>", *"123456789"), (0.3,), (0.4,))
    Path("a.html").write_bytes(pages.write([TrainedNetwork(LeNet5(), spec)], None))
    assert data_of(Path("a.html"))["classes"][0] == "</script><b>"


@pytest.fixture
def opened(page: Page) -> Page:
    """The page of the package's two networks of MNIST, with samples."""
    pixels = np.zeros((10, 1, 28, 28), np.uint8)
    for i in range(10):
        pixels[i, 0, 4:24, 8 + i % 3 : 12 + i] = 200
    plain, built = load("mnist"), load("mnist_polarity")
    Path("page.html").write_bytes(pages.write([built, plain], pages.Samples(pixels, [*range(10)])))
    page.open(Path("page.html"))
    return page


def answers(page: Page) -> list[list[str]]:
    """Return what is written for each network: drawing, contrast, negative."""
    return page.js(
        "return data.networks.map(n => n.cells.map(c => c.answer.firstChild.textContent.trim()))"
    )


STROKE = """
const [box, points] = [pad.getBoundingClientRect(), arguments[0]];
const send = (type, [x, y]) => pad.dispatchEvent(new PointerEvent(type, {
  pointerId: 1, clientX: box.left + x * box.width / 280, clientY: box.top + y * box.height / 280}));
pad.setPointerCapture = () => {};
send("pointerdown", points[0]);
points.slice(1).forEach(p => send("pointermove", p));
send("pointerup", points.at(-1));
return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())));
"""
SEVEN = [(60, 60), (190, 60), (120, 230)]


@pytest.mark.browser
class TestPage:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"activation": "silu", "conv_activation": "absolute", "mean": (0.5,), "std": (1.0,)},
            {"activation": "elu", "mean": (0.2,), "std": (0.3,)},
            {"activation": "tanh", "invariance": "averaged"},
            {"activation": "leaky_relu", "invariance": "absolute"},
            {"channels": 3, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)},
        ],
    )
    def test_numbers_are_torchs(self, page: Page, options: dict[str, Any]) -> None:
        """On 100 images, to 1e-4: logits, and the maps of the first layer."""
        network = untrained(**options)
        channels = network.spec.channels
        samples = pages.Samples(np.zeros((1, channels, 32, 32), np.uint8), [0])
        Path("page.html").write_bytes(pages.write([network], samples))
        page.open(Path("page.html"))
        images = torch.rand(100, channels, 32, 32, generator=torch.Generator().manual_seed(1))
        found = page.js(
            "const n = data.networks[0]; return arguments[0].map(x => [...logits(n, x)])",
            images.flatten(1).tolist(),
        )
        with torch.inference_mode():
            expected = network(images)
            maps = network.network.first_stage(images[:1])  # type: ignore[operator]
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
        first = page.js(
            "return [...firstStage(data.networks[0], arguments[0])]", images[0].flatten().tolist()
        )
        np.testing.assert_allclose(first, maps.flatten(), atol=1e-4, rtol=1e-4)
        assert page.errors() == []

    def test_drawing_is_laid_out_as_in_python(self, opened: Page) -> None:
        opened.js(STROKE, SEVEN)
        seen = np.array(opened.js("return [...current]")).reshape(32, 32)
        pixels = opened.js(
            "return [...pen.getImageData(0, 0, 280, 280).data].filter((_, i) => !(i % 4))"
        )
        drawn = Image.fromarray(np.array(pixels, np.uint8).reshape(280, 280))
        found = find(drawn, Layout(28, 20))
        assert found and found.reversed
        likeness = np.corrcoef(seen[2:-2, 2:-2].ravel(), found.image.ravel())[0, 1]
        assert likeness > 0.97
        rows = np.nonzero(seen[2:-2, 2:-2])[0]
        assert np.ptp(rows) + 1 == 20
        one = load("mnist").predict(drawn)
        assert answers(opened)[0] == [one.label, answers(opened)[0][1], one.negative.label]
        assert one.label == "7"

    def test_mouse_slider_samples_and_clear(self, opened: Page) -> None:
        opened.js(STROKE, SEVEN)
        plain, built = answers(opened)
        assert plain[0] == built[0] == built[2] == "7"
        move = (
            "const slider = byId('contrast'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input'))"
        )
        for value, column in ((1, 0), (-1, 2)):
            opened.js(move, value)
            assert [row[1] for row in answers(opened)] == [row[column] for row in answers(opened)]
        opened.js("byId('samples').children[4].click()")
        assert (
            opened.js("return byId('samples').children[4].getAttribute('aria-pressed')") == "true"
        )
        assert "for the negative" in opened.js("return byId('spoken').textContent")
        opened.js("byId('clear').click()")
        assert {text for row in answers(opened) for text in row} == {"\u2013"}
        assert opened.errors() == []

    def test_a_stroke_on_a_sample_begins_anew(self, opened: Page) -> None:
        opened.js("byId('samples').children[4].click()")
        opened.js(STROKE, SEVEN)
        assert answers(opened)[0][0] == "7"

    def test_keyboard(self, opened: Page) -> None:
        """A one is drawn and cleared without a mouse; everything can be reached by Tab."""
        from selenium.webdriver.common.keys import Keys

        pad = opened.driver.find_element("id", "pad")
        pad.send_keys(" ", *[Keys.ARROW_DOWN] * 16, " ")
        opened.js("return new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")
        assert answers(opened)[0][0] == "1"
        pad.send_keys(Keys.DELETE)
        assert answers(opened)[0][0] == "\u2013"
        reached = opened.js(
            "const all = [...document.querySelectorAll('#pad, button, input')];"
            "return all.every(each => each.tabIndex === 0)"
        )
        assert reached

    @pytest.mark.parametrize("width", [360, 768, 1280])
    @pytest.mark.parametrize("dark", [False, True])
    def test_nothing_is_cut_off(self, opened: Page, width: int, dark: bool) -> None:
        opened.open(Path("page.html"), width=width, dark=dark)
        assert opened.js("return document.documentElement.scrollWidth") <= width
        background = opened.js("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) < 200) == dark
        small = opened.js(
            "return [...document.querySelectorAll('button, input')].map(e => "
            "e.getBoundingClientRect()).filter(b => b.width < 24 || b.height < 24).length"
        )
        assert small == 0
