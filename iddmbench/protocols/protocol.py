"""What a protocol file says, and what a run that follows it may choose."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from iddmbench.errors import UserError, did_you_mean
from iddmbench.yaml_text import read_yaml_file

OURS = "iddmbench"
"""The default, and the only one that ranks: it fixes nothing and calibrates every threshold (docs/protocol.md)."""


class PublishedThresholds(BaseModel):
    """Thresholds that a paper states: an image counts as the target person if its score is above, by attacker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    far: float = Field(gt=0, lt=1, description="false accept rate that the paper states for them")
    values: dict[str, float] = Field(min_length=1, description="cosine by attacker, as a run names it")


class PublishedProtocol(BaseModel):
    """A published protocol.

    Attributes:
        datasets, attackers, personalizers: those that it knows; none: any.
        settings: of a run (`RunConfig`), which it fixes. A run that has another value says so.
        thresholds: as published; they go with one target person, whom images should be taken for.
        by_prompt: metrics that its tables give for each prompt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    paper: str = ""
    code: str = ""
    about: dict[str, str] = Field(default_factory=dict)
    differences: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    attackers: tuple[str, ...] = ()
    personalizers: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)
    thresholds: PublishedThresholds | None = None
    by_prompt: tuple[str, ...] = ()

    @property
    def ranks(self) -> bool:
        return self.name == OURS

    def completed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a run with those that it fixes, where it is not told others. Mappings (sampling) are joined by key."""
        fixed = dict(self.settings)
        if "subject" in given:  # people by name instead of their number
            fixed.pop("subjects", None)
        joined = {
            key: {**value, **given[key]}
            for key, value in fixed.items()
            if isinstance(value, dict) and isinstance(given.get(key), dict)
        }
        return {**fixed, **given, **joined}

    def departures(self, settings: Mapping[str, Any]) -> list[str]:
        """In which of the settings that it fixes a run differs, one text each.

        settings: all of a run's, as JSON has them.
        """
        found = []
        for key, value in self.settings.items():
            pairs = value.items() if isinstance(value, dict) else [("", value)]
            for part, published in pairs:
                own = settings[key].get(part) if part else settings[key]
                if _same(own, published):
                    continue
                if _texts(own) and _texts(published):
                    known = sum(text in published for text in own)
                    found.append(f"{key} {len(own)} ({known} of the {len(published)} published)")
                else:
                    told = _told(own) if own is not None else "the default"
                    found.append(f"{key}{part and f'.{part}'} {told} (published: {_told(published)})")
        return found

    def check(self, dataset: str, attackers: Sequence[str], personalizer: str, target: str) -> None:
        """Raises UserError for what it doesn't know."""
        for kind, names, known in (
            ("dataset", [dataset], self.datasets),
            ("attacker", attackers, self.attackers),
            ("personalizer", [personalizer], self.personalizers),
        ):
            for name in names:
                if known and name not in known:
                    several = f"it knows {', '.join(known)}" if len(known) > 1 else f"it knows {known[0]} alone"
                    raise UserError(f"protocol '{self.name}' does not know {kind} '{name}': {several}")
        if target and self.thresholds is None:
            raise UserError(
                f"protocol '{self.name}' has no target person: leave --target out, or give --protocol amt-gan"
            )


def _same(own: Any, published: Any) -> bool:
    if isinstance(own, list | tuple) and isinstance(published, list | tuple):
        return [*own] == [*published]
    return own == published or str(own) == str(published)  # the command line gives text: 7.5 and "7.5"


def _texts(value: Any) -> bool:
    """Whether it is a list of sentences, which would be too long to tell."""
    return isinstance(value, list | tuple) and any(" " in str(text) for text in value)


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def protocols() -> dict[str, Path]:
    """Their files by name, ours first."""
    folder = Path(str(files("iddmbench.protocols") / "data"))
    found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {OURS: found[OURS], **found}


@lru_cache
def load_protocol(name: str) -> PublishedProtocol:
    """Raises UserError for an unknown one."""
    known = protocols()
    if name not in known:
        raise UserError(f"unknown protocol '{name}': {did_you_mean(name, known)}")
    content, _ = read_yaml_file(known[name])
    try:
        return PublishedProtocol.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{known[name]}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
