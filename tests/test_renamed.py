"""Old import paths in configurations."""

import lenet_lightning
from lenet_lightning.renamed import CLASS_PATHS, current


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
