"""A study: named settings of one or more base configs, each run once for every seed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

from lenet_lightning import renamed, strict_yaml
from lenet_lightning.errors import UserError
from lenet_lightning.store.run_folder import NO_REPLICAS
from lenet_lightning.study import reading
from lenet_lightning.study.claim_schema import Claim, Figure, read_claims, read_figures


@dataclass(frozen=True)
class Level:
    """A level of a study file: the study, a group or a setting. Narrower ones win over wider ones.

    Attributes:
        overrides: What is changed in the base config, by dotted key.
        title: What tables call it; its name unless given.
        base: The config to start from.
    """

    overrides: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    base: str = ""


@dataclass(frozen=True)
class Entry(Level):
    """A setting as the file gives it, for all of its groups.

    Attributes:
        groups: The groups to which it belongs; all if empty.
        after: The setting whose runs it needs, one further up.
    """

    groups: list[str] = field(default_factory=list)
    after: str = ""


L = TypeVar("L", bound=Level)


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
class Study(Level):
    """A study file, read and checked.

    Attributes:
        name: The name of the study's folder.
        seeds: One run of every setting for each.
        groups: Keys to titles, in the file's order; ``{"": ""}`` where there are none.
        settings: By name, in the file's order.
        figures: What to draw; empty for the generic figures.
        claims: What to judge.
    """

    name: reading.Name = field(kw_only=True)
    seeds: reading.Seeds = field(kw_only=True)
    groups: dict[str, str] = field(default_factory=lambda: {"": ""})
    settings: dict[str, Setting] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    claims: tuple[Claim, ...] = ()

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
                hint = reading.suggestion(pattern, self.settings)
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


def read_file(path: Path) -> dict[str, Any]:
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
    keys, of_fit = content.keys(), {"seed_everything", *reading.OVERRIDES}
    return bool(keys & of_fit) and not keys & {"base", "seeds", "settings"}


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
    return parse(read_file(path), path, check_base)


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
    content = {"title": content.get("name"), **content}
    if content.pop("replicas", 1) != 1 and check_base:
        raise UserError(f"{path}: replicas {NO_REPLICAS}")
    parts = {key: content.pop(key, None) for key in ("groups", "settings", "figures", "claims")}
    study = reading.read(Study, content, str(path), **dict.fromkeys(parts))
    groups = _levels(Level, parts["groups"], f"{path}: groups")
    entries = _levels(Entry, parts["settings"], f"{path}: settings")
    settings = _settings(study, groups, entries, path)
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
    return replace(
        study,
        groups={name: group.title or name for name, group in groups.items()} or {"": ""},
        settings=settings,
        figures=read_figures(parts["figures"], settings, f"{path}: figures"),
        claims=read_claims(parts["claims"], settings, groups, f"{path}: claims"),
    )


def _levels(kind: type[L], value: Any, where: str) -> dict[str, L]:
    """The entries of ``groups`` or ``settings``."""
    levels = {}
    for name, entry in reading.mapping({} if value is None else value, where).items():
        name = reading.typed(reading.Name, name, f"{where}: {name}")
        levels[name] = reading.read(kind, {} if entry is None else entry, f"{where}.{name}")
    return levels


def _settings(
    study: Study, groups: Mapping[str, Level], entries: Mapping[str, Entry], path: Path
) -> dict[str, Setting]:
    """Every setting of every group it belongs to; narrower overrides win over wider ones."""
    if not entries:
        raise UserError(f"{path}: settings has no entry; name at least one setting to run")
    settings: dict[str, Setting] = {}
    for group, wide in (groups or {"": Level()}).items():
        prefix = f"{group}_" if group else ""
        for name, entry in entries.items():
            where = f"{path}: settings.{name}"
            for chosen in entry.groups:
                reading.one_of(chosen, groups, f"{where}.groups")
            if entry.groups and group not in entry.groups:
                continue
            base = entry.base or wide.base or study.base
            if not base:
                raise UserError(
                    f"{where} has no base config; set base in the study, the group or the setting"
                )
            full, after = prefix + name, entry.after and prefix + entry.after
            if full in settings:
                raise UserError(f"{path}: two settings are both called '{full}'; rename one")
            if after and after not in settings:
                above = [s.name.removeprefix(prefix) for s in settings.values() if s.group == group]
                raise UserError(
                    f"{where}.after is {entry.after!r}: expected the name of a setting above it"
                    f"{reading.suggestion(entry.after, above)}"
                )
            settings[full] = Setting(
                name=full,
                title=entry.title or name,
                group=group,
                base=resolve_base(base.replace("{group}", group), path),
                overrides=study.overrides | wide.overrides | entry.overrides,
                after=after,
            )
    return settings


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
