"""Networks of the package and of the user's own, constructed and checked."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from lenet_lightning.errors import UserError
from lenet_lightning.networks import build
from lenet_lightning.networks.lenet5 import LeNet5
from lenet_lightning.networks.lenet5_1998 import OriginalLeNet5


class Lazy(nn.Module):
    """Batch normalisation, dropout and a layer that learns its size from the first images."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels), nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


@pytest.mark.parametrize(
    "make", [Lazy, LeNet5, OriginalLeNet5, partial(LeNet5, initializer="default")]
)
def test_weights_depend_on_the_seed_alone(make: build.NetworkCallable) -> None:
    state = torch.get_rng_state()
    one = build.build(make, 3, 7, seed=1)
    torch.rand(5)
    two, other = build.build(make, 3, 7, seed=1), build.build(make, 3, 7, seed=2)
    assert one.training
    same, different = (
        [torch.equal(a, b) for a, b in zip(one.parameters(), each.parameters(), strict=True)]
        for each in (two, other)
    )
    assert all(same) and not all(different)
    torch.set_rng_state(state)
    build.build(make, 3, 7, seed=1)
    assert torch.equal(torch.get_rng_state(), state), "the seed of others is left alone"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda channels, classes: nn.Flatten(), r"makes \[2, 3072\].* expected logits \[2, 7\]"),
        (lambda channels, classes: nn.AvgPool2d(9), r"AvgPool2d makes \[2, 3, 3, 3\]"),
        (
            lambda channels, classes: nn.Linear(5, classes),
            r"Linear fails on images \[2, 3, 32, 32\]",
        ),
        (lambda channels, classes: 5, "makes a int: expected a torch.nn.Module"),
        (lambda channels: nn.Flatten(), "cannot be constructed for 3 channels and 7 classes: Type"),
        (partial(LeNet5, activation="none"), "cannot be constructed .* unknown activation none"),
        (lambda channels, classes: Pool(classes), "Pool has no parameters to train"),
        (lambda channels, classes: Pool(classes, tuple), "makes tuple of images"),
        (lambda channels, classes: Pool(classes, torch.Tensor.int), "makes .* expected logits"),
    ],
)
def test_what_is_no_network(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build.build(make, 3, 7, seed=0)


class Pool(nn.Module):
    def __init__(self, classes: int, kind: Callable[..., Any] = torch.Tensor.float) -> None:
        super().__init__()
        self.classes, self.kind = classes, kind

    def forward(self, images: torch.Tensor) -> Any:
        return self.kind(images.flatten(1)[:, : self.classes])


class TestDescriptions:
    def test_rebuild_a_network(self) -> None:
        network = LeNet5(3, 7, "tanh", dropout=0.5, kernel="torch")
        described = build.describe(network)
        assert described["class_path"] == "lenet_lightning.LeNet5"
        assert {"activation": "tanh", "dropout": 0.5}.items() <= described["init_args"].items()
        again = build.from_description(described, kernel="auto")(3, 7)
        assert again.arguments == network.arguments | {"kernel": "auto"}

    def test_name_a_class_that_must_be_allowed(self) -> None:
        path = f"{__name__}.Lazy"
        assert build.describe(Lazy(1, 2))["class_path"] == path
        for imports in ((), (f"{__name__}.Laz",), ("tests.network",)):
            with pytest.raises(UserError, match=f"add --allow_imports {path}"):
                build.from_description({"class_path": path}, imports)
        for imports in ((path,), (__name__,), ("tests",)):
            made = build.from_description({"class_path": path}, imports, kernel="torch")(1, 2)
            assert isinstance(made, Lazy)

    @pytest.mark.parametrize(
        ("path", "said"), [("tests.nothing.Net", "not there"), ("tests.networks", "not there")]
    )
    def test_name_a_class_that_is_not_there(self, path: str, said: str) -> None:
        with pytest.raises(UserError, match=said):
            build.from_description({"class_path": path}, ["tests"])

    def test_of_another_form(self) -> None:
        with pytest.raises(UserError, match=r"init_args of lenet_lightning\.LeNet5 is 5"):
            build.from_description({"class_path": "lenet_lightning.LeNet5", "init_args": 5})
        with pytest.raises(UserError, match=r"model\.network is None"):
            build.from_description({})
