"""Command lines before they are parsed: files read once, options over files, classes replaced."""

from pathlib import Path
from typing import Any

import pytest

from lenet_lightning import strict_yaml
from lenet_lightning.__main__ import checked
from lenet_lightning.cli import lightning_cli
from lenet_lightning.cli.command_line import Option, drop_replaced, options, read
from lenet_lightning.errors import UserError

DIGITS = ["fit", "--data", "Digits"]
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.5, "weight_decay": 0.1}}


def write(name: str, content: Any) -> str:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(strict_yaml.dumps(content))
    return name


def test_options():
    args = ["-ca", "-c", "b", "--config=c", "-c=d", "--model.x", "-1", "stray", "--help"]
    assert options(args) == [
        Option("--config", "a", ["-ca"]),
        Option("--config", "b", ["-c", "b"]),
        Option("--config", "c", ["--config=c"]),
        Option("--config", "d", ["-c=d"]),
        Option("--model.x", "-1", ["--model.x", "-1"]),
        Option("", "stray", ["stray"]),
        Option("--help", "", ["--help"]),
    ]


@pytest.mark.parametrize("form", ["--config {}", "--config={}", "-c {}", "-c{}", "-c={}"])
def test_every_form_is_read(form):
    file = write("c.yaml", {"seed_everything": 7})
    args = read(["fit", *form.format(file).split()]).args
    assert args[0] == "--config"
    assert strict_yaml.loads(args[1]) == {"seed_everything": 7}


def test_a_config_of_an_earlier_version():
    optimizer = {"class_path": "lenet_lightning.optimizers.Muon", "init_args": {"adam_lr": 0.5}}
    file = write("c.yaml", {"model": {"optimizer": optimizer, "replicas": 1}})
    found = lightning_cli.parse([*DIGITS, "--config", file])["model"]["optimizer"]
    assert found["class_path"].endswith(".Muon") and found["init_args"]["adam_lr"] == 0.5


def test_old_keys_are_answered_by_the_new_ones():
    content = {"data": {"class_path": "Digits", "init_args": {"rotation": 5, "zoom": 0.1}}}
    file = write("c.yaml", content)
    inline = "{init_args: {rotation: 5}}"
    for line in (f"--config {file}", "--data.rotation 5", "--data.init_args.rotation=5", inline):
        args = ["--data", line] if line is inline else line.split()
        with pytest.raises(UserError, match=r"data\.rotation is now data\.augmentation\.rotation"):
            read(["fit", *args])
    with pytest.raises(UserError, match=r"data\.zoom is now data\.augmentation\.zoom"):
        read(["fit", "--config", file])


def test_the_configuration_of_a_run_may_have_old_keys():
    content = {"data": {"class_path": "Digits", "init_args": {"rotation": 5}}}
    write("version_0/run.json", {})
    file = write("version_0/config.yaml", content)
    data = lightning_cli.parse(["fit", "--config", file])["data"]
    assert data["init_args"]["augmentation"]["rotation"] == 5


@pytest.mark.parametrize(
    ("named", "left"),
    [("my_nets.Net", {}), ("LeNet5", {"network": {"dropout": 0.5}}),
     ({"width": 8}, {"network": {"dropout": 0.5}})],
)  # fmt: skip
def test_options_of_lenet5_are_no_options_of_another_network(named, left):
    old = {"model": {"network": {"dropout": 0.5}}}
    drop_replaced(old, {"model": {"network": named}})
    assert old == {"model": left}


def test_groups():
    model = write("m.yaml", {"network": {"dropout": 0.25}})
    trainer = write("conf/t.yaml", {"max_epochs": 7})
    write("conf/c.yaml", {"trainer": "t.yaml"})
    config = lightning_cli.parse([*DIGITS, "--model", model, "--config", "conf/c.yaml"])
    assert (
        config["trainer"]["max_epochs"] == 7
        and config["model"]["network"]["init_args"]["dropout"] == 0.25
    )
    config = lightning_cli.parse(
        [*DIGITS, "--model.network.dropout", "0.5", f"--trainer={trainer}", "--model", model]
    )
    assert (
        config["trainer"]["max_epochs"] == 7
        and config["model"]["network"]["init_args"]["dropout"] == 0.5
    )
    config = lightning_cli.parse(
        ["fit", "--data", "{class_path: Digits, init_args: {batch_size: 8}}"]
    )
    assert config["data"]["init_args"]["batch_size"] == 8


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--config", ["--config", "without a value"]),
        ("--config none.yaml", ["--config none.yaml", "No such file"]),
        ("--trainer none.yaml", ["--trainer none.yaml", "No such file"]),
        ("--data ./none", ["--data ./none", "No such file"]),
        ("-cbroken.yaml", ["--config broken.yaml", "not valid YAML", "line 2"]),
        ("--model broken.yaml", ["--model broken.yaml", "not valid YAML", "line 2"]),
        ("--data=broken.yaml", ["--data broken.yaml", "not valid YAML", "line 2"]),
        ("--config list.yaml", ["list.yaml", "no keys"]),
        ("--config nested.yaml", ["trainer broken.yaml", "line 2"]),
        ("--config .", ["--config .", "regular file"]),
        ("--trainer {a:", ["--trainer", "not valid YAML", "line 1"]),
    ],
)
def test_refused(args, words):
    Path("broken.yaml").write_text("a: 1\na: 2: 3\n")
    write("list.yaml", [1])
    write("nested.yaml", {"trainer": "broken.yaml"})
    with pytest.raises(UserError) as error:
        read(["fit", *args.split()])
    for word in words:
        assert word in str(error.value)


def test_options_win_wherever_they_stand():
    file = write("c.yaml", {"trainer": {"max_epochs": 3}, "data": {"class_path": "Digits"}})
    before = lightning_cli.parse(
        ["fit", "--trainer.max_epochs", "5", "--data.batch_size=8", "-c", file]
    )
    after = lightning_cli.parse(
        ["fit", "-c", file, "--trainer.max_epochs", "5", "--data.batch_size=8"]
    )
    assert before == after
    assert before["trainer"]["max_epochs"] == 5 and before["data"]["init_args"]["batch_size"] == 8


@pytest.mark.parametrize("form", ["option", "file", "class_path", "inline"])
def test_another_class_starts_from_its_own_defaults(form):
    first = write("a.yaml", {"model": {"optimizer": ADAM}})
    second = write("b.yaml", {"model": {"optimizer": {"class_path": "AdamW"}}})
    given = {
        "option": ["--model.optimizer", "AdamW"],
        "file": ["--config", second],
        "class_path": ["--model.optimizer.class_path=AdamW"],
        "inline": ["--model.optimizer", "{class_path: AdamW}"],
    }[form]
    config = lightning_cli.parse([*DIGITS, "-c", first, *given, "--model.optimizer.eps", "1e-3"])
    found = config["model"]["optimizer"]["init_args"]
    assert (found["lr"], found["weight_decay"], found["fused"]) == (0.001, 0.01, None)
    assert found["eps"] == 0.001


def test_the_same_class_keeps_its_arguments():
    file = write("a.yaml", {"model": {"optimizer": ADAM}})
    config = lightning_cli.parse([*DIGITS, "--model.optimizer", "Adam", "-c", file])
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.5


def test_no_default_of_the_default_optimizer_is_kept():
    optimizer = lightning_cli.parse([*DIGITS, "--model.optimizer", "AdamW"])["model"]["optimizer"]
    assert optimizer["init_args"]["weight_decay"] == 0.01


def test_a_list_replaces_the_earlier_one():
    stopping = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 7}}
    again = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/acc"}}
    first = write("a.yaml", {"trainer": {"callbacks": [stopping]}})
    second = write("b.yaml", {"trainer": {"callbacks": [again]}})
    (kept,) = lightning_cli.parse([*DIGITS, "-c", first, "--trainer.callbacks.patience", "9"])[
        "trainer"
    ]["callbacks"]
    assert kept["init_args"]["patience"] == 9 and kept["init_args"]["monitor"] == "val/loss"
    inline = ["--trainer.callbacks", strict_yaml.dumps([again])]
    for given in (["-c", second], inline):
        (found,) = lightning_cli.parse([*DIGITS, "-c", first, *given])["trainer"]["callbacks"]
        assert found["init_args"]["patience"] == 3


def test_other_data_keeps_the_options_and_says_so():
    content = {"class_path": "MNIST", "init_args": {"batch_size": 8, "protocol": "report"}}
    file = write("a.yaml", {"data": content})
    line = read(["fit", "-c", file, "--data", "Digits"])
    assert "Digits in place of MNIST" in line.kept
    assert not read(["fit", "-c", file, "--data", "lenet_lightning.data.mnist.MNIST"]).kept
    assert (
        lightning_cli.parse(["fit", "-c", file, "--data", "Digits"])["data"]["init_args"][
            "batch_size"
        ]
        == 8
    )


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    callback = {"class_path": "Distillation", "init_args": {"teachers": "~/t.ckpt"}}
    file = write("a.yaml", {"logs": "~/runs", "trainer": {"callbacks": [callback]}})
    config = lightning_cli.parse([*DIGITS, "-c", file, "--data.root", "~/sets"])
    assert config["logs"] == f"{tmp_path}/runs"
    assert config["data"]["init_args"]["root"] == f"{tmp_path}/sets"
    assert config["trainer"]["callbacks"][0]["init_args"]["teachers"] == f"{tmp_path}/t.ckpt"


def test_names_that_torchrun_leaves_alone():
    config = lightning_cli.parse([*DIGITS, "--run_root", "x", "--select_by", "val/loss"])
    assert (config["logs"], config["monitor"]) == ("x", "val/loss")


def test_braces_in_a_name_are_text():
    assert lightning_cli.parse([*DIGITS, "--name", "{seed}"])["name"] == "0"


def test_words(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked("--root=~/x") == f"--root={tmp_path}/x"
    assert checked("~/x") == f"{tmp_path}/x"
    assert checked("a~/x") == "a~/x" and checked("a: 1\n\tb") == "a: 1\n\tb"
    with pytest.raises(UserError, match="x1b"):
        checked("--name=a\x1b[31m")
