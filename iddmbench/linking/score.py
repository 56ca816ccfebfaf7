"""Every attacker looks at the finished cells, condition by condition; the result is stored like that of any other stage."""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.adaptive import build_adaptive, parse, restoration_of, simulation_of
from iddmbench.attacker import Attacker
from iddmbench.cells.cell import PROTECTED, Cell, Outputs
from iddmbench.cells.condition import PlannedCondition, conditions
from iddmbench.cells.restore import training_findings
from iddmbench.cells.stages import CellStages
from iddmbench.cells.versions import CODE as STAGES
from iddmbench.errors import UserError
from iddmbench.linking.absent import absent, absent_findings
from iddmbench.linking.aggregate import Group, Scored, able_attackers, summarize_group, threat_of
from iddmbench.linking.attacks import Attack, Attacks
from iddmbench.linking.demographics import demographic_rows
from iddmbench.linking.doubts import CODE as PREMISE_CODE
from iddmbench.linking.doubts import all_findings
from iddmbench.linking.judged import figures_by_prompt
from iddmbench.linking.linker import FARS, Linkage, Linker
from iddmbench.linking.panel import AttackerPanel
from iddmbench.linking.published import PublishedTarget, taken_for
from iddmbench.linking.simulate import check_simulation, cost_findings
from iddmbench.metrics.quality import psnr, ssim
from iddmbench.results.findings import in_order
from iddmbench.results.metric_info import KEPT
from iddmbench.results.run_folder import label, make_table, table_file
from iddmbench.store.cache import digest
from iddmbench.store.cost import Cost
from iddmbench.store.files import write_table
from iddmbench.types import Subject

CODE = {"score": 7, "calibration": 2}
"""Raised by hand when linking, metrics or tables change, so that older scores are not reused."""
ABLE = "able.json"
TABLES = ("cells", "images", "probes", "summary", "demographics")
QUALITY = (
    "detected",
    "ser_fiq",
    "brisque",
    "closeness",
    "adherence",
    *("usable", "realism", "kept_look", "closeness_erased", "denoising_error"),
    *KEPT,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Scoring:
    """The attackers of a run, and what they make of its conditions.

    Attributes:
        panel: its attackers, adaptive ones included.
        conditions: all of the run, with the cells that finished.
        subjects: whose photos FID and KID compare with.
        many_seeds: whether the run has cells of several seeds; folders then say whose images are in them.
        digests: of cells' images by the cells' names, as far as they have been computed.
        absent: requested attackers that are not available, with the command that installs them.
        published: whom images should be taken for, and by which thresholds, where the protocol has that.
        by_prompt: metrics that the protocol gives for each prompt.
    """

    stages: CellStages
    panel: AttackerPanel
    conditions: tuple[PlannedCondition, ...]
    subjects: tuple[Subject, ...]
    many_seeds: bool
    digests: dict[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    published: PublishedTarget | None = None
    by_prompt: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        stages: CellStages,
        attackers: Sequence[str],
        cells: Sequence[Cell],
        own: Mapping[str, Attacker] | None = None,
        published: PublishedTarget | None = None,
        by_prompt: tuple[str, ...] = (),
    ) -> "Scoring":
        subjects = {cell.subject.name: cell.subject for cell in cells}
        missing = absent(attackers, own or {})
        present = [name for name in attackers if name not in missing]
        panel = AttackerPanel(present, stages.data, stages.embed_photos, stages.base, own or {})
        many_seeds = len({cell.seed for cell in cells}) > 1
        planned = tuple(conditions(cells))
        for name in present:
            if simulation_of(name) and not stages.trains:
                raise UserError(
                    f"attacker '{name}' runs the defense itself, which can't be done for images made elsewhere"
                )
            how, posted = parse(name), [p for p in stages.prompts for _ in range(stages.per_prompt)]
            if how and posted and (problem := build_adaptive(how).too_few(posted)):
                raise UserError(problem)
        check_simulation(present, planned)
        return cls(
            stages,
            panel,
            planned,
            tuple(subjects.values()),
            many_seeds,
            absent=missing,
            published=published,
            by_prompt=by_prompt,
        )

    def only(self, finished: Sequence[Cell]) -> "Scoring":
        """The scoring of those cells; the others count as missing. The attackers stay loaded."""
        names = {cell.name for cell in finished}
        return replace(self, conditions=tuple(condition.only(names) for condition in self.conditions))

    def without(self, missing: Collection[int], cells: Sequence[Cell]) -> "Scoring":
        """`only` those of the run's cells that are not missing, which are given by index."""
        return self.only([cell for i, cell in enumerate(cells) if i not in missing]) if missing else self

    @property
    def attackers(self) -> tuple[str, ...]:
        return self.panel.names

    @property
    def linkers(self) -> dict[str, Linker]:
        """The plain attackers with their galleries, by name. Raises UserError when one can't work on these photos."""
        return self.panel.linkers

    # ---- a cell -----------------------------------------------------------------------------------------------------

    def compute(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> None:
        """All that is slow about a cell: its images, their quality, and what every attacker's network makes of them."""
        outputs = self.stages.outputs(cell, tick)
        self.stages.utility.measure(cell.subject, outputs)
        for view in self.panel.views:
            self._embeds(view, cell, outputs)

    # ---- the run's own cells ----------------------------------------------------------------------------------------

    def _embeds(self, view: Attacker, cell: Cell, outputs: Outputs | None = None) -> bool:
        """Whether an attacker can embed a cell's images. One that fails loses its own figures, and nobody else's."""
        return self.panel.embeds(view, cell.name, lambda: self.stages.embed(view, outputs or self.stages.outputs(cell)))

    def lost(self, condition: PlannedCondition) -> dict[str, str]:
        """Attackers that have no figures for a computed condition, as they failed on its images, with what they raised."""
        found: dict[str, str] = {}
        for cell in condition.cells:
            found |= self.panel.lost(cell.name, partial(self._has_embedding, cell))
        return found

    def _has_embedding(self, cell: Cell, view: Attacker) -> bool:
        return self.stages.has_embedding(view, self.stages.image_key(cell))

    def is_computed(self, cell: Cell) -> bool:
        """Whether `compute` would find all that it looks for."""
        stages = self.stages
        key = stages.image_key(cell)
        return (
            stages.is_cached(cell, key)
            and stages.utility.has(key)
            and all(stages.has_embedding(view, key) for view in self.panel.views)
        )

    def scored(self, cell: Cell, linked: bool = True) -> Scored:
        """A finished cell as the plain attackers and the utility metrics see it. `linked`: False for its utility alone."""
        outputs = self.stages.outputs(cell)
        utility = self.stages.utility.measure(cell.subject, outputs)
        if not linked:
            return Scored(cell, {}, utility)
        decoy = [person.label for person in self.stages.benches.decoy_people(cell)] if self.stages.data.public else []
        linkage = {}
        for name, linker in self.linkers.items():
            if self._embeds(linker.attacker, cell, outputs):
                probes, _ = self.stages.embed(linker.attacker, outputs)
                linkage[name] = linker.link(cell.subject.label, probes, decoy)
        embed = [self.stages.embed(v, outputs)[1] for v in self.panel.views if self._embeds(v, cell, outputs)]
        change = photo_change(outputs.extras.get(PROTECTED), self.stages.crops.references(cell.subject))
        return Scored(cell, linkage, utility, change, outputs.prompts, cost_columns(outputs, embed))

    def nearest(self, cell: Cell, count: int) -> list[dict[str, Any]]:
        """Rows of the table "nearest" of a finished cell: for each image and plain attacker its first `count` people."""
        outputs, rows = self.stages.outputs(cell), list[dict[str, Any]]()
        for name, linker in self.linkers.items():
            if not self._embeds(linker.attacker, cell, outputs):
                continue
            probes, _ = self.stages.embed(linker.attacker, outputs)
            for i, people in enumerate(linker.nearest(probes, count)):
                path = Path("images", self.folder(cell), cell.subject.name, f"{i:02d}.png").as_posix()
                for place, (whose, score) in enumerate(people, 1):
                    source, _, person = whose.partition("/")
                    rows.append(
                        {
                            **{"subject": cell.subject.name, "defense": cell.defense.name, "image": path},
                            **{"strength": np.nan if cell.strength is None else cell.strength, "attacker": name},
                            **{"place": place, "person": person, "source": source, "score": score},
                        }
                    )
        return rows

    # ---- a condition ------------------------------------------------------------------------------------------------

    def group(self, condition: PlannedCondition, linked: bool = True) -> Group:
        """A condition as every attacker sees it. `linked`: False for its utility alone."""
        cells: dict[str, list[Scored]] = {}
        for cell in condition.cells:
            cells.setdefault(cell.subject.name, []).append(self.scored(cell, linked))
        group = Group(
            condition.defense.name,
            condition.strength,
            condition.white_box,
            cells,
            condition.missing,
            self._judges(condition),
        )
        lost = self.lost(condition) if linked else {}
        for name in self.panel.attackers.adaptive if linked else ():
            if name not in lost:
                self._add_attacks(name, group, condition)
        return group

    def _judges(self, condition: PlannedCondition) -> tuple[str, ...]:
        """Networks whose features the defense, or the base's training, optimized."""
        return tuple(dict.fromkeys((*condition.judges, *self.stages.base.recipe.judges)))

    @cached_property
    def groups(self) -> dict[str, Group]:
        """All conditions by label."""
        return {c.label: self._anchor(c) if c.defense.anchor else self.group(c) for c in self.conditions}

    def tables(self, condition: PlannedCondition) -> Path:
        """Folder with the condition's rows of each of TABLES."""

        def compute(out: Path) -> None:
            group = self._anchor(condition) if condition.defense.anchor else self.group(condition)
            anchors = {c.defense.name: self._anchor(c, linked=False) for c in self._anchors if c.cells}
            rows = summarize_group(group, self.attackers, self.able, anchors, self._real)
            write_table(out / table_file("summary"), make_table("summary", rows))
            by_group = demographic_rows(group, self.attackers, self.able, self._traits)
            write_table(out / table_file("demographics"), make_table("demographics", by_group))
            parts = [self._rows(scored, group) for several in group.cells.values() for scored in several]
            for name in ("cells", "images", "probes"):
                write_table(out / table_file(name), make_table(name, [row for part in parts for row in part[name]]))

        if self.lost(condition):  # once more here: they may have failed in another process
            for cell in condition.cells:
                for view in self.panel.views:
                    self._embeds(view, cell)
        return self.stages.store.fetch("score", self._key(condition, self.lost(condition), self.able), compute)

    def published_rows(self, condition: PlannedCondition) -> list[dict[str, Any]]:
        """Rows of the table `published`, one for each attacker with a published threshold."""
        wanted, lost = self.published, self.lost(condition)
        rows: list[dict[str, Any]] = []
        for name, threshold in wanted.thresholds.items() if wanted else ():
            if wanted is None or name not in self.linkers or name in lost or not condition.cells:
                continue
            attacker = self.linkers[name].attacker
            picture = self.stages.embed_photos(attacker, wanted.person.photos[:1])
            if not picture.acquired[0]:
                raise UserError(f"attacker '{name}' finds no face in the picture of target '{wanted.person.name}'")
            by_subject: dict[str, list[np.ndarray]] = {}
            for cell in condition.cells:
                found = self.stages.embed(attacker, self.stages.outputs(cell))[0]
                by_subject.setdefault(cell.subject.name, []).append(found.vectors)
            estimate = taken_for(picture.vectors[0], list(map(np.concatenate, by_subject.values())), threshold)
            rows.append(
                {
                    "defense": condition.defense.name,
                    "strength": condition.strength,
                    "attacker": name,
                    "threat": threat_of(name, condition.white_box),
                    "target": wanted.person.name,
                    "far": wanted.far,
                    "threshold": threshold,
                    "value": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "images": estimate.n,
                    "subjects": estimate.groups,
                }
            )
        return rows

    def prompt_rows(self, condition: PlannedCondition) -> list[dict[str, Any]]:
        """Rows of the table `prompts`: what the protocol gives for each prompt, of what is measured here."""
        cells: dict[str, list[tuple[dict[str, np.ndarray], Sequence[str]]]] = {}
        for cell in condition.cells if self.by_prompt else ():
            outputs = self.stages.outputs(cell)
            utility = self.stages.utility.measure(cell.subject, outputs)
            # As in Anti-DreamBooth's script, which skips images without a face; the summary counts them as 0.
            quality = np.where(utility.detected, utility.ser_fiq, np.nan)
            own = {**utility.judged, "ser_fiq": quality, "brisque": utility.brisque}
            cells.setdefault(cell.subject.name, []).append((own, outputs.prompts))
        context = {"defense": condition.defense.name, "strength": condition.strength}
        return [
            {
                **context,
                "prompt": prompt,
                "metric": metric,
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "images": estimate.n,
                "subjects": estimate.groups,
            }
            for prompt, metric, estimate in figures_by_prompt(cells, self.by_prompt)
        ]

    def is_scored(self, condition: PlannedCondition) -> bool:
        """Of a condition whose cells are computed."""
        return self.stages.store.has("score", self._key(condition, self.lost(condition), self.able))

    def is_scored_in_full(self, condition: PlannedCondition) -> bool:
        """Whether it has been scored with every attacker; its cells need not be looked at."""
        store, able, key = self.stages.store, list(self.attackers), self._able_key(self.attackers)
        if any(self._anchor_keys.values()):
            if not store.has("able", key):
                return False
            able = _read_able(store.path("able", key))
        return store.has("score", self._key(condition, {}, able))

    def calibration(self) -> Path:
        """Folder with the plain attackers' thresholds."""
        attackers = {name: prints for name, prints in self.panel.fingerprints.items() if parse(name) is None}
        key = {"gallery": self.stages.data.gallery, "attackers": attackers, "code": {**CODE, "embed": STAGES["embed"]}}

        def compute(out: Path) -> None:
            rows = [row for name, linker in self.linkers.items() for row in calibration_rows(name, linker)]
            write_table(out / table_file("calibration"), make_table("calibration", rows))

        return self.stages.store.fetch("calibration", key, compute)

    def premise(self) -> Path:
        """Folder with what is doubtful about the photos and the systems (results/findings.py), found before any training."""

        def compute(out: Path) -> None:
            found = all_findings(
                self.stages.data,
                self.subjects,
                self.panel.systems,
                self.stages.embed_photos,
                self.stages.crops.detector,
                self.stages.base,
            )
            found += cost_findings(self.attacks.simulating, self.conditions, self.subjects, self.stages.data.subjects)
            found += training_findings(self._restoring, self.conditions)
            found = in_order([*found, *absent_findings(self.absent, self.attackers)])
            write_table(out / table_file("premise"), make_table("premise", [finding.row for finding in found]))

        return self.stages.store.fetch("premise", self._premise_key, compute)

    def has_premise(self) -> bool:
        return self.stages.store.has("premise", self._premise_key)

    def premise_digest(self) -> str:
        return digest(self._premise_key)

    @cached_property
    def _premise_key(self) -> dict[str, Any]:
        systems = self.panel.attackers.systems
        return {
            "data": self.stages.data.fingerprint,
            "skipped": [[skipped.name, skipped.reason] for skipped in self.stages.data.skipped],
            "subjects": [subject.name for subject in self.subjects],
            "attackers": {name: [a.fingerprint(), list(a.trained_on_datasets)] for name, a in systems.items()},
            "base": [self.stages.base.name, self.stages.base.recipe.model_dump(mode="json")["trained_on"]],
            "detector": self.stages.crops.detector.fingerprint(),
            "absent": dict(self.absent),
            **({"simulated": self._simulating_key} if self.attacks.simulating else {}),
            **({"restoring": self._restoring_key} if self._restoring else {}),
            "code": [PREMISE_CODE, STAGES["embed"]],
        }

    @property
    def _simulating_key(self) -> list[Any]:
        return [self.attacks.simulating, [[c.label, c.seeds] for c in self.conditions]]

    @property
    def _restoring(self) -> list[str]:
        return [name for name in self.attackers if restoration_of(name)]

    @property
    def _restoring_key(self) -> list[Any]:
        cells = [[c.label, [[cell.subject.name, cell.seed] for cell in c.cells]] for c in self.conditions]
        return [self._restoring, cells]

    def _simulated_key(self, condition: PlannedCondition, lost: Collection[str]) -> dict[str, list[str]]:
        """Identifies the images that attackers made themselves, by attacker."""
        return {
            name: [
                digest(self.stages.image_key(cell))
                for seed in condition.seeds
                for cell in self.attacks.simulated_cells(name, condition, seed)
            ]
            for name in self.attacks.simulating
            if name not in lost
        }

    def _key(self, condition: PlannedCondition, lost: Mapping[str, str], able: Sequence[str]) -> dict[str, Any]:
        utility = self.stages.utility
        judged = utility.judges.fingerprints
        return {
            "condition": [condition.defense.name, None if condition.defense.anchor else condition.strength],
            "cells": [self._cell_key(cell) for cell in condition.cells],
            "anchors": self._anchor_keys,
            "subjects": [[s.label, *(photo.digest for photo in s.references)] for s in self.subjects],
            "missing": condition.missing,
            "white_box": condition.white_box,
            "judges": self._judges(condition),
            "attributes": utility.ages.fingerprint,
            **({} if utility.measured else {"utility": False}),
            **({"judged": judged} if judged else {}),
            "traits": {subject.label: dict(subject.traits) for subject in self.subjects},
            "able": able,
            "attackers": {name: prints for name, prints in self.panel.fingerprints.items() if name not in lost},
            **({"simulated": found} if (found := self._simulated_key(condition, lost)) else {}),
            "many_seeds": self.many_seeds,
            "dataset": self.stages.data.name,
            "gallery": self.stages.data.gallery,
            "base": [self.stages.base.name, self.stages.base.fingerprint],
            "detector": self.stages.crops.detector.fingerprint(),
            "code": {**CODE, **STAGES},
            "versions": self.stages.versions,
        }

    def cell_digest(self, cell: Cell) -> str:
        """Identifies the cell's images."""
        if cell.name not in self.digests:
            self.digests[cell.name] = digest(self.stages.image_key(cell))
        return self.digests[cell.name]

    def _cell_key(self, cell: Cell) -> list[Any]:
        return [cell.subject.name, cell.seed, self.cell_digest(cell)]

    @cached_property
    def _anchor_keys(self) -> dict[str, list[list[Any]]]:
        return {c.defense.name: [self._cell_key(cell) for cell in c.cells] for c in self._anchors}

    @cached_property
    def _anchors(self) -> list[PlannedCondition]:
        return [condition for condition in self.conditions if condition.defense.anchor]

    @cached_property
    def able(self) -> list[str]:
        """The attackers that link the undefended model, which make the worst cases; all where that was not run.

        One that fails on some condition is left out everywhere: the worst case there would look kinder than elsewhere.
        """
        lost = {name for condition in self.conditions for name in self.lost(condition)}
        names = [name for name in self.attackers if name not in lost] or list(self.attackers)

        def compute(out: Path) -> None:
            found = able_attackers([self._anchor(condition) for condition in self._anchors], names)
            (out / ABLE).write_text(json.dumps(found), encoding="utf-8")

        if not any(self._anchor_keys.values()):
            return names
        return _read_able(self.stages.store.fetch("able", self._able_key(names), compute))

    def _able_key(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "anchors": self._anchor_keys,
            "attackers": {name: self.panel.fingerprints[name] for name in names},
            "gallery": self.stages.data.gallery,
            "base": [self.stages.base.name, self.stages.base.fingerprint],
            "code": {**CODE, "embed": STAGES["embed"]},
        }

    def _anchor(self, condition: PlannedCondition, linked: bool = True) -> Group:
        """The undefended or the un-personalized condition, which all others need: its cells are read once.

        One that was linked serves where its utility is enough.
        """
        for known in (True, linked):
            if (condition.label, known) in self._anchors_read:
                return self._anchors_read[condition.label, known]
        return self._anchors_read.setdefault((condition.label, linked), self.group(condition, linked))

    @cached_property
    def _anchors_read(self) -> dict[tuple[str, bool], Group]:
        return {}

    @cached_property
    def _traits(self) -> dict[str, dict[str, str]]:
        """Of the subjects, by name."""
        return {subject.name: self.stages.utility.traits(subject) for subject in self.subjects}

    @cached_property
    def _real(self) -> np.ndarray:
        return np.concatenate([self.stages.utility.reference_features(subject) for subject in self.subjects])

    # ---- adaptive attackers -----------------------------------------------------------------------------------------

    @cached_property
    def attacks(self) -> Attacks:
        return Attacks(self.stages, self.panel, self.conditions, self.subjects, self._cell_key)

    @property
    def open_attacks(self) -> dict[int, str]:
        """Of those that can be made and are not stored yet: index in `attacks.planned` -> `digest` of what it depends on."""
        lost = {condition.label: self.lost(condition) for condition in self.conditions}
        planned = enumerate(self.attacks.planned)
        possible = {i: attack for i, attack in planned if attack.attacker not in lost[attack.condition.label]}
        return {i: digest(self.attacks.key(a)) for i, a in possible.items() if not self.attacks.is_stored(a)}

    def _add_attacks(self, name: str, group: Group, condition: PlannedCondition) -> None:
        """Add what an adaptive attacker sees to a group. Where it can't attack it has no figures, and the log says so."""
        scored = {one.cell.name: one for several in group.cells.values() for one in several}
        attacks = [Attack(name, condition, seed) for seed in condition.seeds]
        try:
            found = [(attack.cells, self.attacks.linkages(attack)) for attack in attacks]
        except UserError as error:
            log.error("%s has no figures for %s: %s", name, group.label, error)
            return
        for cells, linkages in found:
            for cell, seen in zip(cells, linkages, strict=True):
                scored[cell.name].linkage[name] = seen

    # ---- rows -------------------------------------------------------------------------------------------------------

    def folder(self, cell: Cell) -> str:
        """Folder of the cell's condition among a run's images."""
        return label(cell.defense.name, cell.strength, cell.seed if self.many_seeds else None)

    def _rows(self, scored: Scored, group: Group) -> dict[str, list[dict[str, Any]]]:
        """Rows of the tables of cells, images and probes for one cell."""
        cell = scored.cell
        identity = cell_identity(cell, self.stages)
        own = {key: identity[key] for key in ("cell", "subject", "defense", "strength", "seed")}
        images: list[dict[str, Any]] = []
        probes: list[dict[str, Any]] = []
        for i, prompt in enumerate(scored.prompts):
            path = Path("images", self.folder(cell), cell.subject.name, f"{i:02d}.png")
            image = {**own, "prompt": prompt, "index": i % self.stages.per_prompt, "image": path.as_posix()}
            quality = {name: getattr(scored.utility, name) for name in QUALITY}
            images.append({**image, **{name: v[i] for name, v in quality.items() if v is not None}})
            probes += [{**image, **probe_row(name, group, seen, i)} for name, seen in scored.linkage.items()]
        change = {name: float(v.max() if name == "photo_linf" else v.mean()) for name, v in scored.change.items()}
        row = {**identity, "status": "ok", "error": "", "cached": True, **scored.costs, **change}
        return {"cells": [row], "images": images, "probes": probes}


def _read_able(folder: Path) -> list[str]:
    return json.loads((folder / ABLE).read_text(encoding="utf-8"))


def cell_identity(cell: Cell, stages: CellStages) -> dict[str, Any]:
    return {
        "cell": digest(stages.image_key(cell))[:16],
        "dataset": stages.data.name,
        "subject": cell.subject.name,
        "base": stages.base.name,
        "defense": cell.defense.name,
        "strength": cell.strength,
        "seed": cell.seed,
    }


def cost_columns(outputs: Outputs, embed: Sequence[Cost]) -> dict[str, float]:
    """Seconds by stage and in all, and the largest peak of memory, in MB. Preparing the base counts as protecting."""
    seconds: dict[str, float] = {}
    for stage, cost in outputs.costs.items():
        column = "protect" if stage == "prepare" else stage
        seconds[column] = seconds.get(column, 0.0) + cost.seconds
    seconds["embed"] = sum(cost.seconds for cost in embed)
    every = [*outputs.costs.values(), *embed]
    return {
        "seconds": sum(seconds.values()),
        **{f"seconds_{stage}": value for stage, value in seconds.items()},
        **{
            f"peak_{key}_mb": max((asdict(c)[key] for c in every), default=0) / 1e6
            for key in ("memory", "device_memory")
        },
    }


def photo_change(protected: np.ndarray | None, references: np.ndarray) -> dict[str, np.ndarray]:
    """How much a defense changed each of N photos: l_inf in levels of 255, PSNR in dB, SSIM; empty if it changed none."""
    if protected is None:
        return {}
    linf = np.abs(protected.astype(float) - references).max((1, 2, 3))
    return {"photo_linf": linf, "photo_psnr": psnr(protected, references), "photo_ssim": ssim(protected, references)}


def probe_row(name: str, group: Group, seen: Linkage, i: int) -> dict[str, Any]:
    """What one attacker makes of image `i` of a cell."""
    known = bool(seen.acquired[i])
    return {
        "attacker": name,
        "threat": threat_of(name, group.white_box),
        "acquired": known,
        "mated": seen.mated[i],
        "nonmated": seen.nonmated[i].max() if known else np.nan,
        "rank": seen.rank[i],
        **{f"match_{far}": bool(far in seen.matched and seen.matched[far].hits[i]) for far in FARS},
    }


def calibration_rows(name: str, linker: Linker) -> Iterator[dict[str, Any]]:
    attacker = linker.attacker
    for far, threshold in linker.thresholds.items():
        yield {
            "attacker": name,
            "title": attacker.title,
            "far": float(far),
            "threshold": threshold.value,
            "threshold_low": linker.threshold_ends[far][0],
            "threshold_high": linker.threshold_ends[far][1],
            "achieved_far": threshold.achieved,
            "impostor_pairs": len(linker.impostors),
            "licence": attacker.licence,
            "source": attacker.source,
            "fingerprint": attacker.fingerprint(),
        }
