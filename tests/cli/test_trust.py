"""What a configuration may name: every dangerous target, at every place, in every spelling."""

from __future__ import annotations

import os
import re
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import jsonargparse
import pytest
import torch
import yaml

from lenet_lightning.cli import lightning_cli, roles, trust
from lenet_lightning.cli.command_line import read
from lenet_lightning.errors import UserError
from tests.conftest import Run

# Each would leave the file ``marker`` if it were imported, called or constructed.
HANDLER = "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler"
TARGETS: dict[str, dict[str, Any]] = {
    "foreign_module.Thing": {},
    HANDLER: {
        "entrypoint": "/usr/bin/touch",
        "args": ["marker"],
        "env": {},
        "stdout": None,
        "stderr": None,
        "local_rank_id": 0,
    },
    "torch.hub.load": {"repo_or_dir": ".", "model": "net", "source": "local", "trust_repo": True},
    "torch.optim.Adam.register_step_pre_hook": {},
}

# Where a class may stand; each list has one too.
PLACES = [*roles.ROLES, "trainer.accelerator"]


def same(spec: dict[str, Any]) -> Any:
    return spec


def within(path: str, parameter: str, **others: Any) -> Any:
    """Return how to hide a class in a parameter of an allowed class."""
    return lambda spec: {"class_path": path, "init_args": {parameter: spec, **others}}


def in_kwargs(path: str) -> Any:
    """Return how to hide a class in what an allowed class takes without naming it."""
    return lambda spec: {"class_path": path, "dict_kwargs": {"anything": spec}}


# A place, and a parameter of a class allowed there: of any type, a function, a module, a mapping.
HIDDEN: dict[str, tuple[str, Any]] = {
    "ddp_comm_state": ("trainer.strategy", within("DDPStrategy", "ddp_comm_state")),
    "ddp_comm_hook": ("trainer.strategy", within("DDPStrategy", "ddp_comm_hook")),
    "checkpoint_io": ("trainer.strategy", within("DDPStrategy", "checkpoint_io")),
    "on_trace_ready": ("trainer.profiler", within("PyTorchProfiler", "on_trace_ready")),
    "table_kwargs": ("trainer.profiler", within("PyTorchProfiler", "table_kwargs")),
    "console_kwargs": ("trainer.callbacks", within("RichProgressBar", "console_kwargs")),
    "theme": ("trainer.callbacks", within("RichProgressBar", "theme")),
    "scale_fn": (
        "model.scheduler",
        within("torch.optim.lr_scheduler.CyclicLR", "scale_fn", base_lr=0.1, max_lr=0.2),
    ),
    "lr": ("model.optimizer", within("torch.optim.SGD", "lr")),
    "root": ("data", within("Digits", "root")),
    "kwargs of a logger": ("trainer.logger", in_kwargs("TensorBoardLogger")),
    "kwargs of a callback": ("trainer.callbacks", in_kwargs("EMAWeightAveraging")),
    "kwargs of an optimizer": ("model.optimizer", in_kwargs("torch.optim.Adam")),
}

DEEPER = {
    "itself": same,
    "a list": lambda spec: [spec],
    "a mapping of lists": lambda spec: {"x": [1, [spec]]},
    "a callable class": within("torchvision.transforms.Lambda", "lambd"),
}


@pytest.fixture(autouse=True)
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module and a repository that leave the marker when they are imported."""
    for name in ("foreign_module.py", "hubconf.py"):
        Path(name).write_text("open('marker', 'w')\nclass Thing: pass\ndef net(): pass\n")
    monkeypatch.syspath_prepend(Path.cwd())


def refuse(run: Run, key: str, value: Any, *options: str) -> str:
    """Run a configuration that must be refused before anything of it runs; return the sentence."""
    config: dict[str, Any] = {} if key == "data" else {"data": "Digits"}
    group, _, name = key.partition(".")
    config[group] = {name: value} if name else value
    Path("trial.yaml").write_text(yaml.safe_dump(config))
    refused = run("fit --config trial.yaml", *options)
    assert refused.code == 2, refused
    said = refused.err.splitlines()[-1]
    assert said.startswith("lenet_lightning: ") and "Traceback" not in refused.err
    assert key in said
    assert not Path("marker").exists() and not Path("lightning_logs").exists()
    assert "foreign_module" not in sys.modules
    return said


def imports(*args: str) -> set[str]:
    return trust.opened(read(["fit", *args]).imports)


def refusal(config: dict[str, Any], *args: str) -> str:
    """What is said of a parsed configuration; empty if it is taken."""
    try:
        trust.check(jsonargparse.Namespace(**config), imports(*args))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("wrap", [lambda spec: spec, lambda spec: [1, spec], lambda spec: (spec,)])
def test_classes_of_a_parsed_configuration(wrap: Any) -> None:
    inner = {"class_path": "os.system"}
    stopping = "lightning.pytorch.callbacks.EarlyStopping"
    outer = {"class_path": stopping, "init_args": {"x": wrap(inner)}}
    config = {"data": {"root": "s3://a"}, "trainer": {"callbacks": wrap(outer)}}
    said = refusal(config)
    assert "trainer.callbacks" in said and "os.system" in said
    assert refusal(config, "--allow_imports", "os") == ""
    assert refusal(config, "--allow_imports", "o") != ""
    assert refusal({"trainer": {"callbacks": wrap(print)}}) != ""
    assert refusal({"trainer": {"callbacks": wrap(print)}}, "--allow_imports", "builtins") == ""
    del outer["init_args"]
    assert refusal(config) == ""


def test_addresses_of_a_parsed_configuration() -> None:
    paths = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": "a://b"},
    }
    assert "a://b, an address" in refusal({"trainer": {"logger": paths}})
    assert refusal({"trainer": {"logger": paths}}, "--allow_imports", "lightning.pytorch") == ""
    assert refusal({"data": {"root": "a://b"}, "name": "trainer://b"}) == ""


def test_what_is_in_a_class_that_was_opened_is_checked_anew() -> None:
    """Only its own values are trusted, not those of the classes in it."""
    flag, path = "--allow_imports", "lightning.pytorch.callbacks.BatchSizeFinder"
    said = refusal({"trainer": {"callbacks": {"class_path": path}}}, flag, path)
    assert "trainer.callbacks cannot take BatchSizeFinder" in said
    logger = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": "a://b"},
    }
    mine = {"class_path": "mine.Logger", "init_args": {"inner": ["a://c", {"x": "a://d"}]}}
    assert refusal({"trainer": {"logger": {"x": mine}}}, flag, "mine") == ""
    assert "mine.Logger" in refusal({"trainer": {"logger": {"x": mine}}}, flag, "min")
    mine["init_args"]["inner"] = (logger,)
    said = refusal({"trainer": {"logger": mine}}, flag, "mine")
    assert said.startswith("trainer.logger.inner names lightning.pytorch.loggers.CSVLogger,")
    assert refusal({"trainer": {"x": {"b": Path("a"), "c": {"d"}}, "y": 1}, "z": {"://"}}) == ""
    assert "trainer.x is a://b, an address" in refusal({"trainer": {"x": {"a", "a://b"}}})


def parse_anything(*args: str) -> jsonargparse.Namespace:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--any", type=Any)
    return parser.instantiate(parser.parse_args(args))


def test_settings_of_jsonargparse_are_replaced() -> None:
    """Whatever another program in this process has allowed."""
    fsspec.filesystem("memory").pipe("/trial.yaml", b"any: 1")
    spec = '{"class_path": "datetime.timedelta", "init_args": {"days": 1}}'
    jsonargparse.set_parsing_settings(
        import_path_allowlist=["datetime"],
        instantiate_subclass_spec_in_any=True,
        config_read_mode_fsspec_enabled=True,
    )
    assert parse_anything("--config", "memory://trial.yaml").any == 1
    assert parse_anything("--any", spec).any == timedelta(1)
    trust.limit_imports({"mine"})
    with pytest.raises(jsonargparse.ArgumentError):
        parse_anything("--config", "memory://trial.yaml")
    assert not isinstance(parse_anything("--any", spec).any, timedelta)


def test_a_pipe_at_any_key_is_refused() -> None:
    os.mkfifo("pipe")
    assert refusal({"model": {"x": ["pipe"]}}) == (
        "model.x is pipe, a pipe or device: expected a file or a folder."
    )


@pytest.mark.parametrize(
    ("key", "name", "opened", "said"),
    [
        ("trainer.callbacks", "BatchSizeFinder", "", "trainer.callbacks cannot take BatchSizeF"),
        (
            "trainer.callbacks",
            "lightning.pytorch.callbacks.Timer",
            "",
            "cannot take Timer: trainer.",
        ),
        ("trainer.callbacks", "Timer", "lightning.pytorch.callbacks.Timer", "cannot take Timer"),
        (
            "trainer.logger",
            "WandbLogger",
            "",
            "add --allow_imports lightning.pytorch.loggers.Wandb",
        ),
        ("trainer.logger", "WandbLogger", "lightning.pytorch.loggers", "pip install wandb."),
        (
            "trainer.callbacks",
            "RichProgressBar",
            "",
            "trainer.callbacks has RichProgressBar, which ",
        ),
        (
            "trainer.x",
            "lightning.pytorch.callbacks.RichProgressBar",
            "",
            "needs the package rich: ",
        ),
        ("trainer.x", "Timer", "", ""),
        ("trainer.callbacks", "EarlyStopping", "", ""),
        ("trainer.callbacks", "mine.RichProgressBar", "", ""),
    ],
)
def test_classes_by_their_names(
    key: str, name: str, opened: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "find_spec", lambda package: None)
    named, prefixes = [("data", "Digits"), (key, name), ("model.optimizer", "Adam")], {opened}
    if not said:
        return trust.check_names(named, prefixes)
    with pytest.raises(UserError, match=re.escape(said)):
        trust.check_names(named, prefixes)
    monkeypatch.setattr(trust, "find_spec", lambda package: package)
    if "package" in said or "pip install wandb." in said or "which " in said:
        trust.check_names(named, prefixes)


@pytest.mark.parametrize(
    ("key", "path", "given", "said"),
    [
        ("trainer.logger", "lightning.pytorch.loggers.TensorBoardLogger", {"flush_sec": 1},
         "trainer.logger.flush_sec is not an argument of TensorBoardLogger; did you mean "
         "flush_secs?"),
        ("trainer.logger", "lightning.pytorch.loggers.TensorBoardLogger", {"flush_secs": 1}, ""),
        ("trainer.x", "lightning.pytorch.strategies.DDPStrategy", {"static_graph": 1, "zzz": 1},
         "trainer.x.zzz is not an argument of DDPStrategy; leave it out."),
        ("trainer.logger", "lightning.pytorch.loggers.CSVLogger", {"flush_secs": 1},
         "trainer.logger.flush_secs is not an argument of CSVLogger; leave it out."),
        ("trainer.logger", "mine.Logger", {"flush_secs": 1}, ""),
        ("trainer.logger", "lightning.pytorch.loggers.CSVLogger", {}, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mapping", [dict, jsonargparse.Namespace])
def test_further_arguments(key: str, path: str, given: dict, said: str, mapping: Any) -> None:
    node = {"class_path": path, "dict_kwargs": mapping(**given)}
    if not said:
        return trust.further_arguments(key, path, node)
    with pytest.raises(UserError) as refused:
        trust.further_arguments(key, path, node)
    assert str(refused.value) == said
    config = {"trainer": {key.partition(".")[2]: node}}
    assert said.startswith(key) and refusal(config, "--allow_imports", path) == said


def test_what_a_value_names() -> None:
    plain = (
        None,
        True,
        1,
        1.0,
        "a",
        Path("a"),
        timedelta(1),
        torch.device("cpu"),
        [print],
        {"a": 1},
    )
    assert [trust.named(value) for value in plain] == [None] * len(plain)
    assert trust.named({"class_path": "a.B"}) == "a.B"
    assert trust.named(trust.named) == "lenet_lightning.cli.trust.named"
    assert trust.named(SimpleNamespace()) == "types.SimpleNamespace"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", PLACES)
def test_every_place(run: Run, key: str, target: str) -> None:
    spec = {"class_path": target, "init_args": TARGETS[target]}
    for value in (spec, [spec], target):
        refuse(run, key, value)


@pytest.mark.parametrize("depth", DEEPER)
@pytest.mark.parametrize("place", HIDDEN)
def test_every_depth(run: Run, place: str, depth: str) -> None:
    key, hide = HIDDEN[place]
    for target in ("foreign_module.Thing", HANDLER):
        spec = {"class_path": target, "init_args": TARGETS[target]}
        refuse(run, key, hide(DEEPER[depth](spec)))


@pytest.mark.parametrize("place", ["ddp_comm_hook", "scale_fn"])
def test_functions_by_their_path(run: Run, place: str) -> None:
    key, hide = HIDDEN[place]
    assert "torch.hub.load" in refuse(run, key, hide("torch.hub.load"))


@pytest.mark.parametrize("target", [HANDLER, "os.system"])
def test_every_way_to_give_it(run: Run, target: str) -> None:
    spec = {"class_path": target, "init_args": TARGETS.get(target, {"command": "touch marker"})}
    hidden = within("RichProgressBar", "console_kwargs")({"x": spec})
    Path("group.yaml").write_text(yaml.safe_dump({"callbacks": [spec]}))
    Path("callback.yaml").write_text(yaml.safe_dump(hidden))
    text = yaml.safe_dump({"data": "Digits", "trainer": {"callbacks": [hidden]}})
    whole = yaml.safe_dump(hidden, default_flow_style=True, width=10**6).strip()
    for words in (
        ["--data", "Digits", "--trainer", "group.yaml"],
        ["--data", "Digits", "--trainer.callbacks", "callback.yaml"],
        ["--data", "Digits", f"--trainer.callbacks+={whole}"],
        ["--data", "Digits", f"--trainer.callbacks={whole}"],
        ["--data", "Digits", f"--trainer.callbacks+={target}"],
        ["--data", "Digits", "--trainer.callbacks=RichProgressBar",
         f"--trainer.callbacks.console_kwargs={yaml.safe_dump(spec, default_flow_style=True)}"],
        ["--config", text],
    ):  # fmt: skip
        refused = run("fit", *map(shlex.quote, words))
        assert refused.code == 2 and "trainer.callbacks" in refused.err, (words, refused)
        assert target in refused.err and "Traceback" not in refused.err
    assert not Path("marker").exists()


@pytest.mark.parametrize("key", roles.ROLES)
def test_what_is_listed_is_taken(key: str) -> None:
    for path in roles.ROLES[key]:
        words = [] if key == "data" else ["--data", "Digits"]
        flag = "+" * (key == "trainer.callbacks")
        try:
            lightning_cli.parse(["fit", *words, f"--{key}{flag}={{class_path: {path}}}"])
        except (UserError, ValueError) as error:  # of arguments that it needs
            assert "names" not in str(error), path


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("trainer.callbacks", "lightning.pytorch.loggers.CSVLogger"),
        ("trainer.callbacks", "lightning.pytorch.callbacks.LambdaCallback"),
        ("model.scheduler", "torch.optim.lr_scheduler.LambdaLR"),
        ("trainer.plugins", "lightning.pytorch.plugins.AsyncCheckpointIO"),
        ("trainer.logger", "lightning.pytorch.profilers.SimpleProfiler"),
        ("trainer.strategy", "lightning.pytorch.strategies.FSDPStrategy"),
        ("trainer.accelerator", "lightning.pytorch.accelerators.CPUAccelerator"),
    ],
)
def test_a_role_is_of_one_place(run: Run, key: str, path: str) -> None:
    refuse(run, key, {"class_path": path})


def test_the_nearest_class_is_suggested(run: Run) -> None:
    said = refuse(run, "trainer.logger", [{"class_path": "lightning.pytorch.loggers.CometLogger"}])
    assert "comet_ml" in said and "--allow_imports lightning.pytorch.loggers.CometLogger" in said
    said = refuse(run, "model.scheduler", {"class_path": "torch.optim.lr_scheduler.StepsLR"})
    assert "did you mean StepLR?" in said
    assert "--allow_imports torch.optim.lr_scheduler.StepsLR." in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.default_root_dir", "ftp://example.org/x"),
        ("trainer.logger", [{"class_path": "CSVLogger", "init_args": {"save_dir": "s3://x"}}]),
        ("trainer.callbacks", [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "a://b"}}]),
    ],
)  # fmt: skip
def test_addresses(run: Run, key: str, value: Any) -> None:
    assert "an address" in refuse(run, key, value)


class TestFlag:
    @pytest.mark.parametrize(
        ("path", "opened"),
        [
            ("torch.optim", True),
            ("torch.optim.X", True),
            ("torch.optim.x.Y", True),
            ("torch.optimizers.X", False),
            ("torch.optimX", False),
            ("torch", False),
            ("mine.torch.optim.X", False),
        ],
    )
    def test_whole_components(self, path: str, opened: bool) -> None:
        assert trust.below(path, {"other", "torch.optim"}) is opened

    @pytest.mark.parametrize(
        "args",
        [
            ["--allow_imports", "a.b"],
            ["--allow_imports=a.b"],
            ["--x", "1", "--allow_imports+", "a.b"],
            ["--allow_imports+=a.b", "--y"],
            ["--allow_imports", "[a.b]"],
        ],
    )
    def test_spellings(self, args: list[str]) -> None:
        assert imports(*args) == {"a.b"}
        assert imports("--name", "--allow_imports_of=a.b", "a.b") == set()

    def test_a_path_is_opened_with_where_it_leads(self) -> None:
        found = imports("--allow_imports", "[os.system, torch.optim.Adam, os.path]")
        assert found > {"os.system", "posix.system", "torch.optim.adam.Adam", "os.path"}
        Path("broken_module.py").write_text("1 / 0")
        assert trust.opened(["broken_module.Thing", "os.system"]) >= {
            "broken_module.Thing",
            "posix.system",
        }

    def test_no_configuration_opens_anything(self, run: Run) -> None:
        Path("trial.yaml").write_text(
            "data: Digits\nallow_imports: [foreign_module]\n"
            "trainer: {callbacks: [{class_path: foreign_module.Thing}]}\n"
        )
        refused = run("fit --config trial.yaml")
        assert refused.code == 2 and "--allow_imports foreign_module.Thing" in refused.err
        assert not Path("marker").exists()

    def test_it_opens_what_it_names_and_no_more(self, run: Run) -> None:
        outer, inner = "lightning.pytorch.callbacks.LambdaCallback", "torchvision.transforms.Lambda"
        spec = {"class_path": HANDLER, "init_args": TARGETS[HANDLER]}
        callback = within(outer, "on_fit_start")(within(inner, "lambd")(spec))
        said = refuse(run, "trainer.callbacks", callback, f"--allow_imports {outer}")
        assert f"trainer.callbacks.on_fit_start names {inner}," in said
        said = refuse(run, "trainer.callbacks", callback, f"--allow_imports={outer},{inner}")
        assert f"trainer.callbacks.on_fit_start names {HANDLER}," in said

    @pytest.mark.parametrize("path", ["jsonargparse", "a..b"])
    def test_what_cannot_be_opened(self, run: Run, path: str) -> None:
        with pytest.raises(
            UserError, match=r"^--allow_imports: .* packages or classes such as my_"
        ):
            trust.limit_imports({path})
        refused = run(f"fit --data Digits --allow_imports {path}")
        assert refused.code == 2 and "--allow_imports" in refused.err
        assert "Traceback" not in refused.err
