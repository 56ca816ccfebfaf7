"""A sweep: several runs from one file, checked before anything starts.

    name: my-table
    subjects: all                # any setting of a run (RunConfig), for all runs; people by name: subject: [s01, s02]
    strengths: [0.5, 1]
    matrix:                      # every combination of these, for every run
      base: [sd15, sd21]
    runs:                        # each is a run folder; its settings, and a matrix of its own, go before the shared ones
      authorized: {defenses: [iddm, aspl, mist]}
      iddm-dlib: {defenses: [iddm], defense_options: {surrogate: dlib}}

Without `runs` there is one, named like the sweep.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from iddmbench.errors import UserError, did_you_mean
from iddmbench.paths import user_path
from iddmbench.run.config import RunConfig, by_name, identity
from iddmbench.store.cache import digest
from iddmbench.yaml_text import Lines, read_value, read_yaml_file

OWN = ("name", "description", "matrix", "runs")
SETTINGS = {*RunConfig.model_fields, "subject", "attacker_options"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True)
class Sweep:
    """Runs by name, in order; each becomes a folder."""

    name: str
    description: str
    runs: dict[str, RunConfig]

    def dump(self) -> dict[str, Any]:
        runs = {name: identity(config) for name, config in self.runs.items()}
        return {"name": self.name, "runs": runs}

    @property
    def folder(self) -> str:
        """Default name of the sweep's folder: another content has another one."""
        return f"{self.name}-{digest(self.dump())[:8]}"


def suites() -> dict[str, Path]:
    """The sweeps that ship with the package, by name."""
    folder = Path(str(files("iddmbench.sweep") / "suites"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_sweep(
    source: str, changes: dict[str, Any] | None = None, only: Sequence[str] = (), check: bool = True
) -> Sweep:
    """A suite by name, or a YAML file. `changes` go before all that it says, in every run.

    only: the runs to keep, as the file names them; none: all. check: False reads the settings alone, where plugins and files
    need not be there.
    Raises UserError that names file, line and key.
    """
    known = suites()
    path = known.get(source) or user_path(source)
    if len(path.name) > 255 or not path.is_file():
        if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
            raise UserError(f"no such file: {source}")
        raise UserError(f"no suite or file '{source}': {did_you_mean(source, known)}")
    content, lines = read_yaml_file(path)
    return build_sweep(content, lines, path, changes or {}, only, check)


def build_sweep(
    content: dict[str, Any],
    lines: Lines,
    path: Path,
    changes: dict[str, Any],
    only: Sequence[str] = (),
    check: bool = True,
) -> Sweep:
    """See `load_sweep`; `lines` as `read_yaml` gives them."""
    file = _File(path.name, lines, check)
    settings = SETTINGS
    for key in content:
        if key not in settings and key not in OWN:
            raise file.error((key,), f"unknown key '{key}': {did_you_mean(str(key), [*OWN, *settings])}")
    name = str(content.get("name", path.stem))
    file.check_name(name, ("name",))
    shared = file.by_name({key: value for key, value in content.items() if key in settings}, ())
    for key in changes:
        if key not in settings:
            raise UserError(f"--set {key}: runs have no such setting: {did_you_mean(key, settings)}")
    try:
        changes = by_name(changes)
    except ValueError as error:
        raise UserError(f"--set: {error}") from error
    runs = file.mapping(content, ("runs",)) or {name: {}}
    if unknown := [name for name in only if name not in map(str, runs)]:
        raise UserError(f"--only {unknown[0]}: {path.name} has no such run: {did_you_mean(unknown[0], map(str, runs))}")
    everywhere = file.matrix(content, ())
    made: dict[str, RunConfig] = {}
    for run, own in runs.items():
        file.check_name(str(run), ("runs", run))
        own = file.mapping(runs, ("runs", run))
        place: tuple[Any, ...] = ("runs", run) if "matrix" in own else ()
        matrix = file.matrix(own, place) if place else everywhere
        own = {key: value for key, value in own.items() if key != "matrix"}
        if only and str(run) not in only:
            continue
        for key in own:
            file.check_setting(key, ("runs", run, key))
        own = file.by_name(own, ("runs", run))
        for combination in itertools.product(*matrix.values()):
            cell = dict(zip(matrix, combination, strict=True))
            full = "-".join([str(run), *(_slug(value) for value in combination)])
            if full in made:
                raise file.error(("matrix",), f"two runs are named '{full}': rename one under `runs`")
            where = {
                **{k: (k,) for k in shared},
                **{k: (*place, "matrix", k) for k in cell},
                **{k: ("runs", run, k) for k in own},
            }
            made[full] = file.config({**shared, **cell, **own, **changes}, where, full, ("runs", run))
    return Sweep(name, str(content.get("description", "")), made)


def parse_changes(options: list[str] | None) -> dict[str, Any]:
    """["subjects=3", "strengths=[1]"] as YAML values. Raises UserError for one without "=", or no YAML."""
    changes = {}
    for option in options or []:
        key, equals, value = option.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {option}: write it as --set KEY=VALUE")
        changes[key.strip().replace("-", "_")] = read_value(value, f"--set {option}")
    return changes


@dataclass(frozen=True)
class _File:
    """Where messages point. check: whether plugins, options and files are looked at."""

    name: str
    lines: Lines
    check: bool = True

    def error(self, path: tuple[Any, ...], message: str) -> UserError:
        keys = tuple(k if isinstance(k, int) else str(k) for k in path)
        while keys and keys not in self.lines:
            subject = (*keys[:-1], "subject")  # what its file may call `subjects`
            keys = subject if keys[-1] == "subjects" and subject in self.lines else keys[:-1]
        line = self.lines.get(keys)
        return UserError(f"{self.name}{f', line {line}' if line else ''}: {message}")

    def check_name(self, name: str, path: tuple[Any, ...]) -> None:
        if not NAME.fullmatch(name):
            raise self.error(path, f"'{name}' is not a valid folder name: use letters, digits and . _ + -")

    def check_setting(self, key: Any, path: tuple[Any, ...]) -> None:
        if key not in SETTINGS:
            raise self.error(path, f"unknown key '{key}': {did_you_mean(str(key), SETTINGS)}")

    def matrix(self, content: dict[Any, Any], place: tuple[Any, ...]) -> dict[Any, Any]:
        """The lists below `matrix` there, people named by `subject` as `subjects`."""
        matrix = self.mapping(content, (*place, "matrix"))
        for key, values in matrix.items():
            self.check_setting(key, (*place, "matrix", key))
            if not isinstance(values, list) or not values:
                raise self.error((*place, "matrix", key), f"matrix.{key}: give a list of values, one run for each")
        if "subject" in matrix:
            matrix = {**matrix, "subject": [[v] if isinstance(v, str) else v for v in matrix["subject"]]}
        return self.by_name(matrix, (*place, "matrix"))

    def by_name(self, settings: dict[Any, Any], path: tuple[Any, ...]) -> dict[Any, Any]:
        """People named by `subject`, as `RunConfig` has them: so that each layer of a file goes before the next one."""
        try:
            return by_name(settings)
        except ValueError as error:
            raise self.error((*path, "subject"), str(error)) from error

    def mapping(self, content: dict[Any, Any], path: tuple[Any, ...]) -> dict[Any, Any]:
        value = content.get(path[-1])
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error(path, f"{path[-1]}: expected KEY: VALUE, found {type(value).__name__}")
        return value

    def config(
        self, values: dict[str, Any], where: dict[str, tuple[Any, ...]], run: str, path: tuple[Any, ...]
    ) -> RunConfig:
        """One run's settings, checked: types, then plugins and their options."""
        try:
            config = RunConfig.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            named = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            raise self.error((*where.get(key, path), *first["loc"][1:]), f"run '{run}', {named}: {message}") from error
        except UserError as error:
            raise self.error(where.get("attacker_options", path), f"run '{run}': {error}") from error
        config = _absolute(config)
        try:
            if self.check:
                config.check()
        except UserError as error:
            raise self.error(path, f"run '{run}': {error}") from error
        return config


def _absolute(config: RunConfig) -> RunConfig:
    """Folders as workers elsewhere find them: whole paths."""
    changes: dict[str, Any] = {}
    if root := config.dataset_options.get("root"):
        changes["dataset_options"] = {**config.dataset_options, "root": str(user_path(str(root)).resolve())}
    if (base := user_path(config.base)).is_dir():
        changes["base"] = str(base.resolve())
    return config.model_copy(update=changes)


def _slug(value: Any) -> str:
    """A value of the matrix in a run's name: of a path its last part."""
    text = str(value).rstrip("/").rsplit("/", 1)[-1] if not isinstance(value, list) else "+".join(map(str, value))
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-") or "x"
