"""What the figures show."""

from __future__ import annotations

import numpy as np
import pytest

from lenet_lightning import plotting
from lenet_lightning.plotting import Curve, Panel

COLUMNS = (
    "train/acc",
    "train/loss",
    "val/acc",
    "val/loss",
    "val/acc_negative",
    "val/loss_negative",
)


def metrics(epochs: int, *more: str) -> dict[str, np.ndarray]:
    values = {name: np.linspace(0.5, 0.9, epochs) for name in (*COLUMNS, *more)}
    return {"epoch": np.arange(float(epochs)), **values}


def test_every_stage_is_drawn_on_both_polarities() -> None:
    test = [f"test/{kind}{suffix}" for kind in ("acc", "loss") for suffix in ("", "_negative")]
    figure = plotting.run_curves(metrics(5, *test), "title", best_epoch=3)
    stages = [[line.get_label() for line in axes.lines] for axes in figure.axes]
    assert [set(labels) & {"training", "validation", "test"} for labels in stages] == [
        {"training", "validation", "test"},
        {"validation", "test"},
    ] * 2


def test_the_best_epoch_is_marked_with_its_values() -> None:
    figure = plotting.run_curves(metrics(5), "title", best_epoch=3, test={"test/acc": 0.75})
    accuracy = figure.axes[0]
    assert accuracy.get_title() == "Accuracy on originals\nvalidation 80.00%, test 75.00%"
    points = np.concatenate([line.get_xydata() for line in accuracy.lines[-2:]])
    assert points == pytest.approx(np.array([[4, 0.8], [4, 0.75]]))


def test_a_test_far_from_the_curves_is_within_the_axes() -> None:
    figure = plotting.run_curves(metrics(5), "title", best_epoch=3, test={"test/acc": 0.01})
    plotting.to_pixels(figure)  # outside of them there would be no room left
    low, high = figure.axes[0].get_ylim()
    assert 0 <= low < 0.01 and high > 0.8


def test_losses_over_orders_of_magnitude_are_drawn_on_a_log_scale() -> None:
    values = metrics(3) | {"train/loss": np.array([1.0, 0.1, 0.01])}
    figure = plotting.run_curves(values, "title")
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear", "log", "linear"]


@pytest.mark.parametrize("values", [metrics(1), metrics(2) | {"val/loss": np.array([0.1, np.nan])}])
def test_one_epoch_or_a_missing_value_can_be_drawn(values: dict[str, np.ndarray]) -> None:
    picture = plotting.to_pixels(plotting.run_curves(values, "title", best_epoch=0))
    assert picture.dtype == np.uint8 and picture.shape == (700, 1000, 3)


def test_runs_that_ended_early_count_until_then() -> None:
    curves = [np.array([0.1, 0.2, 0.6]), np.array([0.3])]
    np.testing.assert_array_equal(plotting.side_by_side(curves)[1], [0.3, np.nan, np.nan])
    np.testing.assert_allclose(plotting.mean_curve(curves), [0.2, 0.2, 0.6])


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("classes", [2, 10, 30])
def test_pictures_of_any_channels_and_classes(channels: int, classes: int) -> None:
    names = [f"class {i}" for i in range(classes)]
    images = np.random.default_rng(0).random((classes, channels, 32, 32), np.float32)
    weight = images[:, :, :5, :5]
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    for figure in (
        plotting.samples(images, 1 - images, names),
        plotting.filters(weight, [""] * channels),
        plotting.confusion({"originals": counts, "negatives": counts}, names),
        plotting.captioned(images, names, "title"),
    ):
        picture = plotting.to_pixels(figure)
        assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 0


def test_the_kernels_are_drawn_with_a_gap_between_them() -> None:
    weight = np.arange(1, 25, dtype=np.float32).reshape(3, 2, 2, 2)
    axes = plotting.filters(weight, ["red", "green"]).axes[0]
    image = axes.images[0].get_array()
    assert image.shape == (5, 8) and np.array_equal(image[3:5, 6:8], weight[2, 1])
    assert not image[2].any() and not image[:, 2].any()
    assert axes.get_xticks().tolist() == [0.5, 3.5, 6.5]
    assert axes.get_yticks().tolist() == [0.5, 3.5]


def test_colours_are_shown_where_there_are_three_channels() -> None:
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 24
    for part, expected in ((images, images[1].transpose(1, 2, 0)), (images[:, :2], images[1, 0])):
        axes = plotting.captioned(part, ["a", "b"], "title").axes[1]
        assert np.array_equal(axes.images[0].get_array(), expected)


def test_a_figure_of_no_pictures_says_so() -> None:
    figure = plotting.captioned(np.zeros((0, 1, 32, 32), np.float32), [], "title")
    assert figure.get_suptitle() == "title: none"


def test_a_confusion_matrix_shows_the_shares_of_each_class() -> None:
    figure = plotting.confusion({"title": np.array([[3, 1], [0, 0]])}, ["a", "b"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25"]


def test_epochs_count_from_1_and_ranges_hold_every_run() -> None:
    panel = Panel("accuracy", [Curve("a", [np.array([0.2, 0.4]), np.array([0.4])])], band=True)
    axes = plotting.panels([[panel]]).axes[0]
    assert axes.lines[0].get_xydata().tolist() == pytest.approx(np.array([[1, 0.3], [2, 0.4]]))
    assert axes.collections[0].get_datalim(axes.transData).intervaly.tolist() == [0.2, 0.4]


@pytest.mark.parametrize("end", [0.0, 0.5, 1.0])
def test_no_accuracy_is_below_0(end: float) -> None:
    panel = Panel("accuracy", [Curve("a", [np.array([0.0, end])])])
    low, high = plotting.panels([[panel]]).axes[0].get_ylim()
    assert low == 0 and end < high <= 1.02
