"""A sweep asks, trains, prunes and tells; it can be stopped, and its best settings are a study."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from lenet_lightning import strict_yaml
from lenet_lightning.errors import UserError
from lenet_lightning.signals import Interrupted
from lenet_lightning.store import run_folder
from lenet_lightning.study import plan as study_plan
from lenet_lightning.study.sweep import command, plan, report, trials
from lenet_lightning.study.task import Outcome, Task
from tests.study.fakes import write_run

pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[sweep]'")
REPOSITORY = Path(__file__).parents[3]
BASE = """
trainer: {max_epochs: 2, accelerator: cpu, enable_progress_bar: false, logger: false}
model: {optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.01}}}
data: {class_path: Digits, init_args: {protocol: watch, batch_size: 64, subset: 256}}
"""
GRID = """
name: mine
base: base.yaml
sampler: grid
prune: none
best: 2
model.l2: 0.001
space: {model.optimizer.lr: [0.5, 0.01, 0.1], model.network.dropout: [0.0, 0.2]}
"""
TPE = """
name: mine
base: base.yaml
trials: 7
prune: median
space:
  model.optimizer.lr: {low: 1.0e-3, high: 1.0, log: true}
  data.batch_size: {low: 16, high: 64, step: 16}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def write(text: str) -> Path:
    file = Path("sweep.yaml")
    file.write_text(text)
    return file


class FakeExecutor:
    """Ends runs at once, but for those that `slow` names, which wait to be cancelled.

    Accuracy falls with the learning rate, so that the smallest is the best.
    """

    jobs = 1

    def __init__(self, slow: tuple[int, ...] = (), fail: tuple[int, ...] = ()) -> None:
        self.slow, self.fail = slow, fail
        self.tasks: list[Task] = []
        self.folders: dict[Future[Outcome], Path] = {}

    def submit(self, task: Task) -> Future[Outcome]:
        number = len(self.tasks)
        self.tasks.append(task)
        future: Future[Outcome] = Future()
        folder = Path(task.config["logs"], task.config["name"], "version_0")
        shutil.rmtree(folder, ignore_errors=True)
        lr = task.config["model"]["optimizer"]["init_args"]["lr"]
        bad = number in self.slow
        accuracy = 0.1 if bad else 0.9 - lr / 10
        seed = task.config["seed_everything"]
        status: Any = "interrupted" if bad else "finished"
        if number in self.fail:
            future.set_result(Outcome("It broke."))
            return future
        write_run(folder, accuracy=accuracy, noise=0.0, epochs=6, seed=seed, status=status)
        self.folders[future] = folder
        if not bad:
            future.set_result(Outcome())
        return future

    def cancel(self, future: Future[Outcome]) -> None:
        future.set_result(Outcome("exit code 143", interrupted=143))

    def stop(self) -> None:
        pass


def opened(text: str) -> trials.Trials:
    found = trials.Trials(plan.load(write(text)), Path("logs"))
    found.folder.mkdir(parents=True, exist_ok=True)
    found.open()
    return found


def states(found: trials.Trials) -> dict[int, str]:
    return {index: report.state(trial) for index, trial in sorted(found.ended().items())}


def params(found: trials.Trials) -> list[dict[str, Any]]:
    return [trial.params for _, trial in sorted(found.ended().items())]


def test_a_grid_is_every_combination(capsys: pytest.CaptureFixture[str]) -> None:
    found, executor = opened(GRID), FakeExecutor()
    found.run(executor)
    assert params(found) == found.sweep.grid() and len(params(found)) == 6
    for task in executor.tasks:
        assert (
            task.config["skip_test"] and task.config["data"]["init_args"]["protocol"] == "holdout"
        )
        assert task.config["model"]["l2"] == 0.001
    assert "[6/6] trial 5: val/acc 0.8" in capsys.readouterr().err
    # The best setting of two that are as good is the earlier one.
    assert [index for index, _ in report.ranked(found)] == [2, 3, 4, 5, 0, 1]
    again = opened(GRID)
    assert not again.waiting()


def test_trials_side_by_side_are_submitted_one_after_another() -> None:
    class Slow(FakeExecutor):
        jobs = 3
        inside = 0

        def submit(self, task: Task) -> Future[Outcome]:
            self.inside += 1
            time.sleep(0.02)
            assert self.inside == 1
            future = super().submit(task)
            self.inside -= 1
            return future

    found = opened(GRID)
    found.run(Slow())
    assert states(found) == dict.fromkeys(range(6), "complete")


def test_the_study_of_the_best_settings(place: Path) -> None:
    found = opened(GRID)
    found.run(FakeExecutor())
    report.write(found)
    study = study_plan.load(found.folder / report.STUDY)
    assert study.name == "mine_best" and study.seeds == [1, 2, 3, 4, 5]
    assert list(study.settings) == ["trial_2", "trial_3"]
    expected = {"model.l2": 0.001, "model.optimizer.lr": 0.01, "model.network.dropout": 0.2}
    assert study.settings["trial_3"].overrides == expected
    page = (found.folder / report.PAGE).read_text()
    assert page.count("data:image/png") == 3 and "no trial saw a test image" in page
    rows = (found.folder / report.TRIALS).read_text().splitlines()
    assert len(rows) == 7 and rows[1].startswith("2,0.")


def test_draws_depend_on_the_seed_and_the_number_of_the_trial() -> None:
    found = opened(TPE)
    found.run(FakeExecutor())
    whole = params(found)
    assert len({each["model.optimizer.lr"] for each in whole}) == 7
    assert all(each["data.batch_size"] in (16, 32, 48, 64) for each in whole)
    shutil.rmtree("logs")
    stopped = opened(TPE.replace("trials: 7", "trials: 3"))
    stopped.run(FakeExecutor())
    went_on = opened(TPE)
    went_on.run(FakeExecutor())
    assert params(went_on) == whole
    shutil.rmtree("logs")
    other = opened(f"{TPE}seed: 1\n")
    other.run(FakeExecutor())
    assert params(other) != whole


def test_a_bad_trial_is_pruned() -> None:
    found, executor = opened(TPE), FakeExecutor(slow=(6,))
    found.run(executor)
    assert states(found) == dict.fromkeys(range(6), "complete") | {6: "pruned"}
    folder = Path(executor.tasks[6].config["logs"], executor.tasks[6].config["name"], "version_0")
    assert run_folder.read(folder).manifest.status == "pruned"
    report.write(found)
    assert "6 complete, 1 pruned" in (found.folder / report.PAGE).read_text()


def test_a_trial_that_fails_is_not_tried_again() -> None:
    found = opened(TPE)
    found.run(FakeExecutor(fail=(1,)))
    assert states(found)[1] == "failed" and len(states(found)) == 7
    assert report.trials_table(found).rows[-1][-1] == "It broke."
    assert not opened(TPE).waiting()


def test_what_was_stopped_goes_on_with_its_values() -> None:
    class Stopped(FakeExecutor):
        def submit(self, task: Task) -> Future[Outcome]:
            if len(self.tasks) == 2:
                self.tasks.append(task)
                raise Interrupted(2)
            return super().submit(task)

    found, executor = opened(TPE), Stopped()
    with pytest.raises(Interrupted):
        found.run(executor)
    name = executor.tasks[2].config["name"]
    assert name.endswith("trial_0002/run_0")
    again = opened(TPE)
    assert all(trial.state.name != "RUNNING" for trial in again.study.get_trials())
    assert list(again.waiting()) == [2, 3, 4, 5, 6] and again.waiting()[2]
    executor_again = FakeExecutor()
    again.run(executor_again)
    assert executor_again.tasks[0].arguments == executor.tasks[2].arguments
    assert states(again) == dict.fromkeys(range(7), "complete")


def test_a_killed_sweep_leaves_no_trial_running() -> None:
    found = opened(TPE)
    found._ask(0, {})
    again = opened(TPE)
    assert [trial.state.name for trial in again.study.get_trials()] == ["FAIL"]
    assert again.waiting()[0].keys() == again.sweep.space.keys()


@pytest.mark.parametrize(("repeats", "keys"), [("seeds: [3, 4]", 2), ("folds: 3", 3)])
def test_trials_of_several_runs(repeats: str, keys: int) -> None:
    found, executor = opened(f"{GRID}{repeats}\n"), FakeExecutor()
    found.run(executor)
    assert len(executor.tasks) == 6 * keys and len(found.ended()) == 6
    configs = [task.config for task in executor.tasks[:keys]]
    assert [config["name"] for config in configs] == [
        f"mine/trial_0000/run_{run}" for run in range(keys)
    ]
    if repeats.startswith("folds"):
        assert [config["data"]["init_args"]["fold"] for config in configs] == [0, 1, 2]
        assert {config["data"]["init_args"]["num_folds"] for config in configs} == {3}
        assert found.sweep.study({})["seeds"][0] == 1
    else:
        assert [config["seed_everything"] for config in configs] == [3, 4]
        assert found.sweep.study({})["seeds"][0] == 5


def test_wilcoxon_stops_a_trial_between_its_runs() -> None:
    text = GRID.replace("prune: none", "prune: wilcoxon\nfolds: 8")
    found, executor = opened(text.replace("[0.5, 0.01, 0.1]", "[0.01, 0.5]")), FakeExecutor()
    found.run(executor)
    assert states(found)[0] == "complete" and states(found)[2] == "pruned"
    assert len(executor.tasks) < 4 * 8


def test_losses_are_minimised() -> None:
    Path("base.yaml").write_text(f"monitor: val/loss\n{BASE}")
    found = opened(GRID)
    found.run(FakeExecutor())
    assert found.minimised and found.study.direction.name == "MINIMIZE"
    assert report.ranked(found)[0][0] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name: mine", "name: a/b"), "name is 'a/b': expected a name of letters"),
        (("name: mine", ""), "has no name"),
        (("base: base.yaml", "base: bsae.yaml"), "base config bsae.yaml does not exist"),
        (("base: base.yaml", ""), "has no base"),
        (("sampler: grid", "sampler: grod"), "sampler is 'grod'; did you mean grid"),
        (("prune: none", "prune: medain"), "did you mean median"),
        (("prune: none", "prune: wilcoxon"), "prune wilcoxon .* seeds or folds"),
        (("prune: none", "prune: median\nfolds: 3"), "prune median .* one seed"),
        (("prune: none", "folds: 3\nseeds: [0]"), "seeds or folds, not both"),
        (("prune: none", "folds: 1"), "folds is 1: expected a whole number, 2 or more"),
        (("prune: none", "seeds: 3"), "seeds is 3: expected a list"),
        (("best: 2", "best: 0"), "best is 0: expected a whole number above 0"),
        (("best: 2", "trials: 3"), "the grid has 6 trials"),
        (("sampler: grid", ""), "sampler tpe needs trials: expected a whole number"),
        (("best: 2", "bset: 2"), "unknown key 'bset'; did you mean best"),
        (("model.l2: 0.001", "model.network.dropout: 0.1"), "both in space and set for all"),
        (("[0.0, 0.2]", "[]"), "space.model.network.dropout must list plain values"),
        (("[0.0, 0.2]", "[[0.1]]"), "space.model.network.dropout must list plain values"),
        (("[0.0, 0.2]", "0.2"), "space.model.network.dropout must be a mapping"),
        (
            ("[0.0, 0.2]", "{low: 0.1, high: 0.2}"),
            "grid needs a list of values for model.network.dropout",
        ),
        (("[0.0, 0.2]", "{low: 0.1}"), "dropout has no high: expected a number"),
        (("[0.0, 0.2]", "{low: 1, high: 0}"), "numbers low < high"),
        (("[0.0, 0.2]", "{low: 0, high: 1, log: true}"), "needs low > 0"),
        (("[0.0, 0.2]", "{low: 0, high: 1, step: 0}"), "step is 0: expected a number above 0"),
        (("[0.0, 0.2]", "{low: 0, hihg: 1}"), "unknown key 'hihg'; did you mean high"),
        (
            ("model.network.dropout: [", "modle.network.dropout: ["),
            "space.modle.network.dropout: unknown 'modle'; did you mean model",
        ),
    ],
)
def test_bad_sweeps(change: tuple[str, str], message: str) -> None:
    assert change[0] in GRID
    with pytest.raises(UserError, match=message):
        plan.load(write(GRID.replace(*change)))


def test_every_value_is_checked_before_anything_runs() -> None:
    write(GRID.replace("[0.0, 0.2]", "[0.0, 2.0]"))
    with pytest.raises(UserError, match="dropout"):
        command.main(["--config", "sweep.yaml"])
    assert not Path("lightning_logs").exists()


def test_from_nothing_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    """With real trainings; the study that it writes is ready to run."""
    write(GRID.replace("[0.5, 0.01, 0.1]", "[0.01, 1.0e+30]"))
    line = ["--config", "sweep.yaml", "--jobs", "1"]
    assert command.main(line) == 0
    out = capsys.readouterr().out
    assert "4 trials: 2 complete, 2 failed" in out and "sweep.html" in out
    runs = [run_folder.read(f.parent) for f in Path("lightning_logs").glob("mine/*/*/*/run.json")]
    assert sorted(run.manifest.status for run in runs) == ["finished"] * 2 + ["nonfinite"] * 2
    assert all(run.manifest.test is None and "test/acc" not in run.metrics for run in runs)
    assert not list(Path("lightning_logs").glob("mine/*/*/*/test_predictions.npz"))

    assert command.main(line) == 0
    assert len(list(Path("lightning_logs").glob("mine/*/*/version_*"))) == 4
    assert study_plan.load(Path("lightning_logs/mine/best.yaml")).settings.keys() == {
        "trial_0",
        "trial_1",
    }

    write(GRID.replace("[0.5, 0.01, 0.1]", "[0.01]"))
    with pytest.raises(UserError, match="begun with another space"):
        command.main(line)


@pytest.mark.parametrize("name", ["lr", "cifar10", "report"])
def test_shipped_sweeps_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    file = REPOSITORY / "configs" / "sweeps" / f"{name}.yaml"
    sweep = plan.load(file)
    assert sweep.trials >= 12 and strict_yaml.read(file)["name"] == sweep.name
    trials.Trials(sweep, Path("logs"))


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'lenet-lightning\[sweep\]'"):
        trials.Trials(plan.load(write(GRID)), Path("logs"))
