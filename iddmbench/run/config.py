"""The configuration of a run, validated before anything starts."""

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from iddmbench.adaptive import roots, with_options
from iddmbench.attacker import NetworkAttacker, build_attacker
from iddmbench.defense import DEFENSES, Defense, configure
from iddmbench.errors import UserError, did_you_mean
from iddmbench.guards import errors_of
from iddmbench.linking.absent import absent, check_attackers
from iddmbench.models.base import EMBEDDED
from iddmbench.models.recipe import Recipe, Sampling, TrainingSettings
from iddmbench.options import changed_settings
from iddmbench.paths import user_path
from iddmbench.personalize.personalizer import PERSONALIZERS, Personalizer
from iddmbench.perturb.purifier import purifier
from iddmbench.photos import DEFAULT_DATASET
from iddmbench.photos.dataset import DATASETS, check_options
from iddmbench.photos.hub_data import address, on_hub
from iddmbench.protocols import OURS, PublishedProtocol, load_protocol
from iddmbench.results.run_folder import label
from iddmbench.store.cache import digest
from iddmbench.yaml_text import read_value

ANCHORS = ("none", "generic")
ATTACKERS = ("dlib", "sface", "faceres", "lbph:part=inner", "gabor", "finetune:sface")
LORA = "lora"
MICRO = "micro"
"""The preset for the embedded bases."""
LATER = ("personalizer", "personalizer_options", "protocol", "target")
"""Newer settings: at their defaults they don't affect the name of a run's folder, so older runs resume."""
WITHOUT_EFFECT = ("memory",)
"""Settings that change no result and name no folder."""
PAPER = "paper"
"""The preset that every defense has: its default options."""


class RunConfig(BaseModel):
    """One run: defenses at several strengths, on some subjects, judged by some attackers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str = Field(OURS, description="published protocol; its settings apply where no others are given")
    target: str = Field("", description="person whom images should be taken for, where the protocol has one")
    dataset: str = Field(DEFAULT_DATASET, description=f"dataset plugin; by default {DEFAULT_DATASET}")
    dataset_options: dict[str, Any] = Field(default_factory=dict, description="its options")
    subjects: tuple[str, ...] | PositiveInt | Literal["all", "some"] = Field(
        "some",
        description="number of subjects (the first ones), 'all', 'some' (four, or all of fewer), or a list of names; people "
        "on whom settings are chosen are taken by name alone",
    )
    base: str = Field(
        "",
        description="base model: micro, micro-rgb, sd15, sd21, a folder, a .safetensors file or a hub id; by default the "
        "one that suits the dataset",
    )
    defenses: tuple[str, ...] = Field(("iddm",), description="defense plugins")
    defense_options: dict[str, Any] = Field(default_factory=dict, description="options of the defenses (--set)")
    preset: str = Field(
        "",
        description="preset of the defenses' options; by default the one named like the base (micro-rgb: micro), or paper",
    )
    strengths: tuple[float, ...] = Field((0.5, 1.0), description="strengths in [0, 1]")
    anchors: bool = Field(True, description="also run the undefended and the un-personalized model")
    threat: Literal["authorized", "unauthorized"] = Field(
        "authorized",
        description="who personalizes: the owner, with the defense, or somebody else, on the protected photos",
    )
    purify: str = Field("", description="how the unauthorized trainer purifies the photos first; empty = not at all")
    attackers: tuple[str, ...] = Field(
        ATTACKERS, description="attackers; by default " + ", ".join(ATTACKERS) + ", the last from three subjects on"
    )
    seeds: tuple[Annotated[int, Field(ge=0, le=2**31)], ...] = Field(
        (0,), min_length=1, description="training and sampling seeds; each adds a full repetition"
    )
    images_per_prompt: int = Field(4, ge=1, le=1000, description="generated images per evaluation prompt")
    prompts: tuple[str, ...] = Field((), description="evaluation prompts; empty = the base's own")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="precision of the base model's networks (autocast); adapters and gradients stay fp32"
    )
    memory: tuple[Literal["checkpoint", "offload"], ...] = Field(
        (),
        description="ways to need less GPU memory for more time; no result changes. checkpoint: activations are computed "
        "twice; offload: what a step does not use lies in CPU memory",
    )
    personalizer: str = Field(LORA, description="personalizer plugin: how the base model is personalized")
    personalizer_options: dict[str, Any] = Field(default_factory=dict, description="changes to its settings")
    lora: dict[str, Any] = Field(default_factory=dict, description="changes to the base's LoRA settings")
    sampling: dict[str, Any] = Field(default_factory=dict, description="changes to the base's sampling settings")

    @model_validator(mode="before")
    @classmethod
    def _subject(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return with_attacker_options(with_defaults(by_name(by_protocol(values))))

    @field_validator("subjects", mode="before")
    @classmethod
    def _subjects(cls, value: object) -> object:
        """A number may be text, as the command line gives it; a name is never one of a list, whatever it looks like."""
        if isinstance(value, list | tuple):
            if not value:
                raise ValueError("give at least one name, a number, or 'all'")
            if wrong := [part for part in value if not isinstance(part, str)]:
                raise ValueError(f"a name is text: write '{wrong[0]}' in quotes")
            return tuple(dict.fromkeys(value))
        if isinstance(value, str) and value not in ("all", "some"):
            if not value.strip().lstrip("+-").isdecimal():
                raise ValueError(
                    f"{value!r} is not a number: name people with --subject NAME, in a file subject: [NAME]"
                )
            value = int(value)
        if isinstance(value, bool) or not (isinstance(value, int) or value in ("all", "some")):
            raise ValueError("give a number, or 'all'; name people with --subject NAME, in a file subject: [NAME]")
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{value} is too few: give at least 1, or 'all'")
        return value

    @field_validator("protocol", "target", "dataset", "base", "defenses", "preset", "purify", "attackers", "prompts")
    @classmethod
    def _texts(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """What ends in names, folders and tables must be readable there."""
        for text in (value,) if isinstance(value, str) else value:
            if not text.isprintable():
                raise ValueError(f"{text!r} holds a control character")
        return value

    @field_validator("prompts")
    @classmethod
    def _prompts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not prompt.strip() for prompt in value):
            raise ValueError("a prompt is empty")
        return value

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
        """Raises UserError for a preset that none of the run's defenses has."""
        if not self.preset:
            return cls.presets.get(MICRO if self.base in EMBEDDED else self.base, {})
        if self.preset == PAPER:
            return {}
        known = sorted({name for other in self.defenses for name in DEFENSES.get(other).presets})
        if self.preset not in known:
            raise UserError(
                f"preset: defense '{cls.name}' has no preset '{self.preset}': {did_you_mean(self.preset, [PAPER, *known])}"
            )
        return cls.presets.get(self.preset, {})

    def check(self) -> None:
        """Raises UserError for an unknown plugin, option or value, before anything is computed."""
        dataset = DATASETS.get(self.dataset)
        self.protocol_plugin().check(self.dataset, self.attackers, self.personalizer, self.target)
        check_options(dataset, self.dataset_options)
        referees = DATASETS.get(self.dataset).referees
        check_attackers(self.attackers)
        missing = absent(self.attackers)
        present = [name for name in self.attackers if name not in missing]
        for attacker in dict.fromkeys(root for name in present for root in roots(name)):
            built = build_attacker(attacker)
            if isinstance(built, NetworkAttacker) and (reason := referees.get(built.weights_hash())):
                raise UserError(f"attacker '{attacker}' can't judge dataset '{self.dataset}': {reason}")
        if not self.attackers:
            raise UserError("give at least one attacker")
        for defense in self.plan():
            with errors_of(f"defense '{defense.name}'"):
                surrogates = defense.surrogates()
            for name in surrogates:
                _check_surrogate(name, defense.differentiates)
            acts = defense.anchor or defense.acts_on("protect") or defense.acts_on("prepare")
            if self.threat == "unauthorized" and not acts:
                raise UserError(
                    f"defense '{defense.name}' does not act on the photos or the base model, so it has no effect in the "
                    "unauthorized setting, where somebody else trains and posts"
                )
        self.personalizer_plugin()
        if self.purify:
            purifier(self.purify)
            if self.threat == "authorized":
                raise UserError(
                    "purify: only an unauthorized trainer purifies the photos; give --threat unauthorized too"
                )

    def protocol_plugin(self) -> PublishedProtocol:
        """Raises UserError for an unknown protocol."""
        return load_protocol(self.protocol)

    def departures(self) -> list[str]:
        """In what the run differs from the protocol that it names, one text each."""
        return self.protocol_plugin().departures(self.model_dump(mode="json"))

    def personalizer_plugin(self) -> Personalizer:
        """Raises UserError for an unknown personalizer, or options that belong to another one."""
        if self.lora and self.personalizer != LORA:
            raise UserError(f"--lora is for personalizer '{LORA}': use --personalizer-set for '{self.personalizer}'")
        if self.lora and self.personalizer_options:
            raise UserError("--lora and --personalizer-set are the same setting: give only one")
        return PERSONALIZERS.get(self.personalizer)()

    def training_settings(self, recipe: Recipe) -> TrainingSettings:
        """The personalizer's settings, the base's where its recipe has them, with this run's changes."""
        plugin = self.personalizer_plugin()
        if self.lora:
            return plugin.settings(recipe, self.lora, "--lora")
        return plugin.settings(recipe, self.personalizer_options, "--personalizer-set")

    def sampling_settings(self, recipe: Recipe) -> Sampling:
        return changed_settings(recipe.sampling, self.sampling, "--sampling")


def by_name(values: dict[Any, Any]) -> dict[Any, Any]:
    """Settings as `RunConfig` has them: people named by `subject` are `subjects` too, a list. Raises ValueError for both."""
    if "subject" not in values:
        return values
    if "subjects" in values:
        raise ValueError("give a number or 'all' by subjects, or names by subject, not both")
    names = values["subject"]
    changed = {key: value for key, value in values.items() if key != "subject"}
    return {**changed, "subjects": [names] if isinstance(names, str) else names}


def by_protocol(values: dict[Any, Any]) -> dict[Any, Any]:
    """Settings with those that the protocol fixes, where none are given. Raises UserError for an unknown protocol."""
    name = values.get("protocol", OURS)
    return load_protocol(name).completed(values) if isinstance(name, str) and name != OURS else values


def with_defaults(values: dict[Any, Any]) -> dict[Any, Any]:
    """Settings with the base that suits the dataset, where none is given. Raises UserError for an unknown dataset."""
    dataset = values.get("dataset", DEFAULT_DATASET)
    if values.get("base") or not isinstance(dataset, str):
        return values
    return {**values, "base": DATASETS.get(dataset).base}


def with_attacker_options(values: dict[Any, Any]) -> dict[Any, Any]:
    """Settings as `RunConfig` has them: `attacker_options`, {"sface": {"detector": "mtcnn"}}, become part of attackers' names.

    Raises UserError for one that is wrong."""
    if "attacker_options" not in values:
        return values
    options = values["attacker_options"]
    if not isinstance(options, dict) or not all(isinstance(given, dict) for given in options.values()):
        raise ValueError("attacker_options: write them as ATTACKER: {KEY: VALUE}")
    rest = {key: value for key, value in values.items() if key != "attacker_options"}
    names = rest.get("attackers", RunConfig.model_fields["attackers"].default)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return rest  # what is wrong with them is said next
    return {**rest, "attackers": with_options(names, options)}


def make_config(options: dict[str, Any]) -> RunConfig:
    """Raises UserError naming the first option that is wrong."""
    try:
        return RunConfig.model_validate(options)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UserError(": ".join([*filter(None, [where]), first_of(error)])) from error


def identity(config: RunConfig) -> dict[str, Any]:
    """A configuration as it names a folder."""
    fields = type(config).model_fields
    usual = [key for key in LATER if getattr(config, key) == fields[key].get_default(call_default_factory=True)]
    return config.model_dump(mode="json", exclude={*usual, *WITHOUT_EFFECT})


def default_folder(config: RunConfig) -> Path:
    """Default folder of a run: the same settings give the same folder, so it resumes."""
    settings = digest(identity(config))[:8]
    return Path("runs") / f"{config.dataset}-{'+'.join(config.defenses)}-{settings}"


def first_of(error: ValidationError) -> str:
    """What is wrong with the first value that is."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")


@lru_cache
def _check_surrogate(name: str, differentiates: bool) -> None:
    """Raises UserError for an attacker that can't be a surrogate, or is not available."""
    with errors_of(f"surrogate '{name}'"):
        attacker = build_attacker(name)
        if problem := attacker.available():
            raise UserError(f"surrogate '{name}' can't run: {problem}")
        if differentiates:
            attacker.network()


def dataset_options(root: Path | None, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Options of a dataset as the command line gives them: a root, a path or hf://OWNER/NAME, and KEY=VALUE whose numbers are
    numbers."""
    given = {key: read_value(value, f"--data {key}={value}") for key, value in (options or {}).items()}
    if root is None:
        return given
    return {**given, "root": address(root) if on_hub(root) else str(user_path(root).resolve())}
