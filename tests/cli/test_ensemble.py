"""``--ckpt_path`` with a pattern: several networks, each on its own and all as one."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
import torch

from lenet_lightning.__main__ import main
from lenet_lightning.cli import ensemble, summary
from lenet_lightning.data.batches import to_unit
from lenet_lightning.data.datamodule import InputSpec
from lenet_lightning.data.datasets import Digits
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.training import pretrained
from tests.conftest import PLAIN, Run

PATTERN = "lightning_logs/group/version_*/checkpoints/best.ckpt"
COUNT = 360  # test images of Digits


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parent of the run folders of three seeds with a penalty."""
    logs = tmp_path_factory.mktemp("logs")
    for seed in range(3):
        command = f"{PLAIN} --seed_everything {seed} --model.l2 0.001 --name group --logs {logs}"
        assert main(command.split()) == 0
    return logs / "group"


@pytest.fixture
def fitted(group: Path) -> None:
    """The folders, copied into the working directory."""
    shutil.copytree(group, "lightning_logs/group")


def mean_of_all() -> tuple[torch.Tensor, torch.Tensor]:
    """Mean probabilities of the test images ``[360, 10]``, and their labels."""
    data = Digits()
    data.setup()
    images = to_unit(data.test_images.pixels)
    networks = [pretrained.load(path).network for path in ensemble.members(PATTERN)]
    with torch.no_grad():
        probabilities = [network(images).softmax(1) for network in networks]
    return torch.stack(probabilities).mean(0), data.test_images.labels


class TestTest:
    def test_prints_each_their_mean_and_all_as_one(self, run: Run, fitted: None) -> None:
        tested = run(f"test --ckpt_path {PATTERN}")
        assert (tested.code, tested.err) == (0, "")
        assert f"3 checkpoints: Digits, {COUNT} images (test)" in tested.out
        accuracies = []
        for folder in sorted(Path("lightning_logs/group").iterdir()):
            manifest = run_folder.read(folder).manifest
            (evaluation,) = manifest.evaluations
            assert manifest.test.items() <= evaluation.items()
            accuracies.append(manifest.test["acc"])
            shown = f"{folder}/checkpoints/best.ckpt {accuracies[-1]:.2%}"
            assert shown in re.sub(" +", " ", tested.out)
        (mean,) = re.findall(r"^mean +([\d.]+)%", tested.out, re.M)
        assert float(mean) == pytest.approx(100 * sum(accuracies) / 3, abs=0.006)

    def test_the_ensemble_is_the_mean_of_the_probabilities(self, run: Run, fitted: None) -> None:
        tested = run(f"test --ckpt_path {PATTERN}").out
        probabilities, labels = mean_of_all()
        accuracy = float((probabilities.argmax(1) == labels).float().mean())
        own = probabilities[torch.arange(COUNT), labels].log().neg().mean()
        networks = [pretrained.load(path).network for path in ensemble.members(PATTERN)]
        weights = [p for n in networks for name, p in n.named_parameters() if "weight" in name]
        penalty = 0.001 * sum(float(p.detach().square().sum()) for p in weights) / len(networks)
        (line,) = re.findall(r"^ensemble +([\d.]+)% +[\d.]+% +([\d.]+)$", tested, re.M)
        assert float(line[0]) == pytest.approx(100 * accuracy, abs=0.006)
        assert float(line[1]) == pytest.approx(float(own) + penalty, abs=1e-4)

    def test_validate_prints_each_and_their_mean(self, run: Run, fitted: None) -> None:
        validated = run(f"validate --ckpt_path {PATTERN}")
        assert (validated.code, validated.err) == (0, "")
        assert "3 checkpoints: Digits, 143 images (val)" in validated.out
        assert "mean" in validated.out and "ensemble" not in validated.out


class TestPredict:
    def test_writes_mean_probabilities(self, run: Run, fitted: None) -> None:
        predicted = run(f"predict --ckpt_path {PATTERN} --data Digits")
        assert (predicted.code, predicted.err) == (0, "")
        said = f"{COUNT} predictions, each the mean of 3 networks: predictions.csv"
        assert said in predicted.out
        with Path("predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        best = mean_of_all()[0].max(1)
        assert [int(row["class"]) for row in rows] == best.indices.tolist()
        found = [float(row["probability"]) for row in rows]
        assert found == pytest.approx(best.values.tolist(), abs=1e-5)


class TestPattern:
    def test_a_file_is_itself(self) -> None:
        Path("odd[1].ckpt").write_text("")
        assert ensemble.members("odd[1].ckpt") == ["odd[1].ckpt"]
        assert ensemble.members("absent.ckpt") == ["absent.ckpt"]

    def test_fits_nothing(self, run: Run) -> None:
        refused = run("test --ckpt_path lightning_logs/*/best.ckpt")
        assert refused.code == 2
        assert "lightning_logs/*/best.ckpt, but no file fits that pattern" in refused.err

    def test_networks_of_different_kinds(self, run: Run, trained: Path) -> None:
        assert run(f"{PLAIN} --model.network.activation tanh --name trained").code == 0
        refused = run("test --ckpt_path lightning_logs/trained/*/checkpoints/best.ckpt")
        assert refused.code == 2
        assert "model.network.activation is relu" in refused.err and "version_1" in refused.err
        assert "choose checkpoints of one kind" in refused.err

    def test_one_of_them_is_damaged(self, run: Run, trained: Path) -> None:
        other = Path("lightning_logs/other")
        shutil.copytree(trained.parent, other)
        (other / "version_0/checkpoints/best.ckpt").write_bytes(b"damaged")
        refused = run("test --ckpt_path lightning_logs/*/version_0/checkpoints/best.ckpt")
        assert refused.code == 2 and "other/version_0/checkpoints/best.ckpt is dam" in refused.err
        assert not run_folder.read(trained).manifest.evaluations

    def test_of_one_run(self, run: Run, trained: Path) -> None:
        refused = run(f"test --ckpt_path {trained}/checkpoints/*.ckpt")
        assert refused.code == 2 and "one network at two times" in refused.err
        assert not run_folder.read(trained).manifest.evaluations

    @pytest.mark.parametrize(
        ("command", "options", "reason"),
        [
            ("validate", "--data.num_folds 5 --data.fold 1", "data.num_folds is None"),
            ("test", "--model.l2 0.1", "model.l2 is 0.0"),
            ("test", "--data.negate_border false", "data.negate_border is True"),
        ],
    )
    def test_figures_of_different_meaning(
        self, run: Run, trained: Path, command: str, options: str, reason: str
    ) -> None:
        assert run(f"{PLAIN} --trainer.max_epochs 1 --name trained {options}").code == 0
        refused = run(f"{command} --ckpt_path lightning_logs/trained/*/checkpoints/best.ckpt")
        assert refused.code == 2 and reason in refused.err and "version_1" in refused.err
        assert not run_folder.read(trained).manifest.evaluations

    def test_of_different_datasets(self) -> None:
        specs = {
            name: InputSpec(name, 1, 28, tuple("0123456789"), (0.1,), (0.3,))
            for name in ("MNIST", "FashionMNIST")
        }
        with pytest.raises(UserError, match="FashionMNIST was trained on FashionMNIST, but MNIST"):
            ensemble.same_images(specs)

    def test_without_quotes(self, run: Run, trained: Path) -> None:
        files = " ".join(f"{trained}/checkpoints/{name}.ckpt" for name in ("best", "last"))
        refused = run(f"test --ckpt_path {files}")
        assert refused.code == 2 and "put a pattern of several into quotes" in refused.err

    def test_of_a_part_of_the_images_there_is_no_ensemble(self, run: Run, fitted: None) -> None:
        part = "--data.eval_batch_size 100 --trainer.limit_test_batches 1"
        tested = run(f"test --ckpt_path {PATTERN} {part}")
        assert tested.code == 0 and "mean" in tested.out and "ensemble" not in tested.out


def test_intervals_of_few_networks_stay_within_what_can_be() -> None:
    figures = [{"acc": 0.9, "loss": 0.1}, {"acc": 1.0, "loss": 2.0}]
    low, high = summary.networks_table(figures, ["a", "b"]).splitlines()[-2:]
    assert low.split()[-1] == "0.0000" and high.split()[-2] == "100.00%"
