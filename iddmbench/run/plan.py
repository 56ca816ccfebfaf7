"""A prepared run configuration: its photos, its base model, its cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iddmbench import __version__
from iddmbench.adaptive import FEWEST_SUBJECTS, parse
from iddmbench.cells.cell import Cell, UnauthorizedTrainer
from iddmbench.cells.stages import CellStages
from iddmbench.defense import Defense
from iddmbench.errors import UserError, did_you_mean
from iddmbench.linking.absent import absent
from iddmbench.linking.published import PublishedTarget
from iddmbench.models.base import BaseModel, open_base
from iddmbench.models.check import check_targets
from iddmbench.models.recipe import LoraSettings
from iddmbench.photos.dataset import DATASETS
from iddmbench.protocols import PublishedProtocol
from iddmbench.results.metric_info import INDEX_VERSION
from iddmbench.results.run_folder import SCHEMA
from iddmbench.run.config import ATTACKERS, RunConfig, identity
from iddmbench.store.cache import Store, digest
from iddmbench.types import FaceData, Person, Subject

PROTOCOL = "1"
"""Raised when the protocol changes what figures mean (docs/protocol.md); results of two protocols are never compared."""


@dataclass(frozen=True, eq=False)
class RunPlan:
    """What a run will compute. Create one with `RunPlan.of`.

    Attributes:
        cells: every subject under every planned defense, for each seed.
        published: whom images should be taken for, and by which thresholds, where the protocol has that.
    """

    config: RunConfig
    stages: CellStages
    subjects: tuple[Subject, ...]
    cells: tuple[Cell, ...]
    published: PublishedTarget | None = None

    @classmethod
    def of(cls, config: RunConfig, cache: Path, device: str = "cpu", parts: "ResourceCache | None" = None) -> "RunPlan":
        """`parts`: photos and base models that other runs have opened.

        Raises UserError if the configuration or the photos are wrong, or the base model is missing.
        """
        config.check()
        parts = parts or ResourceCache()
        data = parts.data(config)
        subjects = choose(data, config.subjects)
        defenses = config.plan()
        for defense in defenses:
            defense.check(subjects)
            _check_decoys(defense, data)
        published = target_of(config.protocol_plugin(), data, subjects, config.target)
        config = with_enough_people(config, len(subjects))
        missing = absent(config.attackers)
        learning = [name for name in config.attackers if parse(name) and name not in missing]
        if learning and len(subjects) < FEWEST_SUBJECTS:
            raise UserError(
                f"attacker '{learning[0]}' learns on other people: give at least {FEWEST_SUBJECTS} --subjects"
            )
        base = parts.base(config, device)
        base.check_parts()
        personalizer = config.personalizer_plugin()
        settings, sampling = config.training_settings(base.recipe), config.sampling_settings(base.recipe)
        if isinstance(settings, LoraSettings) and "targets" in {**config.lora, **config.personalizer_options}:
            check_targets(settings.targets, base.folder)
        personalizer.check(base, settings)
        if config.threat == "authorized":  # otherwise somebody else trains, without the defense
            for defense in defenses:
                defense.check_personalizer(config.personalizer, settings)
        trainer = UnauthorizedTrainer.of(config.threat, config.purify)
        per_prompt = config.images_per_prompt
        stages = CellStages(
            base, data, Store(cache), settings, sampling, config.prompts, per_prompt, trainer, personalizer
        )
        cells = tuple(Cell(s, d, seed) for seed in config.seeds for d in defenses for s in subjects)
        return cls(config, stages, tuple(subjects), cells, published)

    def resolved(self) -> dict[str, Any]:
        """The configuration with every default filled in, as written to the run folder."""
        config, stages = self.config, self.stages
        plan = config.plan()
        return {
            "schema": SCHEMA,
            "utility_index": INDEX_VERSION,
            "iddmbench": __version__,
            **identity(config),
            "protocol": protocol(stages, config.protocol_plugin()),
            **self._by_protocol(),
            "personalizer": config.personalizer,
            "subjects": [s.name for s in self.subjects],
            "people": len(stages.data.subjects),
            "offered": len(stages.data.offered),
            "defense": ", ".join(config.defenses),
            "plan": [{"name": d.name, **d.settings()} for d in plan],
            "prompts": stages.prompts,
            "lora_settings": stages.lora.model_dump(mode="json"),
            "sampling_settings": stages.sampling.model_dump(),
            "data_fingerprint": stages.data.fingerprint,
            "base_fingerprint": stages.base.fingerprint,
            "skipped": [{"name": s.name, "reason": s.reason} for s in stages.data.skipped],
            "notes": [
                *(f"{d.name}: {d.title}" for d in {d.name: d for d in plan}.values()),
                *stages.utility.problems(),
            ],
        }

    @property
    def by_prompt(self) -> tuple[str, ...]:
        """Metrics that the protocol gives for each prompt."""
        return self.config.protocol_plugin().by_prompt

    def _by_protocol(self) -> dict[str, Any]:
        """What a run under a published protocol says about it; nothing under ours."""
        if self.config.protocol_plugin().ranks:
            return {}
        target = {"target": self.published.person.name} if self.published else {}
        return {"departures": self.config.departures(), **target}


class ResourceCache:
    """Photos and base models of several runs in one process: each is opened once."""

    def __init__(self) -> None:
        self._data: dict[str, FaceData] = {}
        self._bases: dict[tuple[str, str, str, tuple[str, ...]], BaseModel] = {}

    def data(self, config: RunConfig) -> FaceData:
        key = digest([config.dataset, config.dataset_options])
        if key not in self._data:
            self._data[key] = DATASETS.get(config.dataset)(**config.dataset_options).load()
        return self._data[key]

    def base(self, config: RunConfig, device: str) -> BaseModel:
        """One at a time: the previous one's weights are freed."""
        key = (config.base, device, config.precision, config.memory)
        if key not in self._bases:
            self._bases = {key: open_base(*key)}
        return self._bases[key]


SOME = 4
"""Subjects by default, where there are that many."""


def with_enough_people(config: RunConfig, subjects: int) -> RunConfig:
    """Without the default attackers that learn on other people, where there are too few of these."""
    if config.attackers != ATTACKERS or subjects >= FEWEST_SUBJECTS:
        return config
    return config.model_copy(update={"attackers": tuple(name for name in ATTACKERS if not parse(name))})


def choose(data: FaceData, wanted: tuple[str, ...] | int | str) -> list[Subject]:
    """The first `wanted` subjects, "all", "some" (the first four), or those of the given names.

    Only a name takes one of the people on whom settings are chosen (`Subject.named_only`).

    Raises UserError for too many, or an unknown name.
    """
    if isinstance(wanted, str):
        return list(data.offered[: None if wanted == "all" else SOME])
    if isinstance(wanted, int):
        most = len(data.offered)
        if wanted > most:
            there = f"{most} subject{'s' if most > 1 else ''}"
            held = len(data.subjects) - most
            but = f" ({held} more by name, on whom settings are chosen)" if held else ""
            raise UserError(
                f"dataset '{data.name}' has {there}{but}, {wanted} asked for: give at most {most}, or 'all'"
            )
        return list(data.offered[:wanted])
    known = {subject.name: subject for subject in data.subjects}
    public = {person.name for person in data.public if person.source == data.name}
    for name in wanted:
        if name not in known and name in public:
            raise UserError(
                f"dataset '{data.name}': '{name}' is a public person in this run, used to set thresholds, and can't be "
                "a subject too: name other people (synthetic: --data part=all makes all 60 subjects)"
            )
        if name not in known:
            raise UserError(f"dataset '{data.name}' has no subject '{name}': {did_you_mean(name, known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def _check_decoys(defense: Defense, data: FaceData) -> None:
    """Raises UserError for a defense that needs decoys where nobody is public."""
    if "decoys" in defense.extra_photos() and len(data.public) < 3:
        raise UserError(
            f"defense '{defense.name}' needs public people, whose mean is its decoy, and dataset '{data.name}' has "
            f"{len(data.public)} of them in this run: give --data public=20, or another defense"
        )


def target_of(
    followed: PublishedProtocol, data: FaceData, subjects: Sequence[Subject], name: str
) -> PublishedTarget | None:
    """Whom images should be taken for under a published protocol, by default the first public person; None under another one.

    Raises UserError for a subject, and for somebody unknown.
    """
    if followed.thresholds is None:
        return None
    people = {person.name: person for person in sorted(data.public, key=lambda person: person.label)}
    if name in {subject.name for subject in subjects}:
        raise UserError(f"target '{name}' is a subject of this run: images of a person can't impersonate that person")
    known = people | {s.name: Person(s.name, s.enrolment, s.source) for s in data.subjects if s not in subjects}
    if name not in known and (name or not people):
        hint = did_you_mean(name, known) if name else "the dataset has no public people"
        raise UserError(f"dataset '{data.name}' has no target '{name}': {hint}")
    thresholds = followed.thresholds
    return PublishedTarget(followed.name, thresholds.far, thresholds.values, known[name or next(iter(people))])


def protocol(stages: CellStages, followed: PublishedProtocol | None = None) -> dict[str, str]:
    """Version and hash of what figures depend on whatever the defense: results of two hashes are never compared.

    followed: the published protocol, which has its own hashes and says its name; ours by default.
    """
    parts = {
        "version": PROTOCOL,
        "data": stages.data.fingerprint,
        "prompts": stages.prompts,
        "per_prompt": stages.per_prompt,
        "sampling": stages.sampling.model_dump(),
        "base": stages.base.fingerprint,
    }
    if followed is None or followed.ranks:
        return {"version": PROTOCOL, "hash": digest(parts)}
    return {"version": PROTOCOL, "hash": digest({**parts, "protocol": followed.name}), "name": followed.name}
