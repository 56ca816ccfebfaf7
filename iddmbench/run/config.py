"""What a run is asked to do, validated before anything starts."""

from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from iddmbench.adaptive import roots
from iddmbench.attacker import NetworkAttacker, build_attacker
from iddmbench.defense import DEFENSES, Defense, configure
from iddmbench.errors import UserError, did_you_mean
from iddmbench.models.recipe import LoraSettings, Recipe, Sampling
from iddmbench.perturb.purify import purifier
from iddmbench.photos.dataset import DATASETS
from iddmbench.results.run_folder import label

ANCHORS = ("none", "generic")
PAPER = "paper"
"""The preset that every defense has: its default options."""


class RunConfig(BaseModel):
    """One run: some defenses at some strengths on some subjects, seen by some attackers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field("orl", description="dataset plugin")
    dataset_options: dict[str, Any] = Field(default_factory=dict, description="its options")
    subjects: tuple[str, ...] | int = Field(
        2, description="how many subjects (the first ones), or their names; 0 = all"
    )
    base: str = Field("micro", description="base model: micro, sd15, sd21, a folder or a hub id")
    defenses: tuple[str, ...] = Field(("iddm",), description="defense plugins")
    defense_options: dict[str, Any] = Field(default_factory=dict, description="options of the defenses (--set)")
    preset: str = Field(
        "", description="preset of the defenses' options; by default the one named like the base, or paper"
    )
    strengths: tuple[float, ...] = Field((0.5, 1.0), description="strengths in [0, 1]")
    anchors: bool = Field(True, description="run the undefended and the un-personalized model too")
    threat: Literal["authorized", "unauthorized"] = Field(
        "authorized", description="who personalizes: the owner with the defense, or a thief on the protected photos"
    )
    purify: str = Field("", description="what the thief does to the photos first (unauthorized); empty = nothing")
    attackers: tuple[str, ...] = Field(("dlib", "sface"), description="attacker plugins")
    seeds: tuple[int, ...] = Field((0,), description="training and sampling seeds; each is a full repetition")
    images_per_prompt: int = Field(4, ge=1, le=1000, description="generated images per evaluation prompt")
    prompts: tuple[str, ...] = Field((), description="evaluation prompts; empty = the base's own")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of the base model's networks (autocast); adapters and gradients stay fp32"
    )
    lora: dict[str, Any] = Field(default_factory=dict, description="changes to the base's LoRA settings")
    sampling: dict[str, Any] = Field(default_factory=dict, description="changes to the base's sampling settings")

    @field_validator("subjects", mode="before")
    @classmethod
    def _subjects(cls, value: object) -> object:
        """ "all", "3" and "s29,s30" as they are written on the command line."""
        if not isinstance(value, str):
            return value
        if value.strip() == "all":
            return 0
        try:
            return int(value)
        except ValueError:
            return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("strengths")
    @classmethod
    def _strengths(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        for value in values:
            if not 0 <= value <= 1:
                raise ValueError(f"strength {value:g} is outside [0, 1]")
        if not values:
            raise ValueError("give at least one strength")
        values = tuple(sorted(set(values)))
        for first, second in pairwise(values):
            if label("", first) == label("", second):
                raise ValueError(f"strengths {first:g} and {second:g} are the same to two decimals")
        return values

    def plan(self) -> list[Defense]:
        """Every defense to run, configured: the anchors, then each defense at each strength."""
        names = [
            *(ANCHORS if self.anchors else ()),
            *(d for d in self.defenses if d not in ANCHORS or not self.anchors),
        ]
        planned: list[Defense] = []
        for name in dict.fromkeys(names):
            cls = DEFENSES.get(name)
            if cls.anchor:
                planned.append(configure(cls, {}))
                continue
            options = {**self._preset_of(cls), **self.defense_options}
            planned += [configure(cls, {**options, "strength": s}) for s in self.strengths]
        return planned

    def _preset_of(self, cls: type[Defense]) -> dict[str, Any]:
        """Raises UserError when a preset is asked for that the defense does not have."""
        if not self.preset:
            return cls.presets.get(self.base, {})
        if self.preset == PAPER or not cls.presets:
            return {}
        if self.preset not in cls.presets:
            raise UserError(
                f"preset: defense '{cls.name}' has none '{self.preset}': {did_you_mean(self.preset, [PAPER, *cls.presets])}"
            )
        return cls.presets[self.preset]

    def check(self) -> None:
        """Raises UserError for an unknown plugin, option or value, before anything is computed."""
        dataset = DATASETS.get(self.dataset)
        known = signature(dataset).parameters
        for option in self.dataset_options:
            if option not in known:
                raise UserError(f"dataset '{self.dataset}' has no option '{option}': {did_you_mean(option, known)}")
        for attacker in dict.fromkeys(root for name in self.attackers for root in roots(name)):
            built = build_attacker(attacker)
            if problem := built.available():
                raise UserError(f"attacker '{attacker}' can't run: {problem}")
            if isinstance(built, NetworkAttacker) and (reason := dataset.referees.get(built.weights_hash())):
                raise UserError(f"attacker '{attacker}' can't judge dataset '{self.dataset}': {reason}")
        if not self.attackers:
            raise UserError("give at least one attacker")
        for defense in self.plan():
            for name in defense.surrogates():
                build_attacker(name)
            if self.threat == "unauthorized" and not (defense.anchor or defense.acts_on("protect")):
                raise UserError(
                    f"defense '{defense.name}' does not act on the photos, so it does nothing in the unauthorized setting: "
                    "there a thief trains and posts"
                )
        if self.purify:
            purifier(self.purify)
            if self.threat == "authorized":
                raise UserError("purify: only a thief purifies the photos; give --threat unauthorized too")

    def lora_settings(self, recipe: Recipe) -> LoraSettings:
        return _changed(recipe.lora, self.lora, "--lora")

    def sampling_settings(self, recipe: Recipe) -> Sampling:
        return _changed(recipe.sampling, self.sampling, "--sampling")


def make_config(options: dict[str, Any]) -> RunConfig:
    """Raises UserError naming the first option that is wrong."""
    try:
        return RunConfig.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{'.'.join(str(p) for p in first['loc'])}: {message}") from error


def dataset_options(root: Path | None, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Options of a dataset as the command line gives them: a root, and KEY=VALUE whose numbers are numbers."""
    given = {key: yaml.safe_load(value) for key, value in (options or {}).items()}
    return given if root is None else {**given, "root": str(root.resolve())}


def _changed(settings: Any, changes: dict[str, Any], option: str) -> Any:
    fields = type(settings).model_fields
    for key in changes:
        if key not in fields:
            raise UserError(f"{option} has no setting '{key}': {did_you_mean(key, fields)}")
    try:
        return type(settings).model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{option} {first['loc'][0]}={first['input']!r}: {first['msg'].lower()}") from error
