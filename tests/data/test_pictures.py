"""The user's own pictures, brought to the form of the training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.pictures import Pictures, prepare
from lenet_lightning.errors import UserError

SPEC = InputSpec("MNIST", 1, 28, tuple("0123456789"), (0.1,), (0.3,))


class TestPictures:
    """What of the contract makes sense for pictures without labels."""

    @pytest.fixture
    def data(self) -> Pictures:
        for i, size in enumerate([(28, 28), (50, 20), (3, 9)]):
            Image.new("L", size, 50 * (i + 1)).save(f"{i}.png")
        return Pictures("*.png", eval_batch_size=2)

    @pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (1, 8)])
    def test_evaluation(self, data: Pictures, channels: int, size: int) -> None:
        data.read(InputSpec("X", channels, size, ("a", "b"), (0.5,) * channels, (1.0,) * channels))
        batches = list(data.predict_dataloader())
        assert [len(b.labels) for b in batches] == [2, 1]
        images = torch.cat([b.images for b in batches])
        assert images.shape == (3, channels, 32, 32) and images.dtype == torch.float32
        assert images[:, 0, 16, 16].tolist() == pytest.approx([50 / 255, 100 / 255, 150 / 255])
        assert torch.equal(torch.cat([b.negatives for b in batches]), 1 - images)
        assert torch.cat([b.position for b in batches]).tolist() == [0, 1, 2]

    def test_in_the_order_of_their_names(self, data: Pictures) -> None:
        assert [str(path) for path in data.files] == ["0.png", "1.png", "2.png"]

    def test_none(self) -> None:
        with pytest.raises(UserError, match=r"data.root is nowhere: expected a picture"):
            Pictures("nowhere")


class TestPrepare:
    def test_square_of_its_border_colour(self) -> None:
        picture = Image.new("L", (20, 10), 250)
        picture.paste(0, (5, 3, 15, 7))
        array = prepare(picture, 28)
        assert array.shape == (1, 28, 28) and array.dtype == np.uint8
        assert (array[0, 0] == 250).all() and (array[0, -1] == 250).all()
        assert array[0, 14, 14] < 30

    @pytest.mark.parametrize("size", [(20_000, 800), (1, 40_000)])
    def test_a_long_thin_picture_takes_no_more_memory_than_others(self, size) -> None:
        array = prepare(Image.new("RGB", size, (1, 2, 3)), 32)
        assert array.reshape(3, -1).max(1).tolist() == [1, 2, 3]

    def test_right_size_is_left_alone(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
        np.testing.assert_array_equal(prepare(Image.fromarray(pixels), 28)[0], pixels)

    @pytest.mark.parametrize("side", [17, 60])
    def test_resized_with_the_filter_of_lanczos(self, side: int) -> None:
        """Three lobes, widened where the picture gets smaller; Pillow rounds after each axis."""
        pixels = np.random.default_rng(0).integers(60, 190, (side, side), np.uint8)
        scale = side / 28
        centres = (np.arange(28) + 0.5) * scale - 0.5
        x = (np.arange(side) - centres[:, None]) / max(scale, 1)
        weights = np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
        weights /= weights.sum(1, keepdims=True)
        ours = prepare(Image.fromarray(pixels), 28)[0]
        np.testing.assert_allclose(ours, weights @ pixels @ weights.T, atol=1.5)

    def test_colour_is_channel_first(self) -> None:
        array = prepare(Image.new("RGB", (9, 9), (10, 20, 30)), 32)
        assert array.shape == (3, 32, 32)
        assert [int(channel.mean()) for channel in array] == [10, 20, 30]

    @pytest.mark.parametrize(("ink", "paper"), [(0, 255), (255, 0)])
    def test_transparency(self, ink: int, paper: int) -> None:
        """What is transparent is not ink, whether the ink is black or white."""
        drawing = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
        drawing.paste((ink, ink, ink, 255), (2, 2, 6, 6))
        drawing.save("drawing.png")
        module = Pictures("drawing.png", find_digit=False)
        module.read(SPEC)
        pixels = module.pixels[0, 0, 2:-2, 2:-2].int()
        assert abs(pixels[0, 0] - paper) < 5 and abs(pixels[14, 14] - ink) < 40

    def test_orientation(self) -> None:
        """A photograph is read as the camera was held."""
        picture = Image.new("L", (28, 28))
        picture.paste(255, (0, 0, 28, 9))
        exif = picture.getexif()
        exif[0x0112] = 3  # upside down
        picture.save("turned.jpg", exif=exif, quality=100)
        module = Pictures("turned.jpg", find_digit=False)
        module.read(SPEC)
        pixels = module.pixels[0, 0, 2:-2, 2:-2].float()
        assert pixels[:14].mean() < 60 < 100 < pixels[-9:].mean()
