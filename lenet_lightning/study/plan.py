"""A study: named settings of one or more base configs, each run once for every seed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lenet_lightning import renamed, strict_yaml
from lenet_lightning.arguments import MAX_SEED
from lenet_lightning.errors import UserError
from lenet_lightning.store.run_folder import NO_REPLICAS
from lenet_lightning.study.claim_schema import Claim, Figure, read_claims, read_figures
from lenet_lightning.study.reading import check_keys, flatten, suggestion

OVERRIDES = ("model", "data", "trainer", "monitor")
STUDY_KEYS = (
    "name", "title", "base", "seeds", "groups", "settings", "figures", "claims",
)  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Setting:
    """One experiment: a base config and what is changed in it.

    Attributes:
        name: The name of its folder, ``group_setting`` where the study has groups.
        title: What tables and figures call it.
        group: The key of its group; empty in a study without groups.
        base: The config it starts from.
        overrides: Dotted keys, as after ``--`` on the command line, to values.
        after: The setting whose runs it needs: they all end before its own begin; often empty.
    """

    name: str
    title: str
    group: str
    base: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    after: str = ""

    def arguments(self) -> list[str]:
        """What ``fit`` is given for it, but for the seed and the name of the run."""
        arguments = [f"--config={self.base}"]
        # Sorted by parts, a class comes before its own arguments.
        for key in sorted(self.overrides, key=lambda key: key.split(".")):
            value = self.overrides[key]
            # In one word, so that no value of the file is taken for an option.
            arguments.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
        return arguments


@dataclass(frozen=True)
class Trial:
    """One run of a study: a setting with a seed."""

    setting: Setting
    seed: int

    @property
    def key(self) -> str:
        """Where its run folders lie below the study's: ``setting/seed_0``."""
        return f"{self.setting.name}/seed_{self.seed}"


@dataclass(frozen=True)
class Study:
    """A study file, read and checked.

    Attributes:
        name: The name of the study's folder.
        title: The report's title.
        seeds: One run of every setting for each.
        groups: Keys to titles, in the file's order; ``{"": ""}`` where there are none.
        settings: By name, in the file's order.
        figures: What to draw; empty for the generic figures.
        claims: What to judge.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    groups: dict[str, str]
    settings: dict[str, Setting]
    figures: tuple[Figure, ...]
    claims: tuple[Claim, ...]

    def trials(self, only: Iterable[str] = ()) -> list[Trial]:
        """Every run, all settings with the first seed first: an early stop has a bit of all.

        Args:
            only: Patterns (``mnist_*``, ``*sgd``); a setting whose name matches one is kept.

        Raises:
            UserError: A pattern matches no setting.
        """
        patterns = list(only)
        for pattern in patterns:
            if not any(fnmatch(name, pattern) for name in self.settings):
                hint = suggestion(pattern, self.settings)
                raise UserError(f"--only {pattern}: no setting of {self.name} matches it{hint}")
        names = [n for n in self.settings if not patterns or any(fnmatch(n, p) for p in patterns)]
        return [Trial(self.settings[name], seed) for seed in self.seeds for name in names]

    def stages(self, trials: Iterable[Trial]) -> list[list[Trial]]:
        """The trials in parts, each of which needs no more than what the parts before left."""
        stages: dict[int, list[Trial]] = {}
        for trial in trials:
            stages.setdefault(self._depth(trial.setting), []).append(trial)
        return [stages[depth] for depth in sorted(stages)]

    def _depth(self, setting: Setting) -> int:
        """How many settings come before it."""
        return 1 + self._depth(self.settings[setting.after]) if setting.after else 0

    def in_group(self, group: str) -> list[Setting]:
        """The settings of one group, in the file's order."""
        return [setting for setting in self.settings.values() if setting.group == group]


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file: a study, or the configuration of a fit.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    content = strict_yaml.read(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values (name, seeds, settings, ...)")
    return content


def is_config(content: Mapping[str, Any]) -> bool:
    """Whether a file holds the configuration of a fit, not a study."""
    keys = content.keys()
    return bool(keys & {"seed_everything", *OVERRIDES}) and not keys & {"base", "seeds", "settings"}


def repeats(
    config: Path, name: str, seeds: Iterable[int], overrides: Mapping[str, str]
) -> dict[str, Any]:
    """The study of one setting that runs the configuration of a fit with several seeds.

    Args:
        config: The configuration's YAML file.
        name: Of the study, and what tables call its setting.
        seeds: One run for each.
        overrides: Dotted keys to values, as they are typed after ``--``.
    """
    setting = {"title": name, "base": str(config), **overrides}
    return {"name": name, "seeds": list(seeds), "settings": {"repeats": setting}}


def load(path: Path, check_base: bool = True) -> Study:
    """Read and check a study file; see :func:`parse`."""
    return parse(read(path), path, check_base)


def parse(content: dict[str, Any], path: Path, check_base: bool = True) -> Study:
    """Check the content of a study file.

    Args:
        content: Its keys and values.
        path: The YAML file.
        check_base: Whether base configs must exist, and keys be those of today; not needed to
            report on finished runs.

    Raises:
        UserError: Anything in the file that cannot be run, with the key and what to do.
    """
    if is_config(content):
        raise UserError(
            f"{path} is the configuration of one run: start it with python -m lenet_lightning fit "
            f"--config {path}, or run several seeds of it with study --config {path} --seeds 0-4"
        )
    content = dict(content)
    if content.pop("replicas", 1) != 1 and check_base:
        raise UserError(f"{path}: replicas {NO_REPLICAS}")
    known = [*STUDY_KEYS, *OVERRIDES]
    check_keys({key.split(".")[0]: None for key in map(str, content)}, known, str(path))
    name = check_name(content.get("name"), f"{path}: name")
    seeds = read_seeds(content.get("seeds"), path)
    groups = _mapping(content.get("groups"), f"{path}: groups")
    settings = _settings(content, groups, path)
    if check_base:
        renamed.check(*(setting.overrides for setting in settings.values()))
        for setting in settings.values():
            if not setting.base.is_file():
                raise UserError(
                    f"{path}: base config {setting.base} of setting '{setting.name}' does not "
                    f"exist; paths are relative to the working directory or to the study file"
                )
    else:
        settings = {
            name: replace(setting, overrides=renamed.overrides(setting.overrides))
            for name, setting in settings.items()
        }
    titles = {key: str((value or {}).get("title", key)) for key, value in groups.items()}
    return Study(
        name=name,
        title=str(content.get("title", name)),
        seeds=seeds,
        groups=titles or {"": ""},
        settings=settings,
        figures=read_figures(content.get("figures"), list(settings), f"{path}: figures"),
        claims=read_claims(content.get("claims"), list(settings), list(groups), f"{path}: claims"),
    )


def check_name(value: Any, where: str) -> str:
    """A name that becomes a folder.

    Raises:
        UserError: It cannot.
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise UserError(
            f"{where} must be a name of letters, digits, '_', '-' and '.' "
            f"(it becomes a folder), not {value!r}"
        )
    return value


def read_seeds(value: Any, path: Path) -> tuple[int, ...]:
    """Seeds that differ.

    Raises:
        UserError: They are none.
    """

    def is_seed(seed: Any) -> bool:
        return isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED

    if not isinstance(value, list) or not value or not all(map(is_seed, value)):
        given = "there are none" if not value and not isinstance(value, int) else f"not {value!r}"
        raise UserError(
            f"{path}: seeds must be a list of whole numbers from 0 to {MAX_SEED}, such as "
            f"[0, 1, 2]; {given}"
        )
    if len(set(value)) < len(value):
        raise UserError(f"{path}: seeds {value} repeat a number; each seed is run once")
    return tuple(value)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """The entries of ``groups`` or ``settings``, each a mapping or empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must map names to what they change, not {value!r}")
    for name, entry in value.items():
        check_name(str(name), f"{where}.{name}")
        if entry is not None and not isinstance(entry, Mapping):
            raise UserError(f"{where}.{name} must be a mapping of keys to values, not {entry!r}")
    return {str(name): entry for name, entry in value.items()}


def _settings(
    content: Mapping[str, Any], groups: Mapping[str, Any], path: Path
) -> dict[str, Setting]:
    """Every setting of every group it belongs to; narrower overrides win over wider ones."""
    entries = _mapping(content.get("settings"), f"{path}: settings")
    if not entries:
        raise UserError(f"{path}: settings has no entry; name at least one setting to run")
    for name, entry in entries.items():
        for group in _wanted_groups(entry, groups, f"{path}: settings.{name}"):
            if group not in groups and groups:
                hint = suggestion(str(group), groups)
                raise UserError(f"{path}: settings.{name}.groups: no group '{group}'{hint}")
    settings: dict[str, Setting] = {}
    for group, group_entry in (groups or {"": {}}).items():
        for name, entry in entries.items():
            where = f"{path}: settings.{name}"
            if groups and group not in _wanted_groups(entry, groups, where):
                continue
            levels = (content, group_entry or {}, entry or {})
            overrides: dict[str, Any] = {}
            overrides |= read_overrides(content, STUDY_KEYS, f"{path}")
            overrides |= read_overrides(levels[1], ("title", "base"), f"{path}: groups.{group}")
            overrides |= read_overrides(levels[2], ("title", "base", "groups", "after"), where)
            base = next((level["base"] for level in reversed(levels) if level.get("base")), None)
            if base is None:
                raise UserError(
                    f"{where} has no base config; set base in the study, the group or the setting"
                )
            full = f"{group}_{name}" if groups else name
            if full in settings:
                raise UserError(f"{path}: two settings are both called '{full}'; rename one")
            title = str(levels[2].get("title", name))
            after = _after(levels[2].get("after"), group, settings, where)
            base_path = resolve_base(str(base).replace("{group}", group), path)
            settings[full] = Setting(full, title, group, base_path, overrides, after)
    return settings


def _after(name: Any, group: str, earlier: Mapping[str, Setting], where: str) -> str:
    """The full name of the setting that ``after`` names, one further up in the same group."""
    if name is None:
        return ""
    full = f"{group}_{name}" if group else str(name)
    if full not in earlier:
        known = [s.name.removeprefix(f"{group}_") for s in earlier.values() if s.group == group]
        raise UserError(
            f"{where}.after is {name!r}: expected the name of a setting above it"
            f"{suggestion(str(name), known)}"
        )
    return full


def _wanted_groups(entry: Any, groups: Mapping[str, Any], where: str) -> list[str]:
    if not entry or "groups" not in entry:
        return list(groups)
    if not groups or not isinstance(entry["groups"], list):
        raise UserError(f"{where}.groups must be a list of names from the study's groups")
    return list(entry["groups"])


def read_overrides(level: Mapping[str, Any], own: tuple[str, ...], where: str) -> dict[str, Any]:
    """The part of a level that goes to ``fit``; the rest must be the level's own keys."""
    rest = {str(key): value for key, value in level.items() if key not in own}
    for key in rest:
        if key.split(".")[0] not in OVERRIDES:
            hint = suggestion(key, [*own, *OVERRIDES])
            raise UserError(f"{where}: unknown key '{key}'{hint}")
    overrides = flatten(rest)
    if overrides.pop("model.replicas", 1) != 1:
        raise UserError(f"{where}: model.replicas {NO_REPLICAS}")
    return overrides


def resolve_base(base: str, path: Path) -> Path:
    """The base config, from the working directory, the study file's folder, or a shipped one."""
    base = os.path.expanduser(base)
    beside = path.parent / base
    return beside if beside.is_file() and not Path(base).is_file() else strict_yaml.locate(base)


def describe(trials: Iterable[Trial]) -> Iterator[str]:
    """What all settings share, then a line for each: its base, its own changes, its seeds."""
    seeds: dict[str, list[int]] = {}
    settings: dict[str, Setting] = {}
    for trial in trials:
        settings[trial.setting.name] = trial.setting
        seeds.setdefault(trial.setting.name, []).append(trial.seed)
    common = {
        key: value
        for key, value in next(iter(settings.values())).overrides.items()
        if all(setting.overrides.get(key) == value for setting in settings.values())
    }
    yield "every run: " + _changes(common)
    width = max(map(len, settings))
    for name, setting in settings.items():
        own = {key: value for key, value in setting.overrides.items() if key not in common}
        runs = f"seeds {', '.join(map(str, seeds[name]))}"
        yield f"{name:<{width}}  {runs}  {setting.base}  {_changes(own)}".rstrip()


def _changes(overrides: Mapping[str, Any]) -> str:
    return " ".join(f"--{key} {value}" for key, value in overrides.items())
