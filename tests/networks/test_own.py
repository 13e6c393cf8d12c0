"""A network of the user's own goes the way of LeNet-5: training, resuming, test, study, export."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lenet_lightning import load
from lenet_lightning.errors import UserError
from lenet_lightning.store import checkpoints, run_folder
from tests.conftest import PLAIN, Run

OWN = "tests.networks.own"
ALLOWED = f"--allow_imports {OWN}"
FIT = f"{PLAIN} --model.network {OWN}.Net --model.network.width 3 --model.scaling standardized"


def folder(name: str) -> Path:
    return Path(f"lightning_logs/{name}/version_0")


def weights(name: str) -> dict[str, torch.Tensor]:
    return checkpoints.load(folder(name) / "checkpoints/last.ckpt")["state_dict"]


@pytest.fixture
def best(run: Run) -> Path:
    done = run(f"{FIT} {ALLOWED} --name own")
    assert done.code == 0, done.err
    return folder("own") / "checkpoints/best.ckpt"


def test_resumes_to_the_bit(run: Run, best: Path) -> None:
    assert run(f"{FIT} {ALLOWED} --name part --trainer.max_epochs 1").code == 0
    last = folder("part") / "checkpoints/last.ckpt"
    resumed = run(f"{FIT} {ALLOWED} --name rest --ckpt_path {last}")
    assert resumed.code == 0, resumed.err
    whole, rest = weights("own"), weights("rest")
    assert "network.layers.layers.1.running_mean" in whole
    assert all(torch.equal(whole[name], rest[name]) for name in whole | rest)
    refused = run(f"{FIT} {ALLOWED} --name other --ckpt_path {last} --model.network.width 5")
    assert refused.code == 2 and "model.network.width was 3 and is now 5" in refused.err


def test_is_tested_on_both_polarities(run: Run, best: Path) -> None:
    with np.load(folder("own") / "test_predictions.npz") as predictions:
        original, negative = predictions["original"], predictions["negative"]
    assert len(original) == len(negative) == 360 and (original != negative).any()
    tested = run(f"test --ckpt_path {best} {ALLOWED}")
    assert tested.code == 0 and "originals" in tested.out and "negatives" in tested.out
    with pytest.raises(UserError, match=f"--allow_imports {OWN}.Net"):
        load(best)
    network = load(best, imports=[OWN])
    with torch.inference_mode():
        assert network.network(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # onnx's exporter
@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_is_exported(run: Run, best: Path, kind: str) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    done = run(f"export --ckpt_path {best} --format {kind} {ALLOWED}")
    assert done.code == 0 and best.with_suffix(f".{kind}").exists(), done.err
    assert run(f"export --ckpt_path {best} --format {kind}").code == 2
    assert run(f"export --ckpt_path {best} --format html {ALLOWED}").code == 2


def test_is_studied(run: Run, best: Path) -> None:
    config = folder("own") / "config.yaml"
    study = f"study --config {config} --seeds 0-1 --dry_run"
    planned = run(f"{study} {ALLOWED}")
    assert planned.code == 0 and "seeds 0, 1" in planned.out, planned.err
    refused = run(study)
    assert refused.code == 2 and f"add --allow_imports {OWN}.Net" in refused.err


def test_is_refused_where_it_is_wrong_or_not_allowed(run: Run) -> None:
    for network, allowed, said in (
        ("Net", "", f"--allow_imports {OWN}.Net"),
        ("Features", ALLOWED, "Features makes [2, 1, 32, 32] of images"),
        ("Missing", ALLOWED, f"model.network is {OWN}.Missing, which is not known"),
    ):
        refused = run(f"{PLAIN} --model.network {OWN}.{network} {allowed}")
        assert refused.code == 2 and said in refused.err and refused.err.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_tensors_of_another_network_are_refused(run: Run, best: Path) -> None:
    checkpoint = torch.load(best, weights_only=True)
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, "cut.ckpt")
    refused = run(f"test --ckpt_path cut.ckpt {ALLOWED}")
    assert refused.code == 2 and "state_dict." in refused.err and "is missing" in refused.err
    assert run_folder.read(folder("own")).manifest.kernel == "torch"
