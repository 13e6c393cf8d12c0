"""``robustness`` measures what a direct evaluation measures, and says what is wrong."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lenet_lightning import formatting
from lenet_lightning.data import fetch
from lenet_lightning.data.input_size import to_input_size
from lenet_lightning.robustness import attacks, detection, evaluate
from lenet_lightning.robustness.accuracy_table import Measured
from lenet_lightning.robustness.perturbations import LEVELS
from lenet_lightning.store import run_folder
from lenet_lightning.store.checkpoint_schema import CONFIG_KEY
from lenet_lightning.study import results
from lenet_lightning.training import pretrained
from tests.conftest import Outcome, Run
from tests.robustness.studies import write_study
from tests.study import fakes

FILES = ("robustness.csv", "robustness_tiny.png", "robustness.md")
EACH = len(LEVELS) + len(attacks.ATTACKS) * len(attacks.EPSILONS)  # rows of a network


@pytest.fixture(scope="module")
def measured(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder after the command, to be read only."""
    from lenet_lightning.__main__ import main

    folder = write_study(digits_run, tmp_path_factory.mktemp("studies") / "tiny")
    assert main(["robustness", str(folder)]) == 0
    return folder


@pytest.fixture
def study(digits_run: Path) -> Path:
    return write_study(digits_run, Path("lightning_logs/tiny"))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / FILES[0]).open(newline="") as file:
        return list(csv.DictReader(file))


def refused(outcome: Outcome) -> str:
    assert outcome.code == 2 and outcome.out == ""
    assert outcome.err.splitlines()[-1].startswith("lenet_lightning: ")
    return outcome.err.splitlines()[-1]


def test_rows(measured: Path) -> None:
    found = rows(measured)
    assert list(found[0]) == list(evaluate.Row._fields)
    assert len(found) == 3 * EACH
    keys = [(row["setting"], row["seed"]) for row in found[::EACH]]
    assert keys == [("plain", "0"), ("plain", "1"), ("shaken", "0")]
    assert {(row["dataset"], row["images"]) for row in found} == {("Digits", "360")}
    assert all(0 <= float(row["accuracy"]) <= 1 for row in found)


def test_accuracies_are_those_of_a_direct_evaluation(measured: Path) -> None:
    test = fetch.load("Digits", "datasets").test
    images = torch.from_numpy(to_input_size(test.images)).float() / 255
    labels = torch.from_numpy(test.labels)
    half = torch.cat([1 - images[..., :16], images[..., 16:]], 3)
    altered = {
        ("contrast", "1"): images,
        ("contrast", "-0.3"): 0.65 - 0.3 * images,
        ("contrast", "-1"): 1 - images,
        ("brightness", "0.2"): (images + 0.2).clamp(max=1),
        ("inversion", "0.5"): half,
        ("corruption", "inverse"): 1 - images,
    }
    for row in rows(measured):
        key = row["perturbation"], row["level"]
        if key in altered:
            run = measured / row["setting"] / f"seed_{row['seed']}" / "version_0"
            network = pretrained.load(run / "checkpoints/best.ckpt").network
            with torch.inference_mode():
                expected = (network(altered[key]).argmax(1) == labels).double().mean()
            assert abs(float(row["accuracy"]) - float(expected)) < 1e-6


def test_originals_and_negatives_are_the_run_s_own_test(measured: Path) -> None:
    found = {(r["perturbation"], r["level"]): float(r["accuracy"]) for r in rows(measured)[:58]}
    figures = run_folder.read(measured / "plain/seed_0/version_0").manifest.test
    assert abs(found["contrast", "1"] - figures["acc"]) < 1e-6
    assert abs(found["corruption", "identity"] - figures["acc"]) < 1e-6
    assert abs(found["contrast", "-1"] - figures["acc_negative"]) < 1e-6


def test_page(measured: Path) -> None:
    text = (measured / "robustness.md").read_text()
    found = Measured(
        evaluate.Row(**{**r, "level": r["level"], "accuracy": float(r["accuracy"])})  # type: ignore[arg-type]
        for r in rows(measured)
    )
    both = found.summary("plain", "contrast", "0.5")
    assert both.n == 2
    assert f"| {formatting.mean_sd(both, 'accuracy')} |" in text
    corrupted = found.corrupted("shaken")
    assert corrupted.n == 1 and f"| {100 * corrupted.mean:.2f} % |" in text
    assert f"{found.hardest('shaken')[0].replace('_', ' ')}: " in text
    assert "Not finished, and left out: `shaken` seed 1." in text
    assert '<img src="robustness_tiny.png"' in text
    assert "mean over seeds 0, 1" in text and "360 test images" in text
    assert "python -m lenet_lightning robustness" in text
    assert (measured / FILES[1]).read_bytes().startswith(b"\x89PNG")


def test_attacks_are_measured_on_each_network(measured: Path) -> None:
    found = [row for row in rows(measured) if row["perturbation"] in attacks.ATTACKS]
    found = found[: EACH - len(LEVELS)]
    accuracy = {(row["perturbation"], row["level"]): float(row["accuracy"]) for row in found}
    clean = float(rows(measured)[0]["accuracy"])
    for name in attacks.ATTACKS:
        shares = [accuracy[name, str(epsilon)] for epsilon in attacks.EPSILONS]
        assert clean >= shares[0] >= shares[-1] and shares[-1] < clean - 0.1
    assert accuracy["pgd", "32"] <= accuracy["fgsm", "32"]
    text = (measured / "robustness.md").read_text()
    assert "| Setting | Runs | FGSM, 8/255 | PGD, 8/255 | FGSM, 32/255 | PGD, 32/255 |" in text
    assert "first 360 test images" in text


def test_another_dataset_is_detected(
    run: Run, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "OTHERS", {"Digits": "Digits"})
    done = run(f"robustness {study} --images 50")
    assert done.code == 0, done.err
    with (study / "out_of_distribution.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == list(detection.Detection._fields) and len(found) == 3
    assert {row["auroc"] for row in found} == {"0.5"}  # the same images
    assert found[0]["images"] == found[0]["other_images"] == "50"
    assert "Detection of Digits by the largest probability" in (study / FILES[2]).read_text()
    monkeypatch.setattr(detection, "OTHERS", {"Digits": "MNIST"})
    absent = run(f"robustness {study} --images 10 --output elsewhere")
    assert absent.code == 0 and "MNIST was not tried as out of distribution" in absent.err
    assert not Path("elsewhere/out_of_distribution.csv").exists()


def test_mean_leaves_identity_and_inverse_out() -> None:
    accuracy = {"identity": 1.0, "inverse": 0.0, "fog": 0.5, "scale": 0.7}
    rows = [
        evaluate.Row("a", 0, "", "Digits", "corruption", name, value, 10)
        for name, value in accuracy.items()
    ]
    found = Measured(rows)
    assert found.corrupted("a").mean == pytest.approx(0.6)
    assert found.hardest("a")[0] == "fog"
    assert found.highest == 1.0


def test_outcome_depends_neither_on_batches_nor_on_other_networks(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results.gather(results.read_study(study), study)
    networks = [evaluate.load(result) for result in found if result.status == "finished"]
    first = networks[0]
    data = evaluate.test_set(first.spec, first.config, first.result.path, count=60)
    expected = evaluate.evaluate(networks, *data, 0)
    monkeypatch.setattr(evaluate, "BATCH", 7)
    assert evaluate.evaluate(networks[1:2], *data, 0) == expected[EACH : 2 * EACH]
    assert evaluate.evaluate(networks[1:2], *data, 1) != expected[EACH : 2 * EACH]


def test_output_images_and_progress(run: Run, study: Path) -> None:
    before = sorted(study.rglob("*"))
    done = run(f"robustness {study} --images 20 --seed 5 --output elsewhere/new")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [f"elsewhere/new/{name}" for name in FILES]
    assert "Digits, 3 networks" in done.err and "61/61" in done.err
    assert sorted(study.rglob("*")) == before
    assert {row["images"] for row in rows(Path("elsewhere/new"))} == {"20"}
    assert sorted(path.name for path in Path("elsewhere/new").iterdir()) == sorted(FILES)


def test_groups_have_figures_of_their_own(run: Run, study: Path) -> None:
    text = (study / "study.yaml").read_text()
    text = text.replace(
        "settings:", "groups: {easy: {title: Easy}, hard: {title: Hard}}\nsettings:"
    )
    (study / "study.yaml").write_text(text)
    (study / "plain").rename(study / "easy_plain")
    (study / "shaken").rename(study / "hard_shaken")
    done = run(f"robustness {study} --images 10")
    assert done.code == 0, done.err
    names = [Path(line).name for line in done.out.splitlines()]
    assert names == [FILES[0], "robustness_easy.png", "robustness_hard.png", FILES[2]]
    headings = [x for x in (study / FILES[2]).read_text().splitlines() if x.startswith("## ")]
    assert headings[:2] == ["## Easy", "## Hard"]


def test_ctrl_c_writes_nothing(run: Run, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(evaluate, "evaluate", interrupted)
    done = run(f"robustness {study}")
    assert done.code == 130 and "Stopped by SIGINT." in done.err
    assert not list(study.glob("*robustness*"))


def test_folder_that_is_none(run: Run) -> None:
    assert "nothing is not a study's folder" in refused(run("robustness nothing"))


def test_study_without_runs(run: Run, study: Path) -> None:
    (study / "study.json").write_text('{"runs": {}}')
    assert "holds no runs of the study 'tiny'" in refused(run(f"robustness {study}"))


def test_study_without_finished_runs(run: Run, study: Path) -> None:
    for file in study.rglob("run.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "interrupted"}))
    assert "holds no finished run of the study 'tiny'" in refused(run(f"robustness {study}"))


def test_damaged_and_absent_checkpoints(run: Run, study: Path) -> None:
    best = study / "plain/seed_1/version_0/checkpoints/best.ckpt"
    best.write_bytes(best.read_bytes()[:5000])
    assert f"{best} is damaged" in refused(run(f"robustness {study}"))
    best.unlink()
    assert f"{best} cannot be read" in refused(run(f"robustness {study}"))
    fake = fakes.write_study(Path("fake"), seeds=1)
    assert "best.ckpt cannot be read" in refused(run(f"robustness {fake}"))


def test_absent_dataset(run: Run, study: Path) -> None:
    for best in study.rglob("best.ckpt"):
        checkpoint = torch.load(best, weights_only=True)
        checkpoint["lenet_lightning_input"]["name"] = "MNIST"
        torch.save(checkpoint, best)
    assert "was trained on MNIST, but" in refused(run(f"robustness {study}"))
    for best in study.rglob("best.ckpt"):
        checkpoint = torch.load(best, weights_only=True)
        config = checkpoint[CONFIG_KEY]
        checkpoint[CONFIG_KEY] = config.replace("lenet_lightning.Digits", "lenet_lightning.MNIST")
        torch.save(checkpoint, best)
    said = refused(run(f"robustness {study} --root no/such/folder"))
    assert "MNIST is incomplete in no/such/folder/MNIST" in said


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("", "robustness: the following arguments are required: FOLDER"),
        ("lightning_logs/tiny --images 0", "expected a whole number above 0"),
        ("lightning_logs/tiny --images 361", "--images is 361, but Digits has 360 test images"),
        ("lightning_logs/tiny --seed -1", "--seed"),
        ("lightning_logs/tiny --seeds 1", "--seeds"),
        (
            "lightning_logs/tiny --output lightning_logs/tiny/study.yaml",
            "The system refused a file (lightning_logs/tiny/study.yaml)",
        ),
    ],
)
def test_bad_arguments(run: Run, study: Path, options: str, part: str) -> None:
    assert part in refused(run(f"robustness {options} "))


@pytest.mark.parametrize("command", ["robustness", "first_layer"])
def test_help_needs_no_torch(run: Run, command: str) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"from lenet_lightning.__main__ import main; main([{command!r}, '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--root" in done.stdout and "--output" in done.stdout
    assert f"\n  {command} " in run("--help").out
