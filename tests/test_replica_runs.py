"""A run of several replicas leaves the folders that runs of their own leave."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pytest import MonkeyPatch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lenet_lightning import checkpoints, cli, runs
from tests.conftest import DIGITS, PLAIN, Run
from tests.test_cli import metrics
from tests.test_interrupt import interrupt_at

# Dropout and a penalty, so that more than the data differ by the seed.
FIT = f"{PLAIN} --model.dropout 0.1 --model.l2 0.001"
SEEDS = (5, 6)
GROUP = f"{FIT} --seed_everything 5 --model.replicas 2"


def folders(name: str) -> list[Path]:
    return [Path(f"lightning_logs/{name}/version_{number}") for number in range(len(SEEDS))]


def without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def assert_same_figures(one: Path, other: Path, exactly: bool = False) -> None:
    """metrics.csv but for the seconds, best epoch and test agree, to rounding or exactly."""
    ours, theirs = runs.read(one), runs.read(other)
    assert list(ours.metrics) == list(theirs.metrics)
    tolerance = 0.0 if exactly else 2e-5
    for name in without(ours.metrics, "seconds"):
        found, expected = ours.metrics[name], theirs.metrics[name]
        assert found == pytest.approx(expected, abs=tolerance, nan_ok=True), name
    assert ours.manifest["best_epoch"] == theirs.manifest["best_epoch"]
    assert ours.manifest["test"] == pytest.approx(theirs.manifest["test"], abs=tolerance)


def assert_same_weights(one: Path, other: Path) -> None:
    states = [checkpoints.load(path)["state_dict"] for path in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-5)


def test_each_folder_is_that_of_a_run_of_its_own(run: Run) -> None:
    together = run(GROUP, "--name group")
    assert (together.code, together.err) == (0, "")
    for folder, seed in zip(folders("group"), SEEDS, strict=True):
        assert run(FIT, f"--seed_everything {seed} --name alone").code == 0
        alone = Path(f"lightning_logs/alone/version_{seed - SEEDS[0]}")
        ours, theirs = runs.read(folder), runs.read(alone)
        assert {p.name for p in folder.rglob("*")} == {p.name for p in alone.rglob("*")}
        assert without(ours.config, "name") == without(theirs.config, "name")
        assert ours.manifest.keys() == theirs.manifest.keys()
        assert ours.manifest["replica"] == {"number": seed - SEEDS[0], "of": 2}
        differing = ("command", "started", "replica", "test", "epoch_seconds", "seconds")
        assert without(ours.manifest, *differing) == without(theirs.manifest, *differing)
        assert_same_figures(folder, alone)
        for name in ("best.ckpt", "last.ckpt"):
            paths = [where / "checkpoints" / name for where in (folder, alone)]
            own, other = map(checkpoints.load, paths)
            assert own.keys() == other.keys()
            assert own["callbacks"].keys() == other["callbacks"].keys()
            assert [own[key] for key in ("epoch", "global_step")] == [1, 42]
            assert_same_weights(*paths)
            assert paths[0].stat().st_size == pytest.approx(paths[1].stat().st_size, rel=0.01)


def test_the_terminal_shows_each_and_all(run: Run) -> None:
    out = run(GROUP, "--name group").out
    line = r"^epoch   [01]  train loss [\d.]+ ± [\d.]+ acc [\d.]+ ± [\d.]+%  val .* 2 replicas"
    assert len(re.findall(line, out, re.M)) == 2
    for folder, seed in zip(folders("group"), SEEDS, strict=True):
        test = runs.read(folder).manifest["test"]
        assert re.search(rf"{folder} \(seed {seed}, epoch 1\) +{test['acc']:.2%}", out)
    accuracies = [runs.read(folder).manifest["test"]["acc"] for folder in folders("group")]
    assert re.search(rf"^mean +{sum(accuracies) / 2:.2%}", out, re.M)
    assert "95 % from" in out and "95 % to" in out


def test_folders_are_used_like_any_other(run: Run) -> None:
    assert run(GROUP, "--name group").code == 0
    for folder in folders("group"):
        best = folder / "checkpoints/best.ckpt"
        tested = run(f"test --ckpt_path {best}")
        assert (tested.code, tested.err) == (0, "")
        assert run(f"predict --ckpt_path {best} --data Digits").code == 0
        manifest = runs.read(folder).manifest
        assert manifest["evaluations"][0]["acc"] == manifest["test"]["acc"]
        assert (folder / "predictions.csv").exists()


def test_tensorboard_has_a_file_for_each(run: Run) -> None:
    assert run(f"{DIGITS} --model.replicas 2 --name group").code == 0
    for folder in folders("group"):
        (file,) = folder.glob("events.out.tfevents.*")
        events = EventAccumulator(str(file)).Reload()
        shown = [event.value for event in events.Scalars("val/acc")]
        assert shown == pytest.approx(runs.read(folder).metrics["val/acc"].tolist())
        assert {"visuals/filters", "visuals/confusion"} <= set(events.Tags()["images"])
        assert (folder / "curves.png").exists()


def test_each_is_taught_what_it_would_be_taught_alone(run: Run, trained: Path) -> None:
    teachers = f"--trainer.callbacks.teachers {trained}/checkpoints/best.ckpt"
    taught = f"--trainer.callbacks Distillation {teachers} --trainer.callbacks.weight 0.7"
    assert run(GROUP, taught, "--name group").code == 0
    assert run(FIT, taught, f"--seed_everything {SEEDS[1]} --name alone").code == 0
    ours, alone = folders("group")[1], Path("lightning_logs/alone/version_0")
    assert_same_figures(ours, alone)
    assert runs.read(ours).manifest["teachers"] == runs.read(alone).manifest["teachers"]
    assert runs.read(ours).config["trainer"] == runs.read(alone).config["trainer"]


def test_names_can_hold_the_seed(run: Run) -> None:
    assert run(GROUP, "--name 'group/seed_{seed}'").code == 0
    for seed in SEEDS:
        config = runs.read(f"lightning_logs/group/seed_{seed}/version_0").config
        assert (config["name"], config["seed_everything"]) == (f"group/seed_{seed}", seed)


@pytest.mark.parametrize("optimizer", ["KerasAdam", "lenet_lightning.optimizers.Muon"])
def test_one_of_them_goes_on_alone(run: Run, optimizer: str) -> None:
    choice = f"--model.optimizer {optimizer}"
    assert run(GROUP, choice, "--name group").code == 0
    longer = f"{FIT} --seed_everything {SEEDS[1]} --trainer.max_epochs 3 {choice}"
    last = folders("group")[1] / "checkpoints/last.ckpt"
    gone_on = run(longer, f"--name on --ckpt_path {last}")
    assert (gone_on.code, gone_on.err) == (0, "")
    assert run(longer, "--name whole").code == 0
    on, whole = (Path(f"lightning_logs/{name}/version_0") for name in ("on", "whole"))
    assert_same_weights(on / "checkpoints/last.ckpt", whole / "checkpoints/last.ckpt")


@pytest.fixture
def cut(run: Run, monkeypatch: MonkeyPatch) -> list[Path]:
    """Two replicas, interrupted in the second epoch; and another two that were not."""
    assert run(GROUP, "--name whole").code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, cli.Classifier, "training_step", 5, signal.SIGINT)
        stopped = run(GROUP, "--name cut")
    assert stopped.code == 130
    config = folders("cut")[0] / "config.yaml"
    command = f"fit --config {config} --resume must --model.replicas 2"
    assert f"Continue with: python -m lenet_lightning {command}" in stopped.err
    for folder in folders("cut"):
        assert runs.read(folder).manifest["status"] == "interrupted"
    return folders("cut")


def test_the_command_that_is_printed_goes_on(run: Run, monkeypatch: MonkeyPatch) -> None:
    """Also where each replica has a name of its own."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, cli.Classifier, "training_step", 5, signal.SIGINT)
        stopped = run(GROUP, "--name 'cut_{seed}'")
    (command,) = re.findall(r"Continue with: python -m lenet_lightning (.+)", stopped.err)
    gone_on = run(command)
    assert (gone_on.code, gone_on.err) == (0, "")
    assert "continued" in gone_on.out


def test_they_go_on_together(run: Run, cut: list[Path]) -> None:
    gone_on = run(f"fit --config {cut[0] / 'config.yaml'} --resume must --model.replicas 2")
    assert (gone_on.code, gone_on.err) == (0, "")
    assert "continued" in gone_on.out
    for folder, whole in zip(cut, folders("whole"), strict=True):
        assert_same_figures(folder, whole, exactly=True)
        states = [checkpoints.load(f / "checkpoints/last.ckpt") for f in (folder, whole)]
        for name, value in states[0]["state_dict"].items():
            assert torch.equal(value, states[1]["state_dict"][name])
    assert not (cut[0].parent / "version_2").exists()


def test_they_go_on_to_a_number_of_steps(run: Run, monkeypatch: MonkeyPatch) -> None:
    steps = GROUP.replace("--trainer.max_epochs 2", "--trainer.max_steps 50")
    assert run(steps, "--name whole").code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, cli.Classifier, "training_step", 5, signal.SIGINT)
        assert run(steps, "--name cut").code == 130
    gone_on = run(steps, "--name cut --resume must")
    assert (gone_on.code, gone_on.err) == (0, "")
    for folder, whole in zip(folders("cut"), folders("whole"), strict=True):
        assert_same_figures(folder, whole, exactly=True)


def test_each_goes_on_alone(run: Run, cut: list[Path]) -> None:
    for folder, whole in zip(cut, folders("whole"), strict=True):
        gone_on = run(f"fit --config {folder / 'config.yaml'} --resume must")
        assert (gone_on.code, gone_on.err) == (0, "")
        assert_same_figures(folder, whole)
    refused = run(GROUP, "--name cut --resume must")
    assert refused.code == 2 and "not all 2 seeds have an unfinished run" in refused.err
    assert run(GROUP, "--name cut --resume auto").code == 0
    assert (cut[0].parent / "version_3").exists()


def test_stopped_between_their_checkpoints(run: Run, monkeypatch: MonkeyPatch) -> None:
    """One has saved an epoch that the other has not: both go back to the one before."""
    assert run(GROUP, "--name whole").code == 0
    with monkeypatch.context() as patch:
        # Saved by then: one first checkpoint each, then best and last of the first, and so on.
        interrupt_at(patch, checkpoints.DurableCheckpointIO, "save_checkpoint", 9, signal.SIGTERM)
        assert run(GROUP, "--name cut").code == 143
    steps = [checkpoints.load(f / "checkpoints/last.ckpt")["global_step"] for f in folders("cut")]
    assert steps[0] > steps[1]
    assert run(GROUP, "--name cut --resume must").code == 0
    for folder, whole in zip(folders("cut"), folders("whole"), strict=True):
        assert_same_figures(folder, whole, exactly=True)


def test_stopped_in_the_tests_at_the_end(run: Run, monkeypatch: MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, cli.Classifier, "test_step", 2, signal.SIGINT)
        stopped = run(GROUP, "--name cut")
    assert stopped.code == 130
    first, second = folders("cut")
    assert runs.read(first).manifest["status"] == "finished"
    assert run(f"fit --config {second / 'config.yaml'} --resume must").code == 0
    assert runs.read(second).manifest["status"] == "finished"


def test_one_that_fails_does_not_stop_the_others(run: Run, monkeypatch: MonkeyPatch) -> None:
    assert run(GROUP, "--name whole").code == 0
    step, calls = cli.Classifier.training_step, []

    def spoil(self: cli.Classifier, *args: Any) -> None:
        calls.append(self.global_step)
        if len(calls) == 4:
            with torch.no_grad():
                self.network.conv2.weight[1].fill_(torch.nan)
        step(self, *args)

    monkeypatch.setattr(cli.Classifier, "training_step", spoil)
    failed = run(GROUP, "--name group")
    assert failed.code == 3 and failed.err.count("\n") == 1
    assert "Of 2 replicas that of seed 6 stopped, the others finished. The " in failed.err
    first, second = folders("group")
    assert_same_figures(first, folders("whole")[0], exactly=True)
    manifest = runs.read(second).manifest
    assert (manifest["status"], manifest["epochs"], manifest["test"]) == ("nonfinite", 1, None)
    state = checkpoints.load(second / "checkpoints/last.ckpt")["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_all_that_fail(run: Run) -> None:
    failed = run(GROUP, "--model.optimizer SGD --model.optimizer.lr 1e30 --name group")
    assert failed.code == 3 and failed.err.count("\n") == 1
    for folder in folders("group"):
        manifest = runs.read(folder).manifest
        assert manifest["status"] == "nonfinite" and "no longer finite" in manifest["error"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/loss", "EarlyStopping"),
        ("--trainer.callbacks EMAWeightAveraging", "EMAWeightAveraging, which would act on all"),
        (
            "--model.scheduler lightning.pytorch.cli.ReduceLROnPlateau "
            "--model.scheduler.monitor val/loss",
            "model.scheduler is ReduceLROnPlateau",
        ),
        ("--model.optimizer Adafactor", "model.optimizer is torch.optim.Adafactor"),
        ("--model.optimizer torch.optim.Muon", "did you mean lenet_lightning.optimizers.Muon?"),
        ("--model.optimizer LBFGS", "not known to treat every weight on its own"),
        (
            "--trainer.devices 2 --data.batch_size 64",
            "with model.replicas 2 runs on one device",
        ),
        ("--trainer.logger CSVLogger --trainer.logger.save_dir x", "trainer.logger is given with"),
        ("--resume must", "--resume must: not all 2 seeds have an unfinished run"),
    ],
)
def test_refused(run: Run, options: str, part: str) -> None:
    words = GROUP.replace(" --trainer.logger false", "") if "logger" in options else GROUP
    refused = run(words, options)
    assert refused.code == 2 and refused.err.count("\n") == 1, refused.err
    assert part in refused.err
    assert not Path("lightning_logs").exists()


def test_checkpoints_hold_one_network(run: Run, trained: Path) -> None:
    last = f"--ckpt_path {trained}/checkpoints/last.ckpt --model.replicas 2"
    for command in ("fit --data Digits --trainer.max_epochs 3", "test", "validate"):
        refused = run(command, last)
        assert refused.code == 2 and "a checkpoint holds one network" in refused.err


def test_fast_dev_run_leaves_nothing(run: Run) -> None:
    assert run(GROUP, "--trainer.fast_dev_run 2").code == 0
    assert not Path("lightning_logs").exists()


def test_folders_that_cannot_be_made_leave_nothing(run: Run) -> None:
    Path("logs/group").mkdir(parents=True)
    Path("logs/group/seed_6").touch()
    refused = run(GROUP, "--logs logs --name 'group/seed_{seed}'")
    assert refused.code == 2 and "cannot be written" in refused.err
    assert [path.name for path in Path("logs/group").iterdir()] == ["seed_6"]


def test_the_saved_configuration_trains_one(run: Run) -> None:
    assert run(GROUP, "--name group").code == 0
    config = yaml.safe_load((folders("group")[1] / "config.yaml").read_text())
    assert (config["seed_everything"], config["model"]["replicas"]) == (6, 1)
    assert "replicas" not in config["data"]["init_args"]
    assert run(f"fit --config {folders('group')[1] / 'config.yaml'} --name again").code == 0
    assert_same_figures(Path("lightning_logs/again/version_0"), folders("group")[1])
    assert len(metrics("lightning_logs/again/version_0")) == 2
