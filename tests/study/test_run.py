"""Studies that really train, on the digits that scikit-learn ships."""

from __future__ import annotations

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lenet_lightning.errors import UserError
from lenet_lightning.store import run_folder
from lenet_lightning.study import command

BASE = """
trainer: {{max_epochs: {epochs}, accelerator: cpu, enable_progress_bar: false}}
model: {{optimizer: {{class_path: torch.optim.SGD, init_args: {{lr: 0.01}}}}}}
data: {{class_path: Digits, init_args: {{protocol: watch, batch_size: 64, subset: 256}}}}
"""
STUDY = """
name: tiny
base: base.yaml
seeds: [0]
settings:
  plain: {}
  diverging: {model.optimizer.lr: 1.0e+30}
  impossible: {data.val_size: 100000}
figures:
  - {name: "1.c.1", kind: negative_example, title: "Fig 1.c.1", setting: plain}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a base config and a study of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE.format(epochs=2))
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return tmp_path


TAUGHT = """
name: tiny
base: base.yaml
seeds: [0, 1]
settings:
  alone: {}
  taught:
    after: alone
    trainer.callbacks: Distillation
    trainer.callbacks.teachers: lightning_logs/tiny/alone/seed_*/version_*/checkpoints/best.ckpt
"""


def manifest(folder: Path, setting: str, version: int = 0) -> dict[str, Any]:
    path = folder / f"lightning_logs/tiny/{setting}/seed_0/version_{version}/run.json"
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_a_schedule_that_does_not_fit_the_training_is_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler = "{model.scheduler: StepLR, model.scheduler.step_size: 7}"
    (place / "tiny.yaml").write_text(
        STUDY.replace("plain: {}", f"plain: {scheduler}").replace(
            "  impossible: {data.val_size: 100000}\n", ""
        )
    )
    command.main(["--config", "tiny.yaml", "--only", "plain", "--dry_run"])
    out = capsys.readouterr().out
    assert out.count("plain: model.scheduler has step_size 7, but training takes 2 epochs") == 1


def test_runs_that_need_others_wait_for_them(place: Path) -> None:
    """Seeds come first in the order of runs, yet both teachers are there before a student."""
    (place / "tiny.yaml").write_text(TAUGHT)
    assert command.main(["--config", "tiny.yaml", "--jobs", "2"]) == 0
    assert len(manifest(place, "taught")["teachers"]) == 2


def test_runs_without_those_that_they_need_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tiny.yaml").write_text(TAUGHT)
    for dry in ([], ["--dry_run"]):
        with pytest.raises(UserError, match="'taught' needs finished runs of 'alone': run --only"):
            command.main(["--config", "tiny.yaml", "--only", "taught", *dry])
    assert not (place / "lightning_logs").exists()
    assert command.main(["--config", "tiny.yaml", "--only", "alone", "--jobs", "1"]) == 0
    assert command.main(["--config", "tiny.yaml", "--only", "taught", "--dry_run"]) == 0
    assert "no finished run" in capsys.readouterr().out


def test_a_study_from_nothing_and_again(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--config", "tiny.yaml", "--jobs", "2"]) == 1
    captured = capfd.readouterr()
    assert captured.out == "lightning_logs/tiny/report.html\n"
    assert "[3/3]" in captured.err
    assert "failed: impossible/seed_0" in captured.err
    folder = place / "lightning_logs" / "tiny"
    with (folder / "results.csv").open(newline="") as file:
        rows = {row["setting"]: row for row in csv.DictReader(file)}
    assert rows["plain"]["status"] == "finished"
    assert rows["diverging"]["status"] == "nonfinite"
    assert rows["impossible"]["status"] == "failed"
    assert "val_size" in rows["impossible"]["error"]
    assert manifest(place, "plain")["command"][3] == "fit"
    assert (folder / "figures" / "fig_1.c.1.png").stat().st_size > 1000

    before = {name: (folder / name).read_bytes() for name in ("report.md", "results.csv")}
    assert command.main(["--config", "tiny.yaml", "--jobs", "1", "--only", "plain", "div*"]) == 0
    assert not (folder / "plain" / "seed_0" / "version_1").exists()
    assert not (folder / "diverging" / "seed_0" / "version_1").exists()
    again = (folder / "results.csv").read_text()
    # The run that failed was not asked for again; nothing else is different.
    assert again.splitlines()[:3] == before["results.csv"].decode().splitlines()[:3]


def test_dry_run_prints_the_plan_and_trains_nothing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--config", "tiny.yaml", "--dry_run", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "diverging" in printed and "--model.optimizer.lr 1e+30" in printed
    assert "3 runs of 3 settings; 0 complete, 3 to run, 1 at a time" in printed
    assert "no finished run in lightning_logs tells" in printed
    assert not (place / "lightning_logs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("data.val_size: 100000", "data.val_sise: 100"), "'impossible': .*val_sise"),
        (
            ("data.val_size: 100000", "model.network.initializer: twos"),
            "'impossible': .*initializer",
        ),
        (("base: base.yaml", "base: bsae.yaml"), "bsae.yaml .* does not exist"),
    ],
)
def test_a_wrong_key_is_told_before_anything_runs(
    place: Path, change: tuple[str, str], message: str
) -> None:
    (place / "tiny.yaml").write_text(STUDY.replace(*change))
    with pytest.raises(UserError, match=message):
        command.main(["--config", "tiny.yaml"])
    assert not (place / "lightning_logs").exists()


@pytest.mark.parametrize("jobs", ["0", "many", "-1"])
def test_jobs_are_a_number_or_auto(place: Path, jobs: str) -> None:
    with pytest.raises(UserError, match="--jobs"):
        command.main(["--config", "tiny.yaml", f"--jobs={jobs}"])


def test_two_at_once_in_one_folder_are_refused(place: Path) -> None:
    folder = place / "lightning_logs" / "tiny"
    folder.mkdir(parents=True)
    other = run_folder.hold(folder)
    assert other is not None
    with other, pytest.raises(UserError, match="Another study runs in lightning_logs/tiny: wait"):
        command.main(["--config", "tiny.yaml"])
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_stopped_study_goes_on(place: Path) -> None:
    (place / "base.yaml").write_text(BASE.format(epochs=12))
    (place / "tiny.yaml").write_text(STUDY[: STUDY.index("  diverging")])
    line = [sys.executable, "-m", "lenet_lightning", "study", "--config", "tiny.yaml"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)
    run = place / "lightning_logs/tiny/plain/seed_0/version_0"
    while not (run / "metrics.csv").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130, error
    assert "to resume:\n  python -m lenet_lightning study --config tiny.yaml" in error
    assert manifest(place, "plain")["status"] == "interrupted"
    assert 0 < manifest(place, "plain")["epochs"] < 12

    assert command.main(["--config", "tiny.yaml"]) == 0
    assert manifest(place, "plain")["status"] == "finished"
    with (run / "metrics.csv").open(newline="") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(12))
    assert not (run.parent / "version_1").exists()


def test_only_seeds_that_are_missing_are_trained(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = STUDY[: STUDY.index("  diverging")]
    (place / "tiny.yaml").write_text(text)
    assert command.main(["--config", "tiny.yaml", "--jobs", "1"]) == 0
    (place / "tiny.yaml").write_text(text.replace("[0]", "[0, 2]"))
    assert command.main(["--config", "tiny.yaml", "--dry_run", "--jobs", "1"]) == 0
    assert "1 complete, 1 to run, 1 at a time" in capsys.readouterr().out


def results(name: str = "tiny") -> list[dict[str, str]]:
    with Path(f"lightning_logs/{name}/results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def seeds_of(name: str) -> list[int]:
    """The seeds in a study's folder, each of which has one finished run."""
    folders = sorted(Path(f"lightning_logs/{name}/repeats").iterdir())
    finished = [run_folder.read(next(folder.glob("version_*"))).manifest for folder in folders]
    assert {run.status for run in finished} == {"finished"}
    assert not list(Path("lightning_logs").glob(f"{name}/repeats/*/version_1"))
    return [run.seed for run in finished]


class TestSeedsOfAConfiguration:
    def test_are_a_study_of_one_setting(
        self, place: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--config", "base.yaml", "--jobs", "1", "--model.network.dropout", "0.1"]
        assert command.main([*options, "--seeds", "0,1"]) == 0
        assert seeds_of("digits") == [0, 1]
        accuracies = [float(row["honest_accuracy"]) for row in results("digits")]
        mean, sd = statistics.mean(accuracies), statistics.stdev(accuracies)
        printed = capfd.readouterr().out
        row = f"Epoch selected on validation  {100 * mean:.2f} ± {100 * sd:.2f} %"
        assert row in printed and "95 % over seeds" in printed
        assert printed.endswith("\nlightning_logs/digits/report.html\n")
        run = run_folder.read("lightning_logs/digits/repeats/seed_1/version_0")
        assert run.config["model"]["network"]["init_args"]["dropout"] == 0.1

        # Finished runs are kept; the report can be rebuilt.
        assert command.main([*options, "--seeds", "0-2"]) == 0
        assert seeds_of("digits") == [0, 1, 2]
        assert command.main(["report", "lightning_logs/digits"]) == 0

    def test_have_the_name_of_the_configuration(
        self, place: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (place / "base.yaml").write_text(f"name: mine{BASE.format(epochs=2)}")
        for options, name in (([], "mine"), (["--name=yours"], "yours")):
            dry = ["--config", "base.yaml", "--seeds", "7", "--dry_run", *options]
            assert command.main(dry) == 0
            assert f"1 to run, 1 at a time, into lightning_logs/{name}" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ("base.yaml", "--seeds 0-4"),
            (
                "base.yaml --seeds 0 --model.network.dropuot 0.1",
                "did you mean model.network.dropout",
            ),
            (
                "base.yaml --seeds 0 --model.network.dropout",
                "--model.network.dropout is given without a value",
            ),
            (
                "base.yaml --seeds 0 --model.network.dropout --jobs 1",
                "--model.network.dropout is given without",
            ),
            ("base.yaml --seeds 0 --model.l2=0 --model.l2=1", "--model.l2 is given twice"),
            ("base.yaml --seeds 0 --resume must", "--resume is not an option of study"),
            ("base.yaml --seeds 0 0.1", "0.1 is not an option of study"),
            ("base.yaml --seeds 2-0", "--seeds: 2-0 given"),
            ("base.yaml --seeds 0 --config tiny.yaml", "one --config"),
            ("base.yaml --seeds 0 --name up/there", "name is 'up/there': expected a name"),
            ("tiny.yaml --seeds 0 --model.l2 1", "--model.l2 changes the configuration of a fit"),
        ],
    )
    def test_refused(self, place: Path, options: str, part: str) -> None:
        with pytest.raises(UserError) as error:
            command.main(["--config", *options.split()])
        assert part in str(error.value)
        assert not (place / "lightning_logs").exists()


def test_seeds_in_place_of_those_of_a_study(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tiny.yaml").write_text(STUDY[: STUDY.index("  diverging")])
    options = ["--config", "tiny.yaml", "--seeds", "3", "--jobs", "1"]
    assert command.main([*options, "--dry_run"]) == 0
    assert "seeds 3 " in capsys.readouterr().out
    assert command.main(options) == 0
    assert capsys.readouterr().out == "lightning_logs/tiny/report.html\n"
    assert [path.name for path in Path("lightning_logs/tiny/plain").iterdir()] == ["seed_3"]
    assert [row["seed"] for row in results()] == ["3"]
