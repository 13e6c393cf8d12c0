"""Old import paths and keys in configurations."""

import copy

import pytest

import lenet_lightning
from lenet_lightning import renamed
from lenet_lightning.cli import lightning_cli, messages
from lenet_lightning.data.datasets import MNIST
from lenet_lightning.errors import UserError
from lenet_lightning.renamed import CLASS_PATHS, KEYS, current

OLD = {
    "model": {"dropout": 0.5},
    "data": {"class_path": "MNIST", "init_args": {"rotation": 9.0, "padding": "border", "fold": 1}},
}
NEW = {"augmentation": {"rotation": 9.0, "padding": "border"}, "fold": 1}


def test_every_new_path_is_a_public_class() -> None:
    for path in CLASS_PATHS.values():
        package, name = path.split(".")
        assert package == "lenet_lightning" and getattr(lenet_lightning, name).__name__ == name


def test_current_replaces_old_paths_only() -> None:
    old = "lenet_lightning.optimizers.Muon"
    config = {"model": {"optimizer": {"class_path": old, "lr": 0.1}}, "list": [old, "other", 1]}
    muon = "lenet_lightning.Muon"
    assert current(config) == {
        "model": {"optimizer": {"class_path": muon, "lr": 0.1}},
        "list": [muon, "other", 1],
    }


def test_current_moves_old_keys() -> None:
    before = copy.deepcopy(OLD)
    found = current(OLD)
    assert before == OLD
    network = {"class_path": "lenet_lightning.LeNet5", "init_args": {"dropout": 0.5}}
    data = {"class_path": "MNIST", "init_args": NEW}
    assert found == {"model": {"network": network}, "data": data}
    assert current(found) == found


@pytest.mark.parametrize("data", [None, 1, {"init_args": 1}, {"init_args": {"augmentation": 5}}])
def test_current_leaves_what_is_no_configuration(data: object) -> None:
    assert current({"data": data}) == {"data": data}
    assert current(data) == data


@pytest.mark.parametrize("trainer", [{}, {"gradient_clip_val": None}])
def test_an_old_value_moves_to_a_key_that_is_not_set(trainer: dict) -> None:
    stored = {"model": {"gradient_clip_val": 2.0}, "trainer": trainer}
    assert current(stored) == {"model": {}, "trainer": {"gradient_clip_val": 2.0}}


@pytest.mark.parametrize(("old", "new"), [("plain", "none"), ("absolute", "absolute")])
def test_old_values_become_those_of_today(old: str, new: str) -> None:
    network = current({"model": {"polarity": old}})["model"]["network"]
    assert network["init_args"] == {"invariance": new}
    assert renamed.overrides({"model.polarity": old}) == {"model.network.invariance": new}


def test_a_new_key_wins_over_its_old_one() -> None:
    config = {"data": {"rotation": 1, "augmentation": {"rotation": 2}}}
    assert current(config) == {"data": {"augmentation": {"rotation": 2}}}


def test_every_key_is_answered() -> None:
    for old, new in KEYS.items():
        for config in ({old: 1}, current_parent(old)):
            with pytest.raises(UserError, match=f"^{old} is now {new}: use the new name.$"):
                renamed.check({}, config)
        assert renamed.overrides({old: 1, "data.fold": 2}) == {new: 1, "data.fold": 2}
    renamed.check({"data": {"class_path": "MNIST", "init_args": NEW}})


def current_parent(key: str) -> dict:
    """A configuration that holds a dotted key."""
    group, name = key.rsplit(".", 1)
    return {group: {"class_path": "X", "init_args": {name: 1}}}


def test_every_new_key_is_an_option() -> None:
    config = lightning_cli.parse(["fit", "--data", "MNIST"])
    for new in KEYS.values():
        holder, name = renamed.parent(config, new)
        assert name in holder
    assert "augmentation.zoom" in list(messages.parameter_names(MNIST))
