"""Each mistake a user can make: one line that says what and how, and nothing left behind."""

from __future__ import annotations

import errno
import os
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lenet_lightning.cli.options import NAMES
from lenet_lightning.cli.parser import TRANSIENT
from lenet_lightning.data import fetch
from lenet_lightning.store import checkpoints
from tests.conftest import DIGITS, REPOSITORY, Run

BEST = "lightning_logs/trained/version_0/checkpoints/best.ckpt"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if anything is fetched or loaded, or a connection opened."""

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("work was started before the mistake was found")

    monkeypatch.setattr(fetch, "fetch", forbidden)
    monkeypatch.setattr(fetch, "load", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)


def tree() -> set[Path]:
    return set(Path().rglob("*"))


def refuse(run: Run, command: str, *parts: str, code: int = 2) -> str:
    """Run a command that must fail with one line holding `parts`; return the line."""
    before = tree()
    outcome = run(*command.split())
    assert outcome.code == code, outcome
    assert outcome.err.startswith("lenet_lightning: ") and outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.rstrip().endswith((".", "?")), outcome.err
    for part in parts:
        assert part in outcome.err, f"{part!r} is not in: {outcome.err}"
    for noise in ("Parser key", "Union", "Namespace", "<class", "Traceback", "NestedArg"):
        assert noise not in outcome.err, outcome.err
    assert tree() == before, "something was left behind"
    return outcome.err


MISSPELT_OPTIONS = {
    "--model.optmizer SGD": "did you mean --model.optimizer?",
    "--trainer.max_epochss 1": "--trainer.max_epochss is not an option; did you mean "
    "--trainer.max_epochs?",
    "--model.network.dropuot 0.1": "did you mean --model.network.dropout?",
    "--data.batch_sise 3": "data.batch_sise is not an option; did you mean --data.batch_size?",
    "--data.init_args.batch_sise 3": "did you mean --data.batch_size?",
    "--model.optimizer Adam --model.optimizer.lrr 1": "did you mean model.optimizer.lr?",
    "--model.optimizer Adam --model.optimizer.init_args.lrr 1": "did you mean model.optimizer.lr?",
    "--model.scheduler StepLR --model.scheduler.step_sise 1": "model.scheduler.step_size?",
    "--trainer.callbacks EarlyStopping --trainer.callbacks.monitr x": "trainer.callbacks.monitor?",
    "--nmae x": "--nmae is not an option; did you mean --name?",
    "--batch_size 5": "did you mean --data.batch_size?",
    "--modle.network.dropout 0.1": "did you mean --model.network.dropout?",
    "--data.nonsense 5": "data.nonsense is not an option; --help lists them.",
    "--model.optimizer SGD --model.optimizer.epsilon 1": "not an option of the class that model",
    "--seed_everythng 1": "did you mean --seed_everything?",
}

MISSPELT_NAMES = {
    "--data Digitz": "data is Digitz, which is not known; did you mean Digits?",
    "--data mnist": "did you mean MNIST?",
    "--data cifar-10": "did you mean CIFAR10?",
    "--data fashion_mnist": "did you mean FashionMNIST?",
    "--data xyz": "data is xyz, which is not known: expected one of MNIST, FashionMNIST, CIFAR10",
    "--model.network.activation rellu": "is rellu: expected one of relu, leaky_relu, elu, "
    "tanh, silu; did you mean relu?",
    "--model.network.conv_activation abs": "relu, leaky_relu, elu, tanh, silu, absolute or null.",
    "--model.network.initializer he": "expected one of he_normal, glorot_normal, ones, default.",
    "--model.loss crossentropy": "did you mean cross_entropy?",
    "--model.optimizer Adm": "model.optimizer is Adm, which is not known; did you mean Adam?",
    "--model.optimizer torch.optim.Adm": "did you mean Adam?",
    "--model.optimizer kerasadam": "did you mean KerasAdam?",
    "--model.scheduler StpLR": "model.scheduler is StpLR, which is not known; did you mean StepLR?",
    "--model.scheduler ReduceLROnPlateau": "lightning.pytorch.cli.ReduceLROnPlateau?",
    "--model.scheduler torch.optim.lr_scheduler.ReduceLROnPlateau": (
        "did you mean lightning.pytorch.cli.ReduceLROnPlateau?"
    ),
    "--trainer.callbacks EarlyStoping": "did you mean EarlyStopping?",
    "--trainer.accelerator gpx": "trainer.accelerator is gpx: expected one of auto, cpu, gpu",
    "--trainer.strategy dpp": "trainer.strategy is dpp: expected one of auto, ddp; did you mean",
    "--data.protocol reprot": "did you mean report?",
    "--data.train_polarity negativ": "did you mean negative?",
    "--monitor val/accuracy": "monitor is val/accuracy: expected one of val/acc, val/loss",
    "--resume always": "resume is always: expected one of never, auto, must.",
}

WRONG_VALUES = {
    "--data.batch_size twelve": "data.batch_size is twelve: expected full or a whole number above",
    "--data.batch_size 1.5": "expected full or a whole number above 0.",
    "--data.batch_size 0": "data.batch_size is 0: expected full or a whole number above 0.",
    "--data.batch_size -4": "data.batch_size is -4",
    "--data.eval_batch_size 0": "data.eval_batch_size is 0: expected a whole number above 0.",
    "--data.val_size 0": "data.val_size is 0: expected a whole number above 0 or null.",
    "--data.val_size -1": "data.val_size is -1",
    "--data.subset 0": "data.subset is 0: expected a whole number above 0 or null.",
    "--data.augmentation.rotation -3": "rotation is -3: expected a number, 0 or more.",
    "--data.augmentation.invert 1.5": "invert is 1.5: expected a number from 0 to 1.",
    "--data.download 3": "data.download is 3: expected true or false.",
    "--model.network.dropout 1.0": "dropout is 1.0: expected a number from 0 to below 1.",
    "--model.network.dropout much": "network.dropout is much: expected a number from 0 to below 1.",
    "--model.l2 -1": "model.l2 is -1: expected a number, 0 or more.",
    "--model.optimizer Adam --model.optimizer.lr fast": "model.optimizer.lr is fast: expected a nu",
    "--model.optimizer Adam --model.optimizer.lr -0.1": "model.optimizer refuses its arguments: "
    "Invalid learning rate: -0.1.",
    "--model.optimizer.lr -0.1": "model.optimizer refuses its arguments: Invalid learning rate",
    "--model.optimizer LBFGS": "model.optimizer is LBFGS",
    "--model.scheduler StepLR": "model.scheduler.step_size is required.",
    "--model.scheduler lenet_lightning.LinearCycles": "model.scheduler.first is req",
    "--model.scheduler StepLR --model.scheduler.step_size x": "expected a whole number.",
    "--seed_everything true": "seed_everything is true: expected a whole number from 0 to",
    "--seed_everything -1": "seed_everything is -1: expected a whole number from 0 to",
    "--seed_everything 4294967296": "expected a whole number from 0 to 4294967295.",
    "--data.split_seed 4294967296": "data.split_seed is 4294967296: expected a whole number from 0",
    "--trainer.max_epochs x": "trainer.max_epochs is x: expected a whole number or null.",
    "--trainer.max_epochs 0": "trainer.max_epochs is 0: expected a whole number above 0",
    "--trainer.max_epochs -5": "trainer.max_epochs is -5: expected a whole number above 0",
    "--trainer.devices 0": "trainer.devices is 0: expected a whole number above 0, or auto.",
    "--trainer.devices -3": "trainer.devices is -3",
    "--trainer.devices two": "trainer.devices is two",
    "--trainer.precision 16-mixed": "trainer.precision is 16-mixed: expected 32-true or bf16-mixed",
    "--model.gradient_clip_val 1": "model.gradient_clip_val is now trainer.gradient_clip_val",
    "--trainer.gradient_clip_val -1": "gradient_clip_val is -1: expected a number, 0 or more",
    "--trainer.gradient_clip_val much": "gradient_clip_val is much: expected",
    "--trainer.gradient_clip_val 1 --trainer.gradient_clip_algorithm mean": "one of norm, value",
    "--trainer.gradient_clip_algorithm value": "no effect without trainer.gradient_clip_val",
    "--trainer.accumulate_grad_batches 0": "accumulate_grad_batches is 0: expected a whole number",
    "--trainer.accumulate_grad_batches 2 --trainer.callbacks GradientAccumulationScheduler "
    "--trainer.callbacks.scheduling.1=2": "give one of them",
    "--trainer.limit_train_batches 0": "trainer.limit_train_batches is 0",
    "--trainer.limit_val_batches 0": "trainer.limit_val_batches is 0",
    "--trainer.limit_test_batches 0": "trainer.limit_test_batches is 0",
    "--trainer.limit_predict_batches 1": "trainer.limit_predict_batches is 1: a row is written",
    "--trainer.check_val_every_n_epoch 2": "check_val_every_n_epoch is 2: every epoch is validated",
    "--name ../other": "name is ../other: expected a folder below --logs",
    "--name /elsewhere": "name is /elsewhere: expected a folder below --logs",
    "--model.loss": "--model.loss is given without a value.",
    "--model.network.activation": "--model.network.activation is given without a value.",
    "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor": "callbacks.monitor is given",
    "--config": "--config is given without a value.",
    "-c": "--config is given without a value.",
    "extra": "extra is not an option",
}

MUON = "--model.optimizer lenet_lightning.Muon"

CONTRADICTIONS = {
    "--trainer.callbacks LearningRateFinder": "compared by a study",
    "--trainer.callbacks StochasticWeightAveraging --trainer.callbacks.swa_lrs 0.01": "use EMAW",
    "--trainer.callbacks Timer --trainer.callbacks.duration 00:00:01:00": "trainer.max_time does",
    "--trainer.strategy ddp_spawn": "trainer.strategy is ddp_spawn: expected one of auto, ddp",
    "--trainer.max_steps 20": "trainer.max_steps is 20, but the first validation is after 21 steps",
    "--trainer.val_check_interval 00:00:10:00": "expected a number of batches, or a share of an ep",
    "--trainer.val_check_interval 22": "trainer.val_check_interval is 22, but an epoch has 21 batc",
    "--trainer.val_check_interval 4": "does not divide the 21 batches of an epoch: what is saved",
    "--trainer.val_check_interval 0.5": "give a divisor such as 21.",
    "--trainer.val_check_interval 4 --trainer.limit_train_batches 3": "an epoch has 3 batches",
    "--model.scheduler OneCycleLR --model.scheduler.max_lr 0.1 --model.scheduler.total_steps 1": (
        "ends after 1 steps, but with model.scheduler_interval epoch training takes 2:"
    ),
    "--model.scheduler OneCycleLR --model.scheduler.max_lr 0.1 --model.scheduler.total_steps 41 "
    "--model.scheduler_interval step": "training takes 42:",
    "--model.scheduler OneCycleLR --model.scheduler.max_lr 0.1 --model.scheduler.total_steps 9 "
    "--model.scheduler_interval step --trainer.max_steps 10": "total_steps 10.",
    "--data.num_folds 5 --data.fold 5": "data.fold is 5 and data.num_folds 5: expected at least 2 "
    "folds, and a fold from 0 to num_folds - 1.",
    "--data.num_folds 5 --data.fold -1": "data.fold is -1: expected a whole number, 0 or more.",
    "--data.num_folds 1": "expected at least 2 folds",
    "--data.augmentation.distortion_epochs 3": "data.augmentation.distortion_epochs is 3, ",
    "--data.rotation 5": "data.rotation is now data.augmentation.rotation",
    "--rotation 5": "did you mean --data.augmentation.rotation?",
    "--data.augmentation.rotatoin 5": "did you mean --data.augmentation.rotation?",
    "--data.augmentation 5": "data.augmentation is 5: expected keys and values.",
    "--data.augmentation null": "data.augmentation is null: leave it out, or give it options.",
    "--data.fold 2": "data.fold is 2 but data.num_folds is not set.",
    "--data.num_folds 5 --data.val_size 10": "data.num_folds cannot be combined",
    "--data.num_folds 5 --data.protocol report": "data.num_folds cannot be combined",
    "--data.subset 100000": "data.subset is 100000, but Digits allows at most 1294 here.",
    "--data.val_size 100000": "data.val_size is 100000, but Digits allows at most 1436 here.",
    "--data.batch_size 100000": "data.batch_size is 100000, but Digits allows at most 1294 here.",
    "--data.num_folds 100000": "data.num_folds is 100000, but Digits allows at most 1437 here.",
    "--data.batch_size 33 --trainer.devices 2 --trainer.strategy ddp": "data.batch_size is 33, the "
    "batch over all devices, but 2 devices cannot share it evenly: choose a multiple of 2.",
    "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/accuracy": "EarlyStopping "
    "monitors val/accuracy, which is never reported: expected one of train/loss, train/acc, "
    "val/loss, val/acc, val/loss_negative, val/acc_negative; did you mean val/acc?",
    "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor test/acc": "test/acc",
    "--model.scheduler lightning.pytorch.cli.ReduceLROnPlateau --model.scheduler.monitor loss": (
        "ReduceLROnPlateau monitors loss"
    ),
    "--model.scheduler lightning.pytorch.cli.ReduceLROnPlateau --model.scheduler.monitor val/loss "
    "--model.scheduler_interval step": "known once an epoch: give model.scheduler_interval epoch.",
    "--model.optimizer torch.optim.Muon": "did you mean lenet_lightning.Muon?",
    "--model.optimizer Muon": "did you mean lenet_lightning.Muon?",
    f"{MUON} --model.optimizer.adam_lr -1": "refuses its arguments: Invalid adam_lr",
    f"{MUON} --model.optimizer.momentum 1": "refuses its arguments: Invalid momentum",
    f"{MUON} --model.scheduler OneCycleLR --model.scheduler.total_steps 9 "
    "--model.scheduler.max_lr [0.1]": "model.scheduler refuses its arguments",
    "--trainer.model_registry mine": "checkpoints would be sent to a service",
    "--trainer.callbacks EMAWeightAveraging --trainer.callbacks.update_starting_at_epoch 1": (
        "use update_starting_at_step"
    ),
}


@pytest.mark.parametrize(
    ("options", "part"),
    [*MISSPELT_OPTIONS.items(), *MISSPELT_NAMES.items(), *WRONG_VALUES.items()],
)
def test_option(run: Run, options: str, part: str) -> None:
    refuse(run, f"{DIGITS} {options}", part)


@pytest.mark.parametrize(
    "options",
    ["--model.replicas 2", "--model.replicas=1", "--data.replicas 2", "--config many.yaml"],
)
def test_replicas_are_answered_by_the_study_that_replaces_them(run: Run, options: str) -> None:
    Path("many.yaml").write_text("model: {replicas: 5}\n")
    refuse(run, f"{DIGITS} {options}", "study --config CONFIG --seeds 0-4")


@pytest.mark.parametrize(("options", "part"), CONTRADICTIONS.items())
def test_contradiction(run: Run, options: str, part: str) -> None:
    refuse(run, f"{DIGITS} {options}", part)


def test_sizes_are_known_before_the_download(run: Run) -> None:
    for name, count in (("MNIST", 54_000), ("FashionMNIST", 54_000), ("CIFAR10", 45_000)):
        command = f"fit --data {name} --trainer.max_epochs 1 --data.subset 60001"
        refuse(run, command, f"{name} allows at most {count} here.")


def test_a_file_is_no_folder_of_datasets(run: Run) -> None:
    Path("picture.png").touch()
    refuse(run, f"{DIGITS} --data.root picture.png", "picture.png, a file", "--data Pictures")


SPECIAL_FILES = [
    "--data.root", "--logs", "--trainer.default_root_dir", "--ckpt_path",
    "--trainer.callbacks Distillation --trainer.callbacks.teachers",
    "--trainer.logger CSVLogger --trainer.logger.save_dir",
]  # fmt: skip


@pytest.mark.parametrize("path", ["pipe", "/dev/null"])
@pytest.mark.parametrize("option", SPECIAL_FILES)
def test_a_pipe_or_device_is_not_a_file(run: Run, option: str, path: str) -> None:
    os.mkfifo("pipe")
    refuse(run, f"{DIGITS} {option} {path}", path)


@pytest.mark.parametrize("path", ["pipe", "/dev/null"])
@pytest.mark.parametrize(
    "command",
    [
        "predict --data.root {} --ckpt_path x.ckpt", "test --ckpt_path {}",
        "data show Digits --root {}", "export --ckpt_path {} --format onnx",
        "export --ckpt_path x.ckpt --format onnx --output {}",
        "robustness {}", "first_layer --ckpt_path {} 0", "study report {}",
        "study --config x.yaml --logs {}",
    ],
)  # fmt: skip
def test_a_pipe_or_device_is_not_a_file_of_any_command(
    run: Run, trained: Path, command: str, path: str
) -> None:
    os.mkfifo("pipe")
    command = command.replace("x.ckpt", BEST)
    refuse(run, command.format(path), path)


def test_a_study_is_no_configuration(run: Run) -> None:
    study = REPOSITORY / "configs/studies/smoke.yaml"
    refuse(run, f"fit --config {study}", "is a study: run it with python -m lenet_lightning study")


class TestCommand:
    def test_unknown(self, run: Run) -> None:
        refuse(run, "fti --data Digits", "fti is not a command; did you mean fit?")
        refuse(run, "grow", "grow is not a command: expected one of fit, validate, test, predict")

    def test_none(self, run: Run) -> None:
        outcome = run()
        assert outcome.code == 2 and outcome.out.startswith("usage:")

    def test_no_data(self, run: Run) -> None:
        refuse(run, "fit", "data is required: give --config configs/mnist.yaml, or --data with")

    @pytest.mark.parametrize("command", ["validate", "test", "predict"])
    def test_no_checkpoint(self, run: Run, command: str) -> None:
        for options in ("", "--data Digits", "--data.root x.png"):
            if command != "predict":
                refuse(run, f"{command} {options}", "ckpt_path is required", "best.ckpt")
            elif not options:  # the networks of this package predict
                refuse(run, command, "data.root is required", "a picture or a folder of pictures")

    def test_own_options_are_known(self) -> None:
        from lenet_lightning.cli import lightning_cli

        known = {*lightning_cli.parse(["fit", "--data", "Digits"]), *TRANSIENT, "skip_test"}
        assert known - {"trainer", "model", "data"} == NAMES


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("trainer:\n  max_epochss: 1\ndata: Digits\n", "did you mean trainer.max_epochs?"),
            ("modle:\n  dropout: 0.1\ndata: Digits\n", "did you mean model.network.dropout?"),
            ("nmae: x\ndata: Digits\n", "nmae is not an option; did you mean name?"),
            (
                "data:\n  class_path: Digits\n  init_args:\n    batch_sise: 3\n",
                "data.batch_sise is not an option; did you mean data.batch_size?",
            ),
            (
                "data: Digits\nmodel:\n  optimizer:\n    class_path: torch.optim.Adam\n"
                "    init_args:\n      lrr: 0.1\n",
                "model.optimizer.lrr is not an option; did you mean model.optimizer.lr?",
            ),
            ("data: Digits\nmodel:\n  network: {activation: rellu}\n", "did you mean relu?"),
            ("data: Digits\nseed_everything: true\n", "seed_everything is True"),
            (
                "data: Digits\ntrainer:\n  callbacks:\n  - class_path: EarlyStopping\n"
                "    init_args:\n      monitor: val/accuracy\n",
                "EarlyStopping monitors val/accuracy, which is never reported",
            ),
            (
                "data: [1\n",
                "--config trial.yaml is not valid YAML: while parsing a flow sequence: expected ",
            ),
            ("", "--config trial.yaml holds no keys"),
            ("- 1\n", "holds no keys"),
            (
                "model:\n  dropout: 0.1\nmodel:\n  dropout: 0.2\n",
                "the key 'model' is given twice, in lines 1 and 3",
            ),
        ],
        ids=lambda value: None if "\n" in value else value[:30],
    )
    def test_content(self, run: Run, text: str, part: str) -> None:
        Path("trial.yaml").write_text(text)
        refuse(run, "fit --config trial.yaml", part)

    def test_no_file(self, run: Run) -> None:
        refuse(
            run, "fit --config nowhere.yaml", "--config nowhere.yaml cannot be read", "No such file"
        )
        refuse(run, f"{DIGITS} --trainer nowhere.yaml", "--trainer nowhere.yaml cannot be read")

    def test_bytes(self, run: Run) -> None:
        Path("trial.yaml").write_bytes(b"\xff\xfe\x00\x01")
        refuse(run, "fit --config trial.yaml", "--config trial.yaml is not valid YAML")

    @pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "posix.system"])
    @pytest.mark.parametrize("key", ["callbacks", "optimizer", "data"])
    def test_foreign_code(self, run: Run, name: str, key: str) -> None:
        arguments = {"command": "touch marker", "args": "touch marker", "shell": True}
        entry = {"class_path": name, "init_args": arguments}
        config = {
            "callbacks": {"data": "Digits", "trainer": {"callbacks": [entry]}},
            "optimizer": {"data": "Digits", "model": {"optimizer": entry}},
            "data": {"data": entry},
        }[key]
        Path("trial.yaml").write_text(yaml.safe_dump(config))
        line = refuse(run, "fit --config trial.yaml", f"names {name}, which a configuration may")
        assert f"--allow_imports {name}." in line
        assert not Path("marker").exists()


class TestCheckpoint:
    def test_missing(self, run: Run) -> None:
        for command in ("test", "validate", "predict", DIGITS):
            refuse(run, f"{command} --ckpt_path nowhere.ckpt", "The checkpoint nowhere.ckpt cannot")

    def test_folder(self, run: Run, trained: Path) -> None:
        folder = trained / "checkpoints"  # of a run folder, its best checkpoint is taken
        refuse(run, f"test --ckpt_path {folder}", "checkpoints", "is not a regular file")

    def test_address(self, run: Run) -> None:
        address = "https://example.org/best.ckpt"
        for command in ("test --data Digits", DIGITS):
            refuse(
                run, f"{command} --ckpt_path {address}", f"ckpt_path is {address}", "local files"
            )

    def test_truncated(self, run: Run, trained: Path) -> None:
        path = Path(BEST)
        path.write_bytes(path.read_bytes()[:1000])
        refuse(run, f"test --ckpt_path {BEST}", f"{BEST} is damaged", "best.ckpt.sha256")
        checkpoints.digest_path(path).unlink()
        refuse(run, f"test --ckpt_path {BEST}", f"{BEST} is damaged or not a checkpoint")

    def test_foreign(self, run: Run) -> None:
        for content in ({"state_dict": {}}, [1], torch.zeros(3)):
            torch.save(content, "other.ckpt")
            refuse(run, "test --data Digits --ckpt_path other.ckpt", "ckpt is damaged or not")
        Path("other.ckpt").write_text("nothing of the kind")
        refuse(run, "test --data Digits --ckpt_path other.ckpt", "ckpt is damaged or not")

    def test_nothing_in_it_is_executed(self, run: Run) -> None:
        class Touch:
            def __reduce__(self) -> tuple:
                return os.system, ("touch marker",)

        torch.save({"state_dict": Touch()}, "evil.ckpt")
        Path("evil.pkl").write_bytes(pickle.dumps(Touch()))
        for name in ("evil.ckpt", "evil.pkl"):
            refuse(run, f"test --data Digits --ckpt_path {name}", "only tensors and plain values")
            refuse(run, f"{DIGITS} --ckpt_path {name}", "only tensors and plain values")
        assert not Path("marker").exists()

    def test_other_number_of_channels(self, run: Run, trained: Path) -> None:
        for command in ("test", "validate", "predict", "fit"):
            refuse(
                run,
                f"{command} --data CIFAR10 --trainer.max_epochs 1 --ckpt_path {BEST}"
                if command == "fit"
                else f"{command} --data CIFAR10 --ckpt_path {BEST}",
                f"{BEST} was trained on Digits, 1 channel(s), but CIFAR10 has 3",
            )

    def test_with_resume(self, run: Run, trained: Path) -> None:
        refuse(run, f"{DIGITS} --resume must --ckpt_path {BEST}", "--resume or --ckpt_path")


class TestPictures:
    def refuse(self, run: Run, root: str, *parts: str) -> None:
        refuse(run, f"predict --ckpt_path {BEST} --data.root {root}", *parts)

    def test_no_root(self, run: Run, trained: Path) -> None:
        refuse(run, f"predict --ckpt_path {BEST}", "data.root is required")

    def test_no_picture(self, run: Run, trained: Path) -> None:
        Path("text.png").write_text("this is a text")
        self.refuse(run, "text.png", "text.png is not a picture: expected PNG")
        Path("note.txt").write_text("this is a text")
        self.refuse(run, "note.txt", "note.txt is not a picture: expected PNG")

    def test_truncated_picture(self, run: Run, trained: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)
        Image.fromarray(pixels).save("whole.png")
        Path("whole.png").write_bytes(Path("whole.png").read_bytes()[:500])
        self.refuse(run, "whole.png", "whole.png")

    def test_one_bad_among_good(self, run: Run, trained: Path) -> None:
        Path("mine").mkdir()
        Image.new("L", (9, 9)).save("mine/a.png")
        Path("mine/b.jpg").write_text("no picture")
        self.refuse(run, "mine", "mine/b.jpg is not a picture: expected PNG")

    def test_empty(self, run: Run, trained: Path) -> None:
        Path("empty").mkdir()
        self.refuse(run, "empty", "data.root is empty: expected a picture (PNG")
        self.refuse(run, "nowhere", "data.root is nowhere")
        self.refuse(run, "nowhere/*.png", "data.root is nowhere/*.png")

    def test_not_for_training(self, run: Run, trained: Path) -> None:
        Image.new("L", (9, 9)).save("a.png")
        for command in ("fit --trainer.max_epochs 1", f"test --ckpt_path {BEST}"):
            refuse(run, f"{command} --data Pictures --data.root a.png", "a dataset with classes")


class TestRunFolder:
    def test_mkdir_fails(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        mkdir = Path.mkdir

        def fail(path: Path, *args: object, **kwargs: object) -> None:
            if "taken" in path.parts:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            mkdir(path, *args, **kwargs)

        monkeypatch.setattr(Path, "mkdir", fail)
        refuse(
            run, f"{DIGITS} --logs taken", "The run folder taken/digits cannot be written", "den"
        )

    def test_parent_is_a_file(self, run: Run) -> None:
        Path("logs").write_text("")
        refuse(run, f"{DIGITS} --logs logs", "The run folder logs/digits cannot be written", "--lo")

    def test_resume_of_nothing(self, run: Run) -> None:
        refuse(run, f"{DIGITS} --resume must", "--resume must: there is no unfinished run in light")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["gpu", "cuda", "mps"])
def test_no_gpu(run: Run, name: str) -> None:
    command = f"{DIGITS} --trainer.accelerator {name}"
    refuse(run, command, f"trainer.accelerator is {name}, but torch finds none", "cpu or auto")
