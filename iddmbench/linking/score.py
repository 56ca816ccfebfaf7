"""Every attacker looks at the finished cells, condition by condition; the result is stored like that of any other stage."""

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from iddmbench.adaptive import parse
from iddmbench.attacker import Attacker
from iddmbench.cells.stages import CODE as STAGES
from iddmbench.cells.stages import PROTECTED, Cell, CellStages, Outputs
from iddmbench.errors import UserError, one_line
from iddmbench.linking.adaptive import AdaptiveLinker, Attackers, build_linkers
from iddmbench.linking.aggregate import Group, Scored, able_attackers, summarize_group, threat_of
from iddmbench.linking.doubts import CODE as PREMISE_CODE
from iddmbench.linking.doubts import all_findings
from iddmbench.linking.linker import FARS, Linkage, Linker
from iddmbench.metrics.quality import psnr, ssim
from iddmbench.results.run_folder import label, make_table, table_file
from iddmbench.run.plan import Condition, conditions
from iddmbench.store.cache import digest, stops
from iddmbench.store.cost import Cost
from iddmbench.store.files import write_table
from iddmbench.types import Subject

CODE = {"score": 3, "calibration": 2}
"""Raised by hand when linking, metrics or tables change, so that older scores are not reused."""
ABLE = "able.json"
TABLES = ("cells", "images", "probes", "summary")
QUALITY = ("detected", "ser_fiq", "brisque", "closeness", "adherence")

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Scoring:
    """The attackers of a run, and what they make of its conditions.

    Attributes:
        attackers: names, adaptive ones included.
        conditions: all of the run, with the cells that finished.
        subjects: whose photos FID and KID compare with.
    """

    lab: CellStages
    attackers: tuple[str, ...]
    conditions: tuple[Condition, ...]
    subjects: tuple[Subject, ...]

    @classmethod
    def of(cls, lab: CellStages, attackers: Sequence[str], cells: Sequence[Cell]) -> "Scoring":
        subjects = {cell.subject.name: cell.subject for cell in cells}
        return cls(lab, tuple(attackers), tuple(conditions(cells)), tuple(subjects.values()))

    def only(self, finished: Sequence[Cell]) -> "Scoring":
        """The scoring of those cells; the others count as missing. The attackers stay loaded."""
        names = {cell.name for cell in finished}
        kept = replace(self, conditions=tuple(condition.only(names) for condition in self.conditions))
        known: tuple[str, ...] = ("_attackers", "_built", "_views", "views", "_fingerprints", "_digests", "_real")
        known += ("_present", "_failures")
        vars(kept).update({name: value for name, value in vars(self).items() if name in known})
        vars(kept)["_many_seeds"] = self._many_seeds
        return kept

    # ---- attackers --------------------------------------------------------------------------------------------------

    @cached_property
    def _attackers(self) -> Attackers:
        return Attackers.of(self.attackers)

    @cached_property
    def _built(self) -> tuple[dict[str, Linker], dict[str, AdaptiveLinker]]:
        return build_linkers(self._attackers, self.lab)

    @property
    def linkers(self) -> dict[str, Linker]:
        """The plain attackers with their galleries, by name. Raises UserError when one can't work on these photos."""
        return self._built[0]

    @property
    def systems(self) -> dict[str, Linker]:
        """All plain systems by name, those that only adaptive attackers wrap included."""
        wrapped = {
            system: inner
            for name, how in self._attackers.adaptive.items()
            for system, inner in zip(how.bases, self.adaptive[name].linkers, strict=True)
        }
        return {**self.linkers, **wrapped}

    @property
    def adaptive(self) -> dict[str, AdaptiveLinker]:
        return self._built[1]

    @cached_property
    def _views(self) -> dict[str, list[Attacker]]:
        return {name: self._attackers.views(name, self.lab.base) for name in self.attackers}

    @cached_property
    def views(self) -> list[Attacker]:
        """All that embeds a cell's images: the plain attackers, and the views of the adaptive ones."""
        return list({view.fingerprint(): view for views in self._views.values() for view in views}.values())

    # ---- a cell -----------------------------------------------------------------------------------------------------

    def compute(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> None:
        """All that is slow about a cell: its images, their quality, and what every attacker's network makes of them."""
        outputs = self.lab.outputs(cell, tick)
        self.lab.utility(cell.subject, outputs)
        for view in self.views:
            self._embeds(view, cell, outputs)

    # ---- attackers that fail --------------------------------------------------------------------------------------------

    @cached_property
    def _present(self) -> set[tuple[str, str]]:
        """Fingerprints of views, and names of cells, whose embeddings are stored."""
        return set()

    @cached_property
    def _failures(self) -> dict[tuple[str, str], str]:
        """What a view raised on a cell; it is not asked again."""
        return {}

    def _embeds(self, view: Attacker, cell: Cell, outputs: Outputs | None = None) -> bool:
        """Whether an attacker can embed a cell's images. One that fails loses its own figures, and nobody else's."""
        place = (view.fingerprint(), cell.name)
        if place in self._present or place in self._failures:
            return place in self._present
        try:
            self.lab.embed(view, outputs or self.lab.outputs(cell))
        except Exception as error:
            if stops(error) or isinstance(error, MemoryError | torch.OutOfMemoryError):
                raise
            log.error("attacker '%s' fails on %s\n%s", view.name, cell.name, traceback.format_exc())
            self._failures[place] = one_line(error)
            return False
        self._present.add(place)
        return True

    def lost(self, condition: Condition) -> dict[str, str]:
        """Attackers that have no figures for a computed condition, as they failed on its images, with what they raised."""
        found = {}
        for cell in condition.cells:
            for name, views in self._views.items():
                for view, fingerprint in zip(
                    views, self._fingerprints[name], strict=False
                ):  # a plugin's version follows
                    place = (fingerprint, cell.name)
                    if place in self._present:
                        continue
                    if self.lab.has_embedding(view, self.lab.image_key(cell)):
                        self._present.add(place)
                    else:
                        found[name] = self._failures.get(place, f"it failed on {cell.name}")
        return found

    def is_computed(self, cell: Cell) -> bool:
        """Whether `compute` would find all that it looks for."""
        lab = self.lab
        key = lab.image_key(cell)
        return (
            lab.is_cached(cell, key)
            and lab.has_utility(key)
            and all(lab.has_embedding(view, key) for view in self.views)
        )

    def scored(self, cell: Cell, linked: bool = True) -> Scored:
        """A finished cell as the plain attackers and the utility metrics see it."""
        outputs = self.lab.outputs(cell)
        linkage = {}
        for name, linker in self.linkers.items() if linked else ():
            if self._embeds(linker.attacker, cell, outputs):
                linkage[name] = linker.link(cell, self.lab.embed(linker.attacker, outputs)[0])
        change = photo_change(outputs.extras.get(PROTECTED), self.lab.references(cell.subject))
        return Scored(cell, linkage, self.lab.utility(cell.subject, outputs), change)

    # ---- a condition ------------------------------------------------------------------------------------------------

    def group(self, condition: Condition, linked: bool = True) -> Group:
        """A condition as every attacker sees it. `linked`: False for its utility alone."""
        cells: dict[str, list[Scored]] = {}
        for cell in condition.cells:
            cells.setdefault(cell.subject.name, []).append(self.scored(cell, linked))
        group = Group(condition.defense.name, condition.strength, condition.white_box, cells, condition.missing)
        lost = self.lost(condition) if linked else {}
        for linker in self.adaptive.values() if linked else ():
            if linker.name not in lost:
                self._attack_adaptively(linker, group)
        return group

    @cached_property
    def groups(self) -> dict[str, Group]:
        """All conditions by label."""
        return {condition.label: self.group(condition) for condition in self.conditions}

    def tables(self, condition: Condition) -> Path:
        """Folder with the condition's rows of each of TABLES."""

        def compute(out: Path) -> None:
            group = self._anchor_groups[condition.label] if condition.defense.anchor else self.group(condition)
            anchors = {c.defense.name: self.group(c, linked=False) for c in self._anchors if c.cells}
            rows = summarize_group(group, self.attackers, self.able, anchors, self._real)
            write_table(out / table_file("summary"), make_table("summary", rows))
            parts = [self._rows(scored, group) for several in group.cells.values() for scored in several]
            for name in ("cells", "images", "probes"):
                write_table(out / table_file(name), make_table(name, [row for part in parts for row in part[name]]))

        if self.lost(condition):  # once more here: they may have failed in another process
            for cell in condition.cells:
                for view in self.views:
                    self._embeds(view, cell)
        return self.lab.store.fetch("score", self._key(condition, self.lost(condition), self.able), compute)

    def is_scored(self, condition: Condition) -> bool:
        """Of a condition whose cells are computed."""
        return self.lab.store.has("score", self._key(condition, self.lost(condition), self.able))

    def is_scored_in_full(self, condition: Condition) -> bool:
        """Whether it has been scored with every attacker; its cells need not be looked at."""
        store, able, key = self.lab.store, list(self.attackers), self._able_key(self.attackers)
        if any(self._anchor_keys.values()):
            if not store.has("able", key):
                return False
            able = _read_able(store.path("able", key))
        return store.has("score", self._key(condition, {}, able))

    def calibration(self) -> Path:
        """Folder with the plain attackers' thresholds."""
        attackers = {name: prints for name, prints in self._fingerprints.items() if parse(name) is None}
        key = {"gallery": self.lab.data.gallery, "attackers": attackers, "code": {**CODE, "embed": STAGES["embed"]}}

        def compute(out: Path) -> None:
            rows = [row for name, linker in self.linkers.items() for row in calibration_rows(name, linker)]
            write_table(out / table_file("calibration"), make_table("calibration", rows))

        return self.lab.store.fetch("calibration", key, compute)

    def premise(self) -> Path:
        """Folder with what is doubtful about the photos and the systems (results/findings.py), found before any training."""

        def compute(out: Path) -> None:
            found = all_findings(self.lab, self.subjects, self.systems)
            write_table(out / table_file("premise"), make_table("premise", [finding.row for finding in found]))

        return self.lab.store.fetch("premise", self._premise_key, compute)

    def has_premise(self) -> bool:
        return self.lab.store.has("premise", self._premise_key)

    def premise_digest(self) -> str:
        return digest(self._premise_key)

    @cached_property
    def _premise_key(self) -> dict[str, Any]:
        systems = self._attackers.systems
        return {
            "data": self.lab.data.fingerprint,
            "skipped": [[skipped.name, skipped.reason] for skipped in self.lab.data.skipped],
            "subjects": [subject.name for subject in self.subjects],
            "attackers": {name: [a.fingerprint(), list(a.trained_on_datasets)] for name, a in systems.items()},
            "base": [self.lab.base.name, self.lab.base.recipe.model_dump(mode="json")["trained_on"]],
            "detector": self.lab.detector.fingerprint(),
            "code": [PREMISE_CODE, STAGES["embed"]],
        }

    def _key(self, condition: Condition, lost: Mapping[str, str], able: Sequence[str]) -> dict[str, Any]:
        key = {
            "condition": [condition.defense.name, None if condition.defense.anchor else condition.strength],
            "cells": [self._cell_key(cell) for cell in condition.cells],
            "anchors": self._anchor_keys,
            "subjects": [[s.label, *(photo.digest for photo in s.references)] for s in self.subjects],
            "missing": condition.missing,
            "white_box": condition.white_box,
            "able": able,
            "attackers": {name: prints for name, prints in self._fingerprints.items() if name not in lost},
            "many_seeds": self._many_seeds,
            "dataset": self.lab.data.name,
            "gallery": self.lab.data.gallery,
            "base": [self.lab.base.name, self.lab.base.fingerprint],
            "detector": self.lab.detector.fingerprint(),
            "code": {**CODE, **STAGES},
            "versions": self.lab.versions,
        }
        return key

    def cell_digest(self, cell: Cell) -> str:
        """Identifies the cell's images."""
        if cell.name not in self._digests:
            self._digests[cell.name] = digest(self.lab.image_key(cell))
        return self._digests[cell.name]

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {}

    def _cell_key(self, cell: Cell) -> list[Any]:
        return [cell.subject.name, cell.seed, self.cell_digest(cell)]

    @cached_property
    def _fingerprints(self) -> dict[str, list[str]]:
        """What each attacker's scores depend on besides the photos and the images, by name."""
        prints = {name: [view.fingerprint() for view in views] for name, views in self._views.items()}
        keys = {name: self._attackers.keys(name) for name in prints}
        return {name: [*found, *([digest(keys[name])] if keys[name] else [])] for name, found in prints.items()}

    @cached_property
    def _anchor_keys(self) -> dict[str, list[list[Any]]]:
        return {c.defense.name: [self._cell_key(cell) for cell in c.cells] for c in self._anchors}

    @cached_property
    def _anchors(self) -> list[Condition]:
        return [condition for condition in self.conditions if condition.defense.anchor]

    @cached_property
    def able(self) -> list[str]:
        """The attackers that link the undefended model, which make the worst cases; all where that was not run.

        One that fails on some condition is left out everywhere: the worst case there would look kinder than elsewhere.
        """
        lost = {name for condition in self.conditions for name in self.lost(condition)}
        names = [name for name in self.attackers if name not in lost] or list(self.attackers)

        def compute(out: Path) -> None:
            found = able_attackers(self._anchor_groups.values(), names)
            (out / ABLE).write_text(json.dumps(found), encoding="utf-8")

        if not any(self._anchor_keys.values()):
            return names
        return _read_able(self.lab.store.fetch("able", self._able_key(names), compute))

    def _able_key(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "anchors": self._anchor_keys,
            "attackers": {name: self._fingerprints[name] for name in names},
            "gallery": self.lab.data.gallery,
            "base": [self.lab.base.name, self.lab.base.fingerprint],
            "code": {**CODE, "embed": STAGES["embed"]},
        }

    @cached_property
    def _anchor_groups(self) -> dict[str, Group]:
        """The undefended and the un-personalized condition as every attacker sees them."""
        return {condition.label: self.group(condition) for condition in self._anchors}

    @cached_property
    def _many_seeds(self) -> bool:
        return len({cell.seed for condition in self.conditions for cell in condition.cells}) > 1

    @cached_property
    def _real(self) -> np.ndarray:
        return np.concatenate([self.lab.reference_features(subject) for subject in self.subjects])

    def _attack_adaptively(self, linker: AdaptiveLinker, group: Group) -> None:
        """Add what an adaptive attacker sees, once all of a condition's cells are there.

        Where too few of them finished to learn on, it has no figures there, and the log says so.
        """
        by_seed: dict[int, list[Scored]] = {}
        for several in group.cells.values():
            for one in several:
                by_seed.setdefault(one.cell.seed, []).append(one)
        try:
            found = [(one, seen) for part in by_seed.values() for one, seen in self._attack(linker, part)]
        except UserError as error:
            log.error("%s has no figures for %s: %s", linker.name, group.label, error)
            return
        for one, seen in found:
            one.linkage[linker.name] = seen

    @staticmethod
    def _attack(linker: AdaptiveLinker, part: Sequence[Scored]) -> Iterator[tuple[Scored, Linkage]]:
        return zip(part, linker.attack([one.cell for one in part]), strict=True)

    # ---- rows -------------------------------------------------------------------------------------------------------

    def folder(self, cell: Cell) -> str:
        """Folder of the cell's condition among a run's images."""
        return label(cell.defense.name, cell.strength, cell.seed if self._many_seeds else None)

    def _rows(self, scored: Scored, group: Group) -> dict[str, list[dict[str, Any]]]:
        """Rows of the tables of cells, images and probes for one cell."""
        cell, lab = scored.cell, self.lab
        outputs = lab.outputs(cell)
        identity = cell_identity(cell, lab)
        own = {key: identity[key] for key in ("cell", "subject", "defense", "strength", "seed")}
        images: list[dict[str, Any]] = []
        probes: list[dict[str, Any]] = []
        for i, prompt in enumerate(outputs.prompts):
            path = Path("images", self.folder(cell), cell.subject.name, f"{i:02d}.png")
            image = {**own, "prompt": prompt, "index": i % lab.per_prompt, "image": path.as_posix()}
            images.append({**image, **{name: getattr(scored.utility, name)[i] for name in QUALITY}})
            probes += [{**image, **probe_row(name, group, seen, i)} for name, seen in scored.linkage.items()]
        change = {name: float(v.max() if name == "photo_linf" else v.mean()) for name, v in scored.change.items()}
        costs = cost_columns(outputs, [lab.embed(v, outputs)[1] for v in self.views if self._embeds(v, cell, outputs)])
        row = {**identity, "status": "ok", "error": "", "cached": True, **costs, **change}
        return {"cells": [row], "images": images, "probes": probes}


def _read_able(folder: Path) -> list[str]:
    return json.loads((folder / ABLE).read_text(encoding="utf-8"))


def cell_identity(cell: Cell, lab: CellStages) -> dict[str, Any]:
    return {
        "cell": digest(lab.image_key(cell))[:16],
        "dataset": lab.data.name,
        "subject": cell.subject.name,
        "base": lab.base.name,
        "defense": cell.defense.name,
        "strength": cell.strength,
        "seed": cell.seed,
    }


def cost_columns(outputs: Outputs, embed: Sequence[Cost]) -> dict[str, float]:
    """Seconds by stage and in all, and the largest peak of memory, in MB."""
    seconds = {stage: cost.seconds for stage, cost in outputs.costs.items()}
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


def read_rows(folder: Path, name: str) -> pd.DataFrame:
    """One table of a folder that `Scoring.tables` or `Scoring.calibration` gave."""
    return pd.read_parquet(folder / table_file(name))
