"""``load``: the trained networks of the package, checkpoints, run folders and exported files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

import lenet_lightning
from lenet_lightning import LeNet5, load
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.registry import DATASETS
from lenet_lightning.errors import UserError
from lenet_lightning.training import pretrained, weights
from lenet_lightning.training.trained import TrainedNetwork, as_picture
from tests.conftest import REPOSITORY, Run

BEST = "lightning_logs/trained/version_0/checkpoints/best.ckpt"


def seven() -> Image.Image:
    """A seven, dark on light, off centre."""
    picture = Image.new("RGB", (200, 150), (240, 235, 220))
    ImageDraw.Draw(picture).line([(110, 60), (160, 60), (130, 130)], (30, 30, 80), 8)
    return picture


class TestShipped:
    @pytest.mark.parametrize("name", weights.names())
    def test_each_is_small_has_a_card_and_describes_itself(self, name: str) -> None:
        path = weights.path_of(name)
        assert 240_000 < path.stat().st_size < 270_000
        network = load(name)
        facts = DATASETS[network.spec.name]
        assert network.classes == facts.classes and not network.training
        provenance = json.loads(network.facts["provenance"])
        assert provenance["digests"] == {file.name: file.digest for file in facts.files}
        card = path.with_suffix(".md").read_text()
        accuracy = json.loads(network.facts["figures"])["acc"]
        assert f"| originals | {accuracy:.2%} |" in card
        assert provenance["checkpoint_sha256"] in card
        recipe = card.partition("recipe | [`")[2].partition("`]")[0]
        assert (REPOSITORY / recipe).is_file()

    def test_names(self) -> None:
        built = {f"{name}_polarity" for name in ("mnist", "fashion_mnist", "cifar10")}
        assert {"mnist", *built} <= set(weights.names())

    def test_polarity_networks_give_a_negative_the_same_answer(self) -> None:
        for name in (n for n in weights.names() if n.endswith("_polarity")):
            network = load(name)
            images = torch.rand(4, network.spec.channels, 32, 32)
            torch.testing.assert_close(network(images), network(1 - images), atol=1e-4, rtol=1e-4)

    def test_a_misspelt_name(self) -> None:
        with pytest.raises(UserError, match="did you mean mnist"):
            load("mnits")


class TestLoad:
    def test_checkpoint_run_folder_and_exported_file_agree(self, run: Run, trained: Path) -> None:
        assert (
            run(f"export --ckpt_path {BEST} --format safetensors --output a.safetensors").code == 0
        )
        images = torch.rand(3, 1, 32, 32)
        expected = pretrained.load(BEST).network(images)
        for source in (BEST, Path(BEST), str(trained), trained, "a.safetensors"):
            network = load(source)
            torch.testing.assert_close(network(images), expected)
            assert network.spec.name == "Digits" and len(network.classes) == 10

    def test_nothing_there(self) -> None:
        for source in ("no/such.ckpt", "none.safetensors"):
            with pytest.raises(UserError, match="cannot be read"):
                load(source)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("network", "{}"),
            ("network", '{"class": "Other", "arguments": {}}'),
            ("network", '{"class": "LeNet5", "arguments": {"activation": "none"}}'),
            ("network", '{"class": "LeNet5", "arguments": {"in_channels": 3}}'),
            ("images", "[]"),
            ("images", '{"negate_border": true, "name": "MNIST"}'),
        ],
    )
    def test_files_that_were_changed(self, key: str, value: str) -> None:
        from safetensors.torch import save_file

        found = load("mnist")
        save_file(found.network.state_dict(), "changed.safetensors", found.facts | {key: value})
        with pytest.raises(UserError, match=r"changed\.safetensors do(es)? not .*describe"):
            load("changed.safetensors")

    def test_damaged_files(self) -> None:
        content = weights.path_of("mnist").read_bytes()
        for damaged in (b"", content[:1000], content[:-1], b"\xff" * 100):
            Path("damaged.safetensors").write_bytes(damaged)
            with pytest.raises(UserError, match=r"damaged\.safetensors cannot be read"):
                load("damaged.safetensors")


class TestPredict:
    def test_every_kind_of_picture(self) -> None:
        network, picture = load("mnist"), seven()
        picture.save("seven.png")
        pixels = np.asarray(picture)
        kinds = [
            "seven.png",
            Path("seven.png"),
            picture,
            pixels,
            pixels / 255,
            np.moveaxis(pixels, 2, 0),
            torch.from_numpy(pixels.copy()),
            torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255,
        ]
        found = network.predict(kinds)
        assert [each.label for each in found] == ["7"] * len(kinds)
        for each in found:
            assert each.probabilities == pytest.approx(found[0].probabilities, abs=1e-6)
            assert each.reversed is True

    def test_a_prediction(self) -> None:
        one = load("mnist").predict(seven())
        assert one.label == max(one.probabilities, key=lambda name: one.probabilities[name])
        assert one.probability == one.probabilities[one.label] > 0.9
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert one.seen.shape == (1, 32, 32) and one.seen.dtype == np.uint8
        assert one.negative and one.negative.negative is None
        np.testing.assert_array_equal(one.negative.seen, 255 - one.seen)

    def test_the_negative_leaves_the_padding_alone_where_it_did_in_training(self) -> None:
        network = TrainedNetwork(LeNet5(), load("mnist").spec, negate_border=False)
        one = network.predict(np.zeros((28, 28)), find_digit=False)
        assert one.negative
        assert one.negative.seen[0, 0, 0] == 0 and one.negative.seen[0, 16, 16] == 255

    def test_given_ink_and_whole_pictures(self) -> None:
        network = load("mnist")
        assert network.predict(seven(), ink="dark").reversed is True
        assert network.predict(ImageOps.invert(seven()), ink="light").reversed is False
        whole = network.predict(seven(), find_digit=False)
        assert whole.reversed is None and whole.seen[0, 2, 2] > 200

    def test_lists(self) -> None:
        network = load("mnist")
        assert network.predict([]) == []
        assert len(network.predict([seven()])) == 1

    def test_colour(self) -> None:
        one = load("cifar10_polarity").predict(seven())
        assert one.label in DATASETS["CIFAR10"].classes and one.seen.shape == (3, 32, 32)

    @pytest.mark.parametrize(
        ("given", "part"),
        [
            (np.zeros((2, 3, 4, 5)), "give several pictures as a list"),
            (np.zeros((0, 4)), "not a picture"),
            (np.full((4, 4), 2.0), r"expected \[0, 1\]"),
            (np.full((4, 4), np.nan), r"expected \[0, 1\]"),
            (np.full((4, 4), 300), "expected 0..255"),
            (3, "given as int"),
            ("no/such.png", "does not exist"),
        ],
    )
    def test_no_picture(self, given: object, part: str) -> None:
        with pytest.raises(UserError, match=part):
            as_picture(given)

    def test_sixteen_bits_and_truth_values(self) -> None:
        assert as_picture(np.eye(4, dtype=bool)).getpixel((0, 0)) == 255
        assert as_picture(np.full((4, 4), 7, np.int64)).getpixel((0, 0)) == 7


class TestCommands:
    def test_predict_without_a_checkpoint(self, run: Run) -> None:
        seven().save("seven.png")
        done = run("predict --data.root seven.png")
        assert done.code == 0 and done.out.splitlines()[2].split()[:3] == ["seven.png", "dark", "7"]
        assert Path("predictions.csv").is_file() and Path("predictions.png").is_file()

    def test_output(self, run: Run) -> None:
        seven().save("seven.png")
        Path("here").mkdir()
        for output, written in (("a.csv", "a.csv"), ("here", "here/predictions.csv")):
            assert run(f"predict --data.root seven.png --output {output}").code == 0
            assert Path(written).is_file() and Path(written).with_suffix(".png").is_file()

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ("predict --data.root seven.png --output old.csv", "old.csv, or its .png, exists"),
            ("predict --data.root seven.png --output no/a.csv", "there is no folder no"),
            ("predict --data.root seven.png --output a.txt", "expected a .csv file"),
            ("predict --data.root seven.png --pretrained mnits", "did you mean mnist"),
            (f"test --pretrained mnist --ckpt_path {BEST}", "keep one"),
            ("test --data MNIST", "--pretrained mnist"),
        ],
    )
    def test_refused(self, run: Run, options: str, part: str) -> None:
        seven().save("seven.png")
        Path("old.csv").touch()
        refused = run(options)
        assert refused.code == 2 and part in refused.err and refused.err.count("\n") == 1
        assert Path("old.csv").read_text() == ""


@pytest.mark.real_data
@pytest.mark.parametrize("name", weights.names())
def test_accuracy_is_that_of_the_card(run: Run, name: str) -> None:
    """``test --pretrained`` finds what the file says of itself."""
    figures = json.loads(load(name).facts["figures"])
    done = run(f"test --pretrained {name} --data.root {REPOSITORY / 'datasets'}")
    assert done.code == 0, done.err
    for row, key in (("originals", "acc"), ("negatives", "acc_negative")):
        shown = re.search(rf"^{row} +([\d.]+)%", done.out, re.MULTILINE)
        assert shown and float(shown[1]) / 100 == pytest.approx(figures[key], abs=3e-4)


def test_public_names() -> None:
    for name in ("LeNet5", "Classifier", "MNIST", "FashionMNIST", "CIFAR10", "Digits", "load"):
        assert name in dir(lenet_lightning) and getattr(lenet_lightning, name) is not None


def test_arguments_rebuild_a_network() -> None:
    given = LeNet5(3, 5, "silu", invariance="absolute", conv_activation="absolute").eval()
    again = LeNet5(3, 5, **json.loads(json.dumps(given.arguments))).eval()
    again.load_state_dict(given.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(again(images), given(images))


def test_a_title() -> None:
    spec = InputSpec("mine", 1, 28, ("a", "b"), (0.0,), (1.0,))
    assert "mine, 2 classes" in repr(TrainedNetwork(LeNet5(num_classes=2), spec))
