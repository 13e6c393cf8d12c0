"""The command line from outside: what a run leaves, and how runs agree with each other."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lenet_lightning import __version__
from lenet_lightning.cli import lightning_cli
from lenet_lightning.errors import UserError
from lenet_lightning.networks import fused
from lenet_lightning.statistics import wilson
from lenet_lightning.store import run_folder
from tests.conftest import DIGITS, PLAIN, Run

FIGURES = ("acc", "loss", "acc_negative", "loss_negative")
COLUMNS = [
    "epoch", "step", "lr", "train/loss", "train/acc",
    "val/loss", "val/acc", "val/loss_negative", "val/acc_negative", "seconds",
]  # fmt: skip


def metrics(folder: str | Path) -> list[dict[str, str]]:
    """metrics.csv as text, without the seconds."""
    rows = run_folder.read_rows(Path(folder) / "metrics.csv")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return all(torch.equal(first[k], second[k]) for k in first)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestHelp:
    def test_overview(self, run: Run) -> None:
        outcome = run("--help")
        assert outcome.code == 0
        assert all(f"\n  {name} " in outcome.out for name in ("fit", "predict", "data", "study"))

    def test_version(self, run: Run) -> None:
        assert run("--version").out == f"{__version__}\n"

    @pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
    def test_options(
        self,
        run: Run,
        command: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        code, out, _ = run(command, "--help")
        assert code == 0
        assert all(
            f"--{key}" in out
            for key in ("logs", "name", "seed_everything", "model.network.dropout")
        )
        assert ("--resume" in out) == (command == "fit")
        assert not any(f"--{key}" in out for key in ("weights_only", "verbose"))
        own, model, data, trainer = map(
            out.index, ("--ckpt_path ", "--model.network", "--data.root", "--trainer.max_epochs")
        )
        assert own < model < data < trainer
        assert "`" not in out and not re.search(r":(class|func|paramref|meth):", out)
        assert ("a picture, a folder of pictures" in " ".join(out.split())) == (
            command == "predict"
        )

    def test_options_of_one_class(self, run: Run) -> None:
        for option in ("--data.help CIFAR10", "--data.help=CIFAR10"):
            code, out, _ = run(f"fit {option}")
            assert code == 0 and "--data.num_folds" in out
        assert "--model.optimizer.weight_decay" in run("fit --model.optimizer.help AdamW").out


class TestShortForms:
    def test_a_configuration(self, run: Run) -> None:
        Path("own.yaml").write_text("data: Digits\ntrainer: {max_epochs: 1, logger: false}\n")
        for words in ("fit own.yaml", "train own.yaml"):
            assert run(f"{words} --trainer.accelerator cpu").code == 0
        assert run("fit own.yaml --trainer.max_epochs 2 missing.yaml").code == 2

    def test_a_checkpoint_or_run_folder(self, run: Run, trained: Path) -> None:
        best = f"{trained}/checkpoints/best.ckpt"
        for words in (f"test {best}", f"test {trained}", f"test --ckpt_path {trained}"):
            assert f"{best}: Digits, 360 images" in run(words).out
        assert len(run_folder.read(trained).manifest.evaluations) == 1
        several = run("test", "lightning_logs/trained/version_?")
        assert several.code == 0 and best in several.out
        assert run(f"export {trained}").code == 2
        assert run(f"export --ckpt_path {trained} --format safetensors").code == 0
        assert (trained / "checkpoints/best.safetensors").exists()

    def test_a_second_checkpoint_is_a_pattern_that_the_shell_replaced(
        self, run: Run, trained: Path
    ) -> None:
        last, best = (f"{trained}/checkpoints/{name}.ckpt" for name in ("last", "best"))
        for words in (f"test {best} {last}", f"test --ckpt_path {best} {last}"):
            refused = run(words)
            assert refused.code == 2 and "put a pattern of several into quotes" in refused.err

    def test_a_checkpoint_alone_resumes_with_the_settings_of_its_run(
        self, run: Run, trained: Path
    ) -> None:
        for start in (f"{trained}/checkpoints/last.ckpt", str(trained)):
            refused = run(f"fit --ckpt_path {start}")
            assert refused.code == 2 and "trainer.max_epochs is 2" in refused.err
        longer = run(
            f"fit {trained} --trainer.max_epochs 3 --trainer.logger false --logs lightning_logs"
        )
        assert longer.code == 0
        folder = Path("lightning_logs/trained/version_1")
        assert len(run_folder.read(folder).metrics["epoch"]) == 1
        origin = run_folder.read(folder).manifest.continued_from
        assert origin and origin["checkpoint"].endswith("last.ckpt")

    def test_pictures(self, run: Run, trained: Path) -> None:
        Path("pictures").mkdir()
        Image.new("L", (28, 28)).save("pictures/black.png")
        done = run(f"predict pictures --ckpt_path {trained} --output here.csv")
        assert done.code == 0 and Path("here.csv").exists()


class TestRunFolder:
    def test_files(self, trained: Path) -> None:
        names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
        assert names >= {
            "config.yaml", "run.json", "metrics.csv", "test_predictions.npz",
            "checkpoints/best.ckpt", "checkpoints/last.ckpt",
        }  # fmt: skip
        assert any(name.startswith("events.out.tfevents.") for name in names)
        assert not any(
            ".tmp" in name or re.search(r"\.\d+$", name) for name in names if "/" in name
        )

    def test_manifest(self, trained: Path) -> None:
        manifest = json.loads((trained / "run.json").read_text())
        assert manifest["status"] == "finished" and manifest["error"] is None
        assert (manifest["seed"], manifest["protocol"], manifest["epochs"]) == (0, "holdout", 2)
        assert manifest["best_epoch"] in (0, 1)
        assert set(manifest["test"]) == set(FIGURES)
        assert all(0 <= manifest["test"][key] <= 1 for key in ("acc", "acc_negative"))
        data = manifest["data"]
        assert (data["name"], len(data["classes"])) == ("Digits", 10)
        assert (data["train_size"], data["val_size"], data["test_size"]) == (1294, 143, 360)
        assert all(re.match("(md5|sha256):[0-9a-f]+$", d) for d in data["digests"].values())
        assert manifest["parameters"] == 61_706
        assert manifest["versions"].keys() >= {"python", "torch", "lightning", "lenet_lightning"}
        assert manifest["hardware"].keys() >= {"cpu", "cores", "threads", "device", "gpu"}
        assert manifest["seconds"] > 0 and manifest["epoch_seconds"] > 0
        assert re.fullmatch("[0-9a-f]{16}", manifest["code"])
        assert manifest.keys() >= {"command", "git", "started", "monitor", "device"}

    def test_metrics(self, trained: Path) -> None:
        with (trained / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == COLUMNS
        assert [row["epoch"] for row in rows] == ["0", "1"]
        assert [row["step"] for row in rows] == ["21", "42"]  # 1,294 images, 64 a batch

    def test_predictions(self, trained: Path) -> None:
        manifest = json.loads((trained / "run.json").read_text())
        with np.load(trained / "test_predictions.npz") as file:
            arrays = dict(file)
        assert set(arrays) == {"labels", "original", "negative"}
        assert all(a.dtype == np.int16 and a.shape == (360,) for a in arrays.values())
        for key, name in (("acc", "original"), ("acc_negative", "negative")):
            share = (arrays[name] == arrays["labels"]).mean()
            assert share == pytest.approx(manifest["test"][key], abs=1e-7)

    def test_table(self, run: Run) -> None:
        outcome = run(f"{DIGITS} --name shown")
        assert outcome.code == 0 and outcome.err == ""
        folder = "lightning_logs/shown/version_0"
        test = json.loads(Path(folder, "run.json").read_text())["test"]
        for part in (
            f"Run folder {folder}",
            "Digits test set, 360 images",
            " of 2, selected by val/acc on 143 validation images (protocol holdout)",
            "95 % interval",
            f"originals {test['acc']:>10.2%} ",
            f"negatives {test['acc_negative']:>10.2%} ",
            f"{test['loss']:.4f}",
        ):
            assert part in outcome.out, outcome.out

    def test_watch_protocol(self, run: Run) -> None:
        assert run(f"{PLAIN} --name watched --data.protocol watch").code == 0
        rows = metrics("lightning_logs/watched/version_0")
        assert [c for c in rows[0] if c.startswith("test/")] == [
            "test/loss", "test/acc", "test/loss_negative", "test/acc_negative"
        ]  # fmt: skip
        manifest = json.loads(Path("lightning_logs/watched/version_0/run.json").read_text())
        best = rows[manifest["best_epoch"]]
        for name in FIGURES:  # the best epoch's watched figures are those of the final test
            assert float(best[f"test/{name}"]) == manifest["test"][name]

    def test_report_protocol(self, run: Run) -> None:
        outcome = run(f"{PLAIN} --name report --data.protocol report")
        assert "selected by val/acc on the test set itself (protocol report)" in outcome.out
        manifest = json.loads(Path("lightning_logs/report/version_0/run.json").read_text())
        assert (manifest["protocol"], manifest["data"]["val_size"]) == ("report", 0)
        best = metrics("lightning_logs/report/version_0")[manifest["best_epoch"]]
        assert float(best["val/acc"]) == manifest["test"]["acc"]

    def test_fast_dev_run_writes_nothing(self, run: Run) -> None:
        outcome = run(f"{PLAIN} --trainer.fast_dev_run true")
        assert outcome.code == 0
        assert list(Path().iterdir()) == []
        assert outcome.out.startswith("trainer.fast_dev_run: trained on 1 batch")
        several = run(f"{PLAIN} --trainer.fast_dev_run 3").out
        assert "trained on 3 batch" in several and "nothing was tested or saved" in several

    def test_nothing_is_left_if_the_data_are_absent(self, run: Run) -> None:
        command = "fit --data MNIST --data.download false --trainer.max_epochs 1"
        outcome = run(command, "--trainer.accelerator", "cpu")
        assert outcome.code == 2 and "MNIST" in outcome.err
        assert not list(Path().rglob("version_*"))

    def test_names_may_hold_slashes(self, run: Run) -> None:
        assert run(f"{PLAIN} --logs runs --name study/one").code == 0
        assert Path("runs/study/one/version_0/run.json").exists()

    def test_a_failure_is_recorded(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: object) -> None:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(lightning_cli.Classifier, "training_step", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(f"{PLAIN} --name failed")
        manifest = json.loads(Path("lightning_logs/failed/version_0/run.json").read_text())
        assert (manifest["status"], manifest["error"]) == ("failed", "out of memory")

    @pytest.mark.parametrize(("kernel", "told"), [("auto", True), ("torch", False)])
    def test_a_kernel_that_is_unavailable_is_told(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, kernel: str, told: bool
    ) -> None:
        monkeypatch.setattr(fused, "unavailable", lambda: "There is no compiler.")
        outcome = run(f"{PLAIN} --name slow --model.network.kernel {kernel}")
        assert outcome.code == 0 and ("There is no compiler. " in outcome.out) == told
        manifest = json.loads(Path("lightning_logs/slow/version_0/run.json").read_text())
        assert manifest["kernel"] == "torch"
        assert manifest["kernel_unavailable"] == ("There is no compiler." if told else None)

    def test_non_finite_loss(self, run: Run) -> None:
        outcome = run(f"{PLAIN} --name burst --model.optimizer SGD --model.optimizer.lr 1e30")
        assert outcome.code == 3
        assert outcome.err.count("\n") == 1 and "no longer finite at step" in outcome.err
        manifest = json.loads(Path("lightning_logs/burst/version_0/run.json").read_text())
        assert manifest["status"] == "nonfinite"


class TestSecondRun:
    def test_first_is_untouched(self, run: Run, trained: Path) -> None:
        before = contents(trained)
        outcome = run(f"{DIGITS} --name trained")
        assert outcome.code == 0 and "version_1" in outcome.out
        assert contents(trained) == before
        assert metrics("lightning_logs/trained/version_1") == metrics(trained)

    def test_same_seed_same_run(self, run: Run, trained: Path) -> None:
        options = (
            "--data.augmentation.rotation 5 --data.augmentation.invert 0.3 "
            "--data.train_polarity random"
        )
        for _ in range(2):
            assert run(f"{PLAIN} --name again --model.network.dropout 0.3 {options}").code == 0
        first, second = (Path(f"lightning_logs/again/version_{i}") for i in (0, 1))
        assert metrics(first) == metrics(second) != metrics(trained)
        for name in ("best.ckpt", "last.ckpt"):
            assert same_weights(first / "checkpoints" / name, second / "checkpoints" / name)

    def test_other_seed_other_run(self, run: Run, trained: Path) -> None:
        assert run(f"{PLAIN} --name other --seed_everything 1").code == 0
        other = Path("lightning_logs/other/version_0")
        assert metrics(other) != metrics(trained)
        assert not same_weights(other / "checkpoints/best.ckpt", trained / "checkpoints/best.ckpt")

    def test_config_reproduces_the_run(self, run: Run) -> None:
        options = (
            "--model.network.dropout 0.2 --model.network.activation tanh --model.l2 0.001 "
            "--model.scheduler StepLR "
            "--model.scheduler.step_size 1 --data.augmentation.translation 2 --data.batch_size 50 "
            "--data.num_folds 4 --data.fold 3 --data.negate_border false --seed_everything 7"
        )
        assert run(f"{PLAIN} --name made {options}").code == 0
        first = Path("lightning_logs/made/version_0")
        assert run(f"fit --config {first}/config.yaml").code == 0
        second = Path("lightning_logs/made/version_1")
        assert metrics(second) == metrics(first)
        assert (second / "config.yaml").read_text() == (first / "config.yaml").read_text()
        one, two = run_folder.read(first).manifest, run_folder.read(second).manifest
        for key in ("test", "best_epoch", "data", "parameters"):
            assert getattr(one, key) == getattr(two, key)

    def test_steps_per_execution_changes_nothing(self, run: Run, trained: Path) -> None:
        assert run(f"{PLAIN} --name single --data.steps_per_execution 1").code == 0
        single = Path("lightning_logs/single/version_0")
        assert same_weights(single / "checkpoints/last.ckpt", trained / "checkpoints/last.ckpt")
        assert metrics(single) == metrics(trained)


class TestEvaluation:
    def test_all_agree_with_fit(self, run: Run, trained: Path) -> None:
        """fit, then test, validate and predict of the same checkpoint: to the last digit."""
        best = f"{trained}/checkpoints/best.ckpt"
        recorded = run_folder.read(trained)
        known = {path: data for path, data in contents(trained).items() if path.suffix != ".json"}
        tested, validated = run(f"test --ckpt_path {best}"), run(f"validate --ckpt_path {best}")
        assert (tested.code, validated.code) == (0, 0)
        test, val = run_folder.read(trained).manifest.evaluations
        assert (test["stage"], val["stage"]) == ("test", "val")
        assert {key: test[key] for key in FIGURES} == recorded.manifest.test
        row = metrics(trained)[recorded.manifest.best_epoch]
        assert {key: str(val[key]) for key in FIGURES} == {k: row[f"val/{k}"] for k in FIGURES}
        for outcome, count in ((tested, 360), (validated, 143)):
            assert f"{count} images" in outcome.out and "95 % interval" in outcome.out
        assert known.items() <= contents(trained).items()  # neither touched the run's own files

        predicted = run(f"predict --ckpt_path {best} --data Digits")
        assert predicted.code == 0
        with (trained / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        with np.load(trained / "test_predictions.npz") as arrays:
            assert [int(row["class"]) for row in rows] == arrays["original"].tolist()
            assert [int(row["negative_class"]) for row in rows] == arrays["negative"].tolist()

    def test_again_is_recorded_once(self, run: Run, trained: Path) -> None:
        for _ in range(2):
            assert run(f"test --ckpt_path {trained}/checkpoints/best.ckpt").code == 0
        assert len(run_folder.read(trained).manifest.evaluations) == 1
        assert not Path("lightning_logs/lightning_logs").exists()
        assert [p.name for p in Path("lightning_logs/trained").iterdir()] == ["version_0"]

    def test_of_a_damaged_run(self, run: Run, trained: Path) -> None:
        (trained / "run.json").write_text("{")
        for command in ("test", "validate"):
            refused = run(f"{command} --ckpt_path {trained}/checkpoints/best.ckpt")
            assert (refused.code, refused.out) == (2, "")
            assert f"{trained}/run.json is damaged" in refused.err

    def test_resume_is_for_fit(self, run: Run, trained: Path) -> None:
        refused = run(f"test --ckpt_path {trained}/checkpoints/best.ckpt --resume auto")
        assert refused.code == 2
        assert "--resume is not an option of this command; --help lists them." in refused.err

    def test_validate_of_last(self, run: Run, trained: Path) -> None:
        assert run(f"validate --ckpt_path={trained}/checkpoints/last.ckpt").code == 0
        (val,) = run_folder.read(trained).manifest.evaluations
        assert {k: str(val[k]) for k in FIGURES} == {
            k: metrics(trained)[-1][f"val/{k}"] for k in FIGURES
        }

    def test_with_config(self, run: Run, trained: Path) -> None:
        command = f"test --config {trained}/config.yaml --ckpt_path {trained}/checkpoints/best.ckpt"
        assert run(command).code == 0
        (test,) = run_folder.read(trained).manifest.evaluations
        assert {key: test[key] for key in FIGURES} == run_folder.read(trained).manifest.test


class TestParse:
    def test_complete(self, trained: Path) -> None:
        config = lightning_cli.parse([*DIGITS.split(), "--name", "trained"])
        saved = yaml.safe_load((trained / "config.yaml").read_text())
        assert run_folder.changes(saved, config) == {}
        assert config.keys() == saved.keys()

    def test_trains_nothing(self) -> None:
        lightning_cli.parse(DIGITS.split())
        assert list(Path().iterdir()) == []

    def test_refuses(self) -> None:
        for options in (
            "--model.network.dropuot 1",
            "--data.num_folds 5 --data.fold 5",
            "--name ../x",
        ):
            with pytest.raises(UserError):
                lightning_cli.parse([*DIGITS.split(), *options.split()])


def test_views_are_a_column_of_their_own(run: Run) -> None:
    trained = run(f"{PLAIN} --model.tta_shift 1 --model.tta_flip true --name seen")
    assert trained.code == 0, trained.err
    test = run_folder.read("lightning_logs/seen/version_0").manifest.test
    assert {"acc", "acc_negative", "acc_views", "loss_views"} <= test.keys()
    assert test["acc_views"] != test["acc"]
    assert re.search(rf"views +{test['acc_views']:.2%}", trained.out)
    again = run("test --ckpt_path lightning_logs/seen/version_0/checkpoints/best.ckpt")
    assert f"{test['acc_views']:.2%}" in again.out


def test_no_views_without_asking(trained: Path) -> None:
    assert "acc_views" not in run_folder.read(trained).manifest.test


AVERAGING = """\
trainer:
  callbacks:
    - class_path: EMAWeightAveraging
      init_args: {decay: 0.9}
"""


def test_validation_images_are_those_of_the_training(run: Run) -> None:
    """Another split would validate on images that the network has trained on."""
    assert run(f"{PLAIN} --name split").code == 0
    validate = "validate --ckpt_path lightning_logs/split/version_0/checkpoints/best.ckpt"
    assert run(f"{validate} --data.protocol watch").code == 0
    assert run(f"{validate} --data.val_size 143").code == 0  # as many as by default
    assert "360 images" in run(f"{validate} --data.protocol report").out
    refused = run(f"{validate} --data.num_folds 5")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert "data.num_folds is 5, but the checkpoint" in refused.err
    assert "was trained with null, and may know the images" in refused.err
    assert run(f"{PLAIN} --data.protocol report --name all").code == 0
    refused = run(f"{validate.replace('split', 'all')} --data.protocol holdout")
    assert refused.code == 2 and "was trained with report" in refused.err


def test_half_precision_trains_and_tests(run: Run) -> None:
    fitted = run(f"{PLAIN} --trainer.precision bf16-mixed --name half")
    assert (fitted.code, fitted.err) == (0, "")
    best = "lightning_logs/half/version_0/checkpoints/best.ckpt"
    tested = run(f"test --ckpt_path {best} --trainer.precision bf16-mixed")
    assert (tested.code, tested.err) == (0, "")


def test_lengths_of_a_training_do_not_bind_its_test(run: Run) -> None:
    assert run(f"{PLAIN} --trainer.val_check_interval 7 --name often").code == 0
    best = "lightning_logs/often/version_0/checkpoints/best.ckpt"
    assert run(f"test --ckpt_path {best} --data.subset 100").code == 0


def test_a_time_limit_is_no_callback_of_the_users(run: Run) -> None:
    limited = run(f"{PLAIN} --trainer.max_epochs 1 --trainer.max_time 01:00:00:00")
    assert (limited.code, limited.err) == (0, "")


def test_a_training_that_goes_on_counts_all_its_epochs(run: Run) -> None:
    assert "Epoch 1 of 1, selected by" in run(f"{PLAIN} --trainer.max_epochs 1 --name first").out
    last = "lightning_logs/first/version_0/checkpoints/last.ckpt"
    gone_on = run(f"{PLAIN} --trainer.max_epochs 3 --name second --ckpt_path {last}")
    assert " of 3, selected by" in gone_on.out, gone_on.err


@pytest.mark.parametrize(
    ("command", "expected"),
    [("validate", "100 of 143 images (val)"), ("test", "100 of 360 images (test)")],
)
def test_a_part_of_the_images_counts_as_that_part(run: Run, command: str, expected: str) -> None:
    part = "--data.eval_batch_size 50 --trainer.limit_val_batches 2 --trainer.limit_test_batches 2"
    fitted = run(f"{PLAIN} {part} --name part")
    assert "Digits test set, 100 of 360 images:" in fitted.out
    assert not Path("lightning_logs/part/version_0/test_predictions.npz").exists()
    evaluated = run(
        f"{command} --ckpt_path lightning_logs/part/version_0/checkpoints/best.ckpt {part}"
    )
    assert expected in evaluated.out
    assert not run_folder.read("lightning_logs/part/version_0").manifest.evaluations
    for shown in {fitted.out, evaluated.out}:
        share, low, high = re.findall(r"originals +([\d.]+)% +([\d.]+)% to ([\d.]+)%", shown)[-1]
        interval = wilson(float(share) / 100, 100)
        assert interval == pytest.approx((float(low) / 100, float(high) / 100), abs=1e-4)


def test_averaged_weights_are_validated_saved_and_tested(run: Run) -> None:
    Path("averaging.yaml").write_text(AVERAGING)
    trained = run(f"{PLAIN} --config averaging.yaml --monitor val/loss --name averaged")
    assert trained.code == 0 and trained.err == "", trained.err
    folder = Path("lightning_logs/averaged/version_0")
    test = run_folder.read(folder).manifest.test
    best = folder / "checkpoints/best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    weights, last = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert not torch.equal(weights["network.output.weight"], last["network.output.weight"])
    assert run(f"test --ckpt_path {best}").err == ""
    assert run_folder.read(folder).manifest.evaluations[0]["acc"] == test["acc"]
    assert run_folder.read(folder).manifest.evaluations[0]["loss"] == test["loss"]


def test_checkpoints_every_so_many_steps(run: Run) -> None:
    """Also where several steps are executed at a time otherwise."""
    Path("kept.yaml").write_text(
        "trainer: {callbacks: [{class_path: ModelCheckpoint, init_args: {dirpath: kept, "
        "filename: '{step}', every_n_train_steps: 10, save_top_k: -1}}]}"
    )
    assert run(f"{PLAIN} --config kept.yaml --name kept").code == 0
    steps = {path.stem for path in Path("kept").iterdir() if path.suffix == ".ckpt"}
    assert steps == {f"step={step}" for step in (10, 20, 30, 40)}
    refused = run(f"{PLAIN} --ckpt_path kept/step=10.ckpt --name on")
    assert refused.code == 2 and "saved within an epoch" in refused.err
    assert run("test --ckpt_path kept/step=10.ckpt").code == 0


def test_one_batch_is_not_the_whole_epoch(run: Run) -> None:
    assert run(f"{PLAIN} --trainer.limit_train_batches 1 --name one").code == 0
    assert list(run_folder.read("lightning_logs/one/version_0").metrics["step"]) == [1, 2]


def test_averaging_sees_every_step(run: Run) -> None:
    Path("averaging.yaml").write_text(AVERAGING)
    losses = []
    for steps in ("1", "auto"):
        name = f"--name steps_{steps} --data.steps_per_execution {steps}"
        assert run(f"{PLAIN} --config averaging.yaml {name}").code == 0
        losses.append(
            run_folder.read(f"lightning_logs/steps_{steps}/version_0").metrics["val/loss"]
        )
    assert np.array_equal(*losses)


def test_averaging_goes_on_after_a_stop(run: Run) -> None:
    Path("averaging.yaml").write_text(AVERAGING)
    whole, half = (f"{PLAIN} --config averaging.yaml --name {name}" for name in ("whole", "half"))
    assert run(whole).code == 0
    assert run(half, "--trainer.max_epochs 1").code == 0
    last = "lightning_logs/half/version_0/checkpoints/last.ckpt"
    assert run(half, f"--ckpt_path {last}").code == 0
    metrics = [
        run_folder.read(folder).metrics["val/loss"]
        for folder in ("lightning_logs/whole/version_0", "lightning_logs/half/version_1")
    ]
    assert metrics[0][-1] == metrics[1][-1]


def test_the_test_set_is_left_alone_where_that_is_asked(run: Run) -> None:
    outcome = run(f"{PLAIN} --name untested --skip_test true")
    assert outcome.code == 0 and "Not tested" in outcome.out and "val/acc on" in outcome.out
    folder = Path("lightning_logs/untested/version_0")
    found = run_folder.read(folder)
    assert found.manifest.status == "finished" and found.manifest.test is None
    assert found.config["skip_test"] is True
    assert not (folder / run_folder.PREDICTIONS).exists()
    # Elsewhere the option leaves no trace, so that earlier runs stay complete.
    assert "skip_test" not in lightning_cli.parse(PLAIN.split())
