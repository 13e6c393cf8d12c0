"""Knowledge distillation: the target, which teachers are used and which are refused."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lenet_lightning.cli import lightning_cli
from lenet_lightning.data.datasets import Digits
from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.training import pretrained
from lenet_lightning.training.classifier import Classifier
from lenet_lightning.training.distillation import Distillation, find
from lenet_lightning.training.losses import class_loss
from tests.cli.test_lightning_cli import metrics, weights
from tests.conftest import PLAIN, Run
from tests.test_interrupt import interrupt_at, same_run

TEACHERS = "lightning_logs/teacher/*/version_*/checkpoints/best.ckpt"
DISTILLED = f"{PLAIN} --trainer.callbacks Distillation --trainer.callbacks.teachers"
FOLDER = Path("lightning_logs/distilled/version_0")


@pytest.fixture
def teachers(run: Run) -> list[Path]:
    """Two trained networks."""
    for seed in range(2):
        assert run(f"{PLAIN} --seed_everything {seed} --name teacher/{seed}").code == 0
    return find(TEACHERS)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_target(teachers: list[Path], temperature) -> None:
    """Labels and the softmax of the mean logits, in the shares that the weight says."""
    images, labels = torch.rand(7, 1, 32, 32), torch.arange(7)
    distillation = Distillation(TEACHERS, 0.75, temperature)
    distillation.networks = [pretrained.load(path).network for path in teachers]
    logits = sum(network(images) for network in distillation.networks) / 2
    together = (logits / temperature).softmax(1)
    expected = 0.25 * F.one_hot(labels, 10) + 0.75 * together
    target = distillation.target(images, labels)
    torch.testing.assert_close(target, expected)
    assert not target.requires_grad


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "mse", "l1"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_certain_targets_are_labels(loss, smoothing) -> None:
    logits, labels = torch.randn(5, 10), torch.tensor([0, 9, 3, 3, 1])
    certain = F.one_hot(labels, 10).float()
    expected = class_loss(logits, labels, loss, smoothing)
    torch.testing.assert_close(class_loss(logits, certain, loss, smoothing), expected)


def test_run(run: Run, teachers: list[Path]) -> None:
    """It is a run like any other, knows its teachers, and has learned something else."""
    distilled = run(DISTILLED, TEACHERS, "--name distilled")
    assert distilled.code == 0, distilled.err
    assert f"Distilled from 2 teachers: {TEACHERS}\n" in distilled.out
    manifest = json.loads((FOLDER / "run.json").read_text())
    assert list(manifest["teachers"]) == [str(path) for path in teachers]
    for path, digest in manifest["teachers"].items():
        assert digest in Path(path).with_name("best.ckpt.sha256").read_text()
    alone, other = (weights(path) for path in (teachers[0], FOLDER / "checkpoints/best.ckpt"))
    assert alone.keys() == other.keys()
    assert any((alone[name] != other[name]).any() for name in alone)
    assert run_folder.read(teachers[0].parents[1]).manifest.teachers == {}


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_temperature(loss) -> None:
    """What fits at a temperature has no gradient; gradients of the rest keep their size."""
    logits = torch.randn(5, 10, requires_grad=True)
    class_loss(logits, (logits.detach() / 3).softmax(1), loss, temperature=3.0).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros(5, 10), rtol=0, atol=1e-6)
    expected = 9 * class_loss(logits / 3, torch.arange(5), loss)
    torch.testing.assert_close(class_loss(logits, torch.arange(5), loss, 0.0, 3.0), expected)


def test_the_temperature_reaches_training(run: Run, teachers: list[Path]) -> None:
    for degrees in ("1", "3"):
        options = f"--trainer.callbacks.temperature {degrees} --name at_{degrees}"
        assert run(DISTILLED, TEACHERS, options).code == 0
    one, other = (metrics(Path(f"lightning_logs/at_{d}/version_0"))[-1] for d in ("1", "3"))
    assert float(other["train/loss"]) > 2 * float(one["train/loss"])  # times the square of 3
    assert one["val/loss"] != other["val/loss"]


def test_teachers_are_not_needed_afterwards(run: Run, teachers: list[Path]) -> None:
    assert run(DISTILLED, TEACHERS, "--name distilled").code == 0
    shutil.rmtree("lightning_logs/teacher")
    for command in ("test", "validate", "predict --data Digits"):
        done = run(f"{command} --ckpt_path {FOLDER}/checkpoints/best.ckpt --trainer.logger false")
        assert done.code == 0, done.err


def test_resumed_run_is_the_same(run: Run, monkeypatch: pytest.MonkeyPatch, teachers) -> None:
    assert run(DISTILLED, TEACHERS, "--name whole").code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, lightning_cli.Classifier, "training_step", 3, signal.SIGINT)
        assert run(DISTILLED, TEACHERS, "--name cut").code == 130
    assert run(DISTILLED, TEACHERS, "--name cut --resume must").code == 0
    same_run(Path("lightning_logs/cut/version_0"), Path("lightning_logs/whole/version_0"))


def test_steps_per_execution_changes_nothing(run: Run, teachers: list[Path]) -> None:
    for steps in (1, 16):
        options = f"--data.steps_per_execution {steps} --name steps_{steps}"
        assert run(DISTILLED, TEACHERS, options).code == 0
    one, many = (Path(f"lightning_logs/steps_{steps}/version_0") for steps in (1, 16))
    assert metrics(one) == metrics(many)


def test_the_newest_run_of_a_name_counts(run: Run, teachers: list[Path]) -> None:
    newer = teachers[0].parents[1].with_name("version_10")
    shutil.copytree(teachers[0].parents[1], newer.with_name("version_9"))
    shutil.copytree(teachers[0].parents[1], newer)
    assert find(TEACHERS) == [newer / "checkpoints/best.ckpt", teachers[1]]
    assert find(str(teachers[0])) == [teachers[0]]


def test_a_checkpoint_without_its_folder_is_taken(teachers: list[Path]) -> None:
    for number, path in enumerate(teachers):
        shutil.copy(path, f"{number}.ckpt")
    assert find("*.ckpt") == [Path("0.ckpt"), Path("1.ckpt")]


class TestRefused:
    """Before training, in one sentence, and no folder is left."""

    def refused(self, run: Run, *options: str) -> str:
        outcome = run(DISTILLED, *options, "--name distilled")
        assert outcome.code == 2 and outcome.err.count("\n") == 1, outcome.err
        assert not FOLDER.exists()
        return outcome.err

    def test_none_there(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Digits, "prepare_data", None)  # not even called
        assert "teachers is no/*.ckpt, but there is no such" in self.refused(run, "no/*.ckpt")

    def test_unfinished(self, run: Run, teachers: list[Path]) -> None:
        folder = teachers[1].parents[1]
        run_folder.write_manifest(
            folder, replace(run_folder.read(folder).manifest, status="interrupted")
        )
        assert f"The teacher {teachers[1]} is of a run that is not finished" in self.refused(
            run, TEACHERS
        )

    def test_damaged(self, run: Run, teachers: list[Path]) -> None:
        teachers[1].write_bytes(teachers[1].read_bytes()[:-9])
        assert f"{teachers[1]} is damaged" in self.refused(run, TEACHERS)

    @pytest.mark.parametrize("options", ["--data.split_seed 1", "--data.num_folds 3"])
    def test_knows_the_validation_images(self, run: Run, teachers, options: str) -> None:
        message = self.refused(run, TEACHERS, options)
        assert f"The teacher {teachers[0]} has trained on" in message
        assert "that validate this run" in message

    def test_fewer_validation_images_of_the_same_are_fine(self, run: Run, teachers) -> None:
        assert run(DISTILLED, TEACHERS, "--data.val_size 100 --name distilled").code == 0

    def test_other_dataset(self, run: Run, teachers, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Digits, "dataset", "MNIST")
        classifier, data = Classifier(), Digits()
        trainer = lightning_cli.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.datamodule = data  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="was trained on Digits, but data is MNIST"):
            Distillation(TEACHERS).setup(trainer, classifier, "fit")

    @pytest.mark.parametrize("weight", ["0", "1.5", "much"])
    def test_weight(self, run: Run, weight: str) -> None:
        message = self.refused(run, TEACHERS, f"--trainer.callbacks.weight {weight}")
        assert "weight" in message and "above 0" in message
