"""A study file is read as meant, or refused in one sentence before anything runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from lenet_lightning.cli.command_line import read
from lenet_lightning.errors import UserError
from lenet_lightning.study import plan
from lenet_lightning.study.reading import flatten
from tests.conftest import REPOSITORY

GOOD = """
name: mine
base: base.yaml
seeds: [0, 1]
trainer.max_epochs: 3
model: {l2: 0.001, optimizer: {class_path: KerasAdam, init_args: {lr: 0.1}}}
groups:
  a: {title: A, data.batch_size: 8}
  b: {base: other.yaml}
settings:
  plain: {title: Plain}
  sgd: {groups: [b], model.optimizer: torch.optim.SGD, model.l2: 0}
"""

HEAD = "name: mine\nbase: base.yaml\nseeds: [0, 1]\n"


def write(folder: Path, text: str) -> Path:
    for name in ("base.yaml", "other.yaml"):
        (folder / name).write_text("")
    file = folder / "study.yaml"
    file.write_text(textwrap.dedent(text))
    return file


def test_groups_times_settings(tmp_path: Path) -> None:
    study = plan.load(write(tmp_path, GOOD))
    assert list(study.settings) == ["a_plain", "b_plain", "b_sgd"]
    assert study.groups == {"a": "A", "b": "b"}
    keys = [trial.key for trial in study.trials()]
    assert keys == [f"{name}/seed_{seed}" for seed in (0, 1) for name in study.settings]
    assert [trial.key for trial in study.trials(["*sgd"])] == ["b_sgd/seed_0", "b_sgd/seed_1"]


def test_old_keys_are_refused_in_a_file_and_renamed_in_a_kept_study(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD.replace("data.batch_size: 8", "data: {rotation: 8}"))
    with pytest.raises(UserError, match=r"data\.rotation is now data\.augmentation\.rotation"):
        plan.load(file)
    kept = plan.load(file, check_base=False).settings["a_plain"]
    assert kept.overrides["data.augmentation.rotation"] == 8


def test_narrower_overrides_win_and_classes_come_before_their_arguments(tmp_path: Path) -> None:
    study = plan.load(write(tmp_path, GOOD))
    arguments = study.settings["b_sgd"].arguments()
    assert arguments == [
        f"--config={tmp_path / 'other.yaml'}",
        "--model.l2=0",
        "--model.optimizer=torch.optim.SGD",
        "--model.optimizer.lr=0.1",
        "--trainer.max_epochs=3",
    ]
    assert study.settings["a_plain"].overrides["data.batch_size"] == 8


def test_stages(tmp_path: Path) -> None:
    """What needs other runs waits for them, in its own group and whatever the seed."""
    settings = "{first: {}, second: {after: first}, third: {after: second}, free: {}}"
    study = plan.load(write(tmp_path, f"{HEAD}groups: {{a: {{}}, b: {{}}}}\nsettings: {settings}"))
    assert study.settings["b_second"].after == "b_first"
    stages = [[trial.key for trial in stage] for stage in study.stages(study.trials())]
    assert stages == [
        [f"{name}/seed_{seed}" for seed in (0, 1) for name in names]
        for names in (["a_first", "a_free", "b_first", "b_free"], ["a_second", "b_second"],
                      ["a_third", "b_third"])
    ]  # fmt: skip
    assert len(study.stages(study.trials(["*third"]))) == 1


@pytest.mark.parametrize("after", ["secnd", "second", "third"])
def test_after_names_a_setting_above(tmp_path: Path, after: str) -> None:
    settings = f"{{first: {{}}, second: {{after: {after}}}, third: {{}}}}"
    with pytest.raises(UserError, match=rf"settings.second.after is '{after}': expected the name"):
        plan.load(write(tmp_path, f"{HEAD}settings: {settings}"))


def test_base_of_each_group(tmp_path: Path) -> None:
    groups = 'groups: {base: {}, other: {}}\nsettings: {one: {base: "{group}.yaml"}}'
    study = plan.load(write(tmp_path, f"{HEAD}{groups}"))
    assert [s.base.name for s in study.settings.values()] == ["base.yaml", "other.yaml"]


def test_values_are_written_as_the_command_line_reads_them() -> None:
    overrides = {"model.network.dropout": True, "model.scheduler": None, "trainer.devices": [0, 1]}
    setting = plan.Setting("s", "s", "", Path("b"), overrides)
    assert setting.arguments()[1:] == [
        "--model.network.dropout=true",
        "--model.scheduler=null",
        "--trainer.devices=[0, 1]",
    ]


def test_no_value_is_taken_for_an_option() -> None:
    setting = plan.Setting("s", "s", "", Path("b"), {"model.loss": "--allow_imports=os"})
    assert read(["fit", *setting.arguments()[1:]]).imports == set()


def test_a_number_can_be_a_title(tmp_path: Path) -> None:
    study = plan.load(write(tmp_path, GOOD.replace("{title: Plain}", "{title: 0.05}")))
    assert study.settings["a_plain"].title == "0.05"


def test_flatten_keeps_empty_mappings() -> None:
    assert flatten({"a": {"b": {}}, "c.d": 1}) == {"a.b": {}, "c.d": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds: [0, 1]", ""), "study.yaml has no seeds: expected a list"),
        (("seeds: [0, 1]", "seeds: []"), r"seeds is \[\]: expected a list"),
        (("seeds: [0, 1]", "seeds: 3"), "seeds is 3: expected a list"),
        (("seeds: [0, 1]", "seeds: [true]"), r"seeds is \[True\]: expected a list"),
        (("seeds: [0, 1]", "seeds: [4294967296]"), "0 to 4294967295"),
        (("seeds: [0, 1]", "seeds: [1, 1]"), r"seeds is \[1, 1\]: expected a list of different"),
        (("seeds: [0, 1]", "sedes: [0, 1]"), "unknown key 'sedes'; did you mean seeds?"),
        (("base: base.yaml", "base: nowhere.yaml"), "base config nowhere.yaml .* does not exist"),
        (("base: base.yaml", ""), "has no base config"),
        (("name: mine", "name: a/b"), "name is 'a/b': expected a name of letters"),
        (("name: mine", ""), "has no name: expected a name of letters"),
        (("  sgd:", "  plain: {}\n  sgd:"), "'plain' is given twice, in lines 11 and 12"),
        (("groups: [b]", "groups: [c]"), r"settings.sgd.groups: unknown 'c'; known: a, b"),
        (("groups: [b]", "groups: b"), "settings.sgd: groups is 'b': expected a list of names"),
        (("model.l2: 0}", "modle.l2: 0}"), "unknown key 'modle.l2'"),
        (
            ("{title: A, data.batch_size: 8}", "{title: A, batch_size: 8}"),
            "unknown key 'batch_size",
        ),
        (("{title: Plain}", "[1]"), "must be a mapping"),
        (("settings:", "settings: {}\nfigures:"), "settings has no entry"),
        (("b: {base: other.yaml}", "b: 3"), "groups.b must be a mapping"),
    ],
)
def test_bad_studies(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(UserError, match=message):
        plan.load(write(tmp_path, GOOD.replace(*change)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("figures: [{name: f, kind: acuracy, setting: a_plain}]", "did you mean accuracy?"),
        ("figures: [{name: f, kind: accuracy, setting: nobody}]", "unknown 'nobody'"),
        ("figures: [{name: f, kind: accuracy}]", "needs 'setting' .* or 'panels'"),
        (
            "figures: [{name: 'a b', kind: accuracy, setting: a_plain}]",
            "name is 'a b': expected a name of letters",
        ),
        ("figures: 3", "must be a list"),
        ("claims: [{says: x, kind: higher, measure: best_accuracy, setting: a_plain}]", "'against"),
        ("claims: [{says: x, kind: at_least, measure: best, setting: a_plain, value: 1}]", "best"),
        (
            "claims: [{says: x, kind: at_least, measure: variation, setting: a_plain, value: 1 %}]",
            "value is '1 %': expected a number",
        ),
        (
            "claims: [{says: x, kind: at_least, measure: variation, setting: sgd, value: 1, "
            "groups: [a]}]",
            "unknown 'a_sgd'",
        ),
    ],
)
def test_bad_comparisons(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan.load(write(tmp_path, GOOD + text))


def test_only_must_match_something(tmp_path: Path) -> None:
    study = plan.load(write(tmp_path, GOOD))
    with pytest.raises(UserError, match=r"--only b_sdg: no setting of mine .* mean b_sgd\?"):
        study.trials(["b_sdg"])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1,\n", "\tx: 1"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"study\.yaml"):
        plan.load(write(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        plan.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (REPOSITORY / "configs/studies").glob("*.yaml"))
)
def test_shipped_studies_are_well_formed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    study = plan.load(root / "configs" / "studies" / f"{name}.yaml")
    assert study.name == name
    assert len(study.seeds) >= 3


def test_the_report_has_the_reports_sixteen_settings() -> None:
    file = Path(__file__).parents[2] / "configs" / "studies" / "report.yaml"
    study = plan.load(file, check_base=False)
    assert {group: len(study.in_group(group)) for group in study.groups} == {
        "cifar10": 5,
        "mnist": 6,
        "fashion_mnist": 5,
    }
    assert [figure.name for figure in study.figures] == [
        *("1.1", "1.b.1", "1.b.2", "1.b.3", "1.c.1", "1.c.2", "1.c.3", "1.c.4")
    ]


def test_the_configuration_of_a_run_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="start it with python -m lenet_lightning fit --config"):
        plan.load(write(tmp_path, "seed_everything: 0\nmodel: {}"))


def test_replicas_are_answered_by_the_study_that_replaces_them(tmp_path: Path) -> None:
    for line in ("replicas: 2", "model.replicas: 2"):
        file = write(tmp_path, f"{GOOD}{line}\n")
        with pytest.raises(UserError, match=r"replicas.* study --config CONFIG --seeds 0-4"):
            plan.load(file)
    for line in ("replicas: 1", "model.replicas: 1"):
        assert plan.load(write(tmp_path, f"{GOOD}{line}\n")) == plan.load(write(tmp_path, GOOD))


def test_a_finished_study_with_replicas_can_be_reported(tmp_path: Path) -> None:
    assert plan.load(write(tmp_path, f"{GOOD}replicas: 2\n"), check_base=False).seeds == [0, 1]


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("seed_everything: 0", True),
        ("data: {class_path: Digits}", True),
        (GOOD, False),
        ("trainer: {}\nbase: base.yaml", False),
        ("name: mine", False),
    ],
)
def test_configurations_of_a_fit_are_told_from_studies(
    tmp_path: Path, text: str, config: bool
) -> None:
    content = plan.read_file(write(tmp_path, text))
    assert plan.is_config(content) == config
    if config:
        with pytest.raises(UserError, match=r"fit --config .*study --config .* --seeds 0-4"):
            plan.parse(content, tmp_path / "study.yaml")


def test_a_configuration_is_a_study_of_one_setting(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("")
    content = plan.repeats(base, "digits", [0, 2], {"model.l2": "0.1"})
    study = plan.parse(content, base)
    assert (study.name, study.seeds) == ("digits", [0, 2])
    (setting,) = study.settings.values()
    assert (setting.name, setting.title, setting.base) == ("repeats", "digits", base)
    assert setting.arguments() == [f"--config={base}", "--model.l2=0.1"]
