"""Verify a bundle: look at its images with attackers that its submitter did not choose, and recompute every figure.

The main path, `verify`: open -> the verifier's own photos, base and anchors -> are the images authentic -> embed, score,
aggregate by the code of `iddmbench run` -> compare with the claims -> train some cells again -> standings.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iddmbench import __version__
from iddmbench.adaptive import FEWEST_SUBJECTS, parse, roots
from iddmbench.attacker import ATTACKERS, build_attacker
from iddmbench.cells.cell import Cell
from iddmbench.cells.given import GivenStages
from iddmbench.cells.stages import CellStages
from iddmbench.defense import DEFENSES
from iddmbench.errors import UserError
from iddmbench.linking.aggregate import Group
from iddmbench.linking.linker import Linker
from iddmbench.linking.ranking import Standing, standings, why_unranked
from iddmbench.results.findings import WARNING, lines, read_findings
from iddmbench.results.metric_info import INDEX_VERSION
from iddmbench.results.run_folder import SCHEMA, UNION, WORST_CASE, WORST_CASE_TRANSFER, WORST_CASES, RunFolder
from iddmbench.run.config import ATTACKERS as USUAL
from iddmbench.run.config import LORA
from iddmbench.run.environment import environment
from iddmbench.run.pipeline import Progress, measure
from iddmbench.run.plan import protocol
from iddmbench.run.write import write_json
from iddmbench.store.cache import Store
from iddmbench.submission import authenticity, repeats
from iddmbench.submission.adapters import check_adapters
from iddmbench.submission.anchors import anchor_notes, covers, find_anchors, track_of
from iddmbench.submission.authenticity import LEAST_DEPENDENCE, Dependence, Known, Posted, title
from iddmbench.submission.compare import ClaimDifference, differences
from iddmbench.submission.declared import check_options, false_surrogates
from iddmbench.submission.names import own_names, public_name
from iddmbench.submission.read import Bundle, open_bundle
from iddmbench.submission.retrain import Retrained, pick, retrain, score_unit
from iddmbench.submission.schema import CellFacts, Submission
from iddmbench.submission.stages import load_parts, posted_by, stated_defense, white_box_of
from iddmbench.types import FaceData

GRID = (0.5, 1.0)
"""Strengths that count for the hypervolume, beside 0: it grows with the number of strengths, so all are ranked on the same."""
LEAST_SUBJECTS = 4
"""Intervals of fewer say nothing about other people."""
CREDITED = 0.2
"""Utility index above which images that do not depend on the subject are an attack on the index, not a weak method."""


@dataclass(frozen=True)
class VerifyOptions:
    """What the verifier chooses.

    Attributes:
        attackers: plain and adaptive ones; none: every plain one that can run here.
        anchors: folder of trusted anchor bundles.
        retrain: cells to train again; seed: draws them.
        cache: of embeddings (by content of the images); retraining uses a fresh one.
        base: see `load_parts`. dataset_options: of the verifier's own dataset.
        known: accepted submissions' images, by their names.
        grid: strengths that count.
    """

    cache: Path
    attackers: tuple[str, ...] = ()
    anchors: Path | None = None
    retrain: int = 0
    seed: int = 0
    device: str = "cpu"
    base: str | None = None
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, Known] = field(default_factory=dict)
    grid: tuple[float, ...] = GRID


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        run: run folder of the recomputed figures.
        refused: why the bundle can't be accepted; differences: claims that the figures contradict; notes: what readers should
            know.
        standings: empty when unranked; unranked: why.
        hashes: "defense/strength" -> "subject/seed" -> bool [N, 256].
    """

    bundle: Bundle
    run: RunFolder
    track: str
    white_box: tuple[str, ...]
    stated: bool
    anchors: str
    attackers: tuple[str, ...]
    refused: tuple[str, ...]
    differences: tuple[ClaimDifference, ...]
    notes: tuple[str, ...]
    retrained: tuple[Retrained, ...]
    standings: tuple[Standing, ...]
    unranked: str
    posted: tuple[Posted, ...]
    dependence: Mapping[str, Dependence]

    @property
    def accepted(self) -> bool:
        return not self.refused and not self.differences and all(r.agrees for r in self.retrained)


def verify(path: Path, out: Path, options: VerifyOptions, progress: Progress | None = None) -> Verification:
    """Verify the bundle at `path`; the recomputed run folder is written to `out`.

    Raises UserError when the bundle is malformed, when its images are none, or when the verifier lacks its photos, base model
    or an attacker. What is wrong with a well-formed bundle is in the result.
    """
    progress = progress or Progress()
    check_attackers(options.attackers)
    bundle = open_bundle(path)
    meta = bundle.meta
    if not any(c.status == "ok" and c.defense == meta.defense for c in meta.cells):
        raise UserError(
            f"bundle {path.name} refused: every cell of '{meta.defense}' failed, so there is nothing to verify"
        )
    try:
        check_options(meta)
    except UserError as error:
        raise UserError(f"bundle {path.name} refused: {error}") from error
    data, base, personalizer, lora, sampling, trainer = load_parts(
        meta.run, dict(options.dataset_options), options.base, options.device
    )
    parts = (
        *(base, data, Store(options.cache), lora, sampling, meta.run.prompts, meta.run.images_per_prompt, trainer),
        personalizer,
    )
    subjects = {s.name: s for s in data.subjects}
    if unknown := [s for s in meta.run.subjects if s not in subjects]:
        raise UserError(f"bundle {path.name} refused: dataset '{data.name}' has no subject '{unknown[0]}'")
    trusted = find_anchors(options.anchors, meta)
    whole = trusted is not None and covers(trusted.meta, meta)
    sources = [trusted, bundle] if trusted is not None and whole else [bundle]
    posted = [Posted.of(c, bundle.images(c, base.side)) for c in meta.cells if c.status == "ok"]
    undefended = _undefended(trusted, bundle, base.side)

    stages = GivenStages(posted_by(sources, base.side), *parts)
    if (found := protocol(stages)) != meta.protocol.model_dump():
        raise UserError(
            f"bundle {path.name} refused: it states protocol {meta.protocol.version}/{meta.protocol.hash[:12]}, its own "
            f"settings make {found['version']}/{found['hash'][:12]} here"
        )
    attackers = choose_attackers(options.attackers, len(meta.run.subjects))
    stated = white_box_of(meta)
    white_box = stated + own_names(stated, attackers)
    cells = [Cell(subjects[c.subject], stated_defense(c, meta, white_box), c.seed) for c in all_cells(sources, meta)]
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: give another --out, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", _config(meta, stages, tuple(attackers), cells))
    write_json(out / "environment.json", environment())
    scoring, _ = measure(cells, stages, attackers, out, progress)
    linkers, groups = scoring.linkers, scoring.groups
    run = RunFolder.open(out)

    refused, notes = _images(bundle, posted, data, base.side, undefended, options)
    refused += check_adapters(bundle, base, personalizer, lora)
    units = {name: score_unit(linker) for name, linker in linkers.items()}
    false, unknown = false_surrogates(groups, white_box, units)
    refused, notes = refused + false + _unscored(meta, run.summary), notes + unknown
    depends = _dependence(groups, stages, cells)
    for one, text in _independent(groups, run.summary, depends):
        (refused if one else notes).append(text)
    prints = {name: linker.attacker.fingerprint() for name, linker in linkers.items()}
    names = {name: public_name(name, prints) for name in attackers}
    contradicted = differences(meta.claims, run.summary, _same_worst_cases(meta, list(names.values())), names)
    notes += lines([f for f in read_findings(out) if f.severity == WARNING])
    notes += (
        _attacker_notes(meta, {names[name]: linker for name, linker in linkers.items()}, list(names.values()))
        + _white_box_notes(meta.defense, white_box, run.summary)
        + anchor_notes(bundle, trusted if whole else None, base.side)
    )
    again: list[Retrained] = []
    if options.retrain:
        again = _retrain(bundle, options, parts, linkers, subjects, progress)
    ranked, unranked = _standings(meta, groups, attackers, options.grid, whole)
    return Verification(
        bundle=bundle,
        run=run,
        track=track_of(meta),
        white_box=stated,
        stated=meta.defense not in DEFENSES.names(),
        anchors=trusted.sha256 if trusted is not None and whole else "",
        attackers=tuple(attackers),
        refused=tuple(refused),
        differences=tuple(contradicted),
        notes=tuple(notes),
        retrained=tuple(again),
        standings=tuple(ranked),
        unranked=unranked,
        posted=tuple(posted),
        dependence=depends,
    )


def check_attackers(wanted: Sequence[str]) -> None:
    """Raises UserError for a named attacker that is unknown or can't run, before anything is read or computed."""
    for root in dict.fromkeys(root for name in wanted for root in roots(name)):
        if problem := build_attacker(root).available():
            raise UserError(f"attacker '{root}' can't run: {problem}")


def choose_attackers(wanted: Sequence[str], subjects: int) -> list[str]:
    """The named ones, plain or adaptive, which must run; by default all plain ones that can, and the plain ones of a run's
    default.

    Raises UserError when one can't, none can, or adaptive ones are alone or have too few `subjects` to learn on.
    """
    if not wanted:
        plain = dict.fromkeys([*ATTACKERS.names(), *(name for name in USUAL if not parse(name))])
        found = [name for name in plain if build_attacker(name).available() is None]
        if not found:
            raise UserError("no attacker can run here: see `iddmbench list attackers`")
        return found
    check_attackers(wanted)
    names = list(dict.fromkeys(wanted))
    learning = [name for name in names if parse(name)]
    if len(learning) == len(names):
        raise UserError(f"attacker '{names[0]}' is adaptive: also name a plain one, over which the worst case is taken")
    if learning and subjects < FEWEST_SUBJECTS:
        raise UserError(f"attacker '{learning[0]}' learns on other people: it needs {FEWEST_SUBJECTS} subjects")
    return names


def all_cells(sources: Sequence[Bundle], meta: Submission) -> list[CellFacts]:
    """The anchors of the first source that has them, for the submission's subjects and seeds, then the submission's cells."""
    wanted = set(meta.run.subjects), set(meta.run.seeds)
    anchors = [
        c for c in sources[0].meta.cells if c.strength is None and c.subject in wanted[0] and c.seed in wanted[1]
    ]
    return [*anchors, *(c for c in meta.cells if c.strength is not None)]


def _config(meta: Submission, stages: CellStages, attackers: tuple[str, ...], cells: Sequence[Cell]) -> dict[str, Any]:
    """config.json of the recomputed run, as `iddmbench report` reads it."""
    facts = meta.run.model_dump(mode="json")
    anchors = sorted({c.defense.name for c in cells if c.defense.anchor})
    return facts | {
        "schema": SCHEMA,
        "utility_index": INDEX_VERSION,
        "iddmbench": __version__,
        "protocol": protocol(stages),
        "dataset_options": {},
        "defenses": [meta.defense],
        "defense": meta.defense,
        "anchors": bool(anchors),
        "attackers": list(attackers),
        "skipped": [],
        "notes": [
            f"{meta.defense}: {meta.title}",
            "Recomputed by `iddmbench verify` from submitted images.",
        ],
    }


def _undefended(trusted: Bundle | None, bundle: Bundle, side: int) -> dict[tuple[str, int], np.ndarray]:
    """Images of the undefended model, uint8 [N, S, S, 3] by (subject, seed): trusted ones, else the submitter's own."""
    found: dict[tuple[str, int], np.ndarray] = {}
    wanted = {(c.subject, c.seed) for c in bundle.meta.cells}
    for source in (trusted, bundle):
        for c in source.meta.cells if source is not None else ():
            if c.defense == "none" and c.status == "ok" and (c.subject, c.seed) in wanted - set(found):
                found[c.subject, c.seed] = source.images(c, side)  # type: ignore[union-attr]
    return found


def _images(
    bundle: Bundle,
    posted: list[Posted],
    data: FaceData,
    side: int,
    undefended: Mapping[tuple[str, int], np.ndarray],
    options: VerifyOptions,
) -> tuple[list[str], list[str]]:
    """(why the images are refused, notes)."""
    meta = bundle.meta
    plain = {key: authenticity.hashes(images) for key, images in undefended.items()}
    refused = authenticity.copies_of_photos(posted, data, side)
    refused += authenticity.copies_between_subjects(posted)
    refused += repeats.undefended_images(posted, lambda cell: bundle.images(cell, side), undefended)
    refused += repeats.repeated_images(posted, plain)
    # A defense in another track has images in common with itself: some of the people, or another trainer's models.
    kin = {
        k: v
        for k, v in options.known.items()
        if v.defense == meta.defense and v.track != track_of(meta) and v.by(meta.authors)
    }
    others = {k: v for k, v in options.known.items() if k not in kin}
    refused += authenticity.copies_of_submissions(posted, plain, others)
    shared = authenticity.copies_of_submissions(posted, plain, kin)
    notes = [f"{text}, of the same defense and authors in another track" for text in shared]
    return refused, notes + authenticity.flat_images(posted)


def _unscored(meta: Submission, summary: pd.DataFrame) -> list[str]:
    """Conditions for which no attacker has a figure: nothing is known about them."""
    rows = summary[(summary["attacker"] != "") & summary["value"].notna()]
    scored = {
        (str(d), None if np.isnan(s) else float(s)) for d, s in zip(rows["defense"], rows["strength"], strict=True)
    }
    done = {(c.defense, c.strength) for c in meta.cells if c.status == "ok" and c.strength is not None}
    return [f"{title(*key)}: no attacker could judge its images" for key in sorted(done - scored)]


def _dependence(groups: Mapping[str, Group], stages: CellStages, cells: Sequence[Cell]) -> dict[str, Dependence]:
    names = {c.subject.name: c.subject for c in cells}
    features = {n: stages.utility.reference_features(s) for n, s in names.items()}
    unit = {n: f / np.linalg.norm(f, axis=1, keepdims=True) for n, f in features.items()}
    return {k: authenticity.dependence(g, unit) for k, g in groups.items() if len(g.cells) > 1}


def _independent(
    groups: Mapping[str, Group], summary: pd.DataFrame, depends: Mapping[str, Dependence]
) -> list[tuple[bool, str]]:
    """(refused?, text) of each condition whose images do not depend on the subject."""
    undefended = depends.get("none")
    if undefended is None or undefended.value <= 0:
        return []
    found = []
    for key, group in groups.items():
        if np.isnan(group.strength) or key not in depends or depends[key].p <= 0.05:
            continue
        share = depends[key].value / undefended.value
        if share < LEAST_DEPENDENCE:
            credited = _index(summary, group) > CREDITED
            name = title(group.defense, group.strength)
            found.append(
                (credited, f"{name}: the images do not depend on the subject ({share:.0%} of the undefended model's)")
            )
    return found


def _index(summary: pd.DataFrame, group: Group) -> float:
    rows = summary[(summary["metric"] == "utility_index") & (summary["defense"] == group.defense)]
    rows = rows[(rows["strength"] - group.strength).abs() < 1e-9]
    return float(rows["value"].fillna(0).max()) if len(rows) else 0.0


def _same_worst_cases(meta: Submission, attackers: Sequence[str]) -> set[str]:
    """The worst cases that are over the same attackers here and in the submitter's run."""
    plain = {name for name in attackers if parse(name) is None}
    if plain != set(meta.attackers):
        return set()
    same = set(attackers) == plain | _claimed(meta)
    return set(WORST_CASES) if same else {WORST_CASE, WORST_CASE_TRANSFER, UNION}


def _claimed(meta: Submission) -> set[str]:
    """Attackers with figures of the submitter."""
    return {claim.attacker for claim in meta.claims} - {"", *WORST_CASES}


def _attacker_notes(meta: Submission, linkers: Mapping[str, Linker], attackers: Sequence[str]) -> list[str]:
    notes = []
    for name, linker in linkers.items():
        if name in meta.attackers and meta.attackers[name] != linker.attacker.fingerprint():
            notes.append(f"attacker '{name}' has a different version here than in the submitter's run")
    theirs = set(meta.attackers) | _claimed(meta)
    if missing := sorted(theirs - set(attackers)):
        notes.append(f"not run here: {', '.join(missing)}")
    if added := sorted(set(attackers) - theirs):
        notes.append(f"chosen by the verifier: {', '.join(added)}")
    return notes


def _white_box_notes(defense: str, white_box: tuple[str, ...], summary: pd.DataFrame) -> list[str]:
    """An attacker that the defense optimized against should link less than others. One that links more may have been called
    white-box to keep it out of what is said of systems that the defense does not know."""
    rows = summary[(summary["metric"] == "r1u") & (summary["policy"] == "headline") & (summary["defense"] == defense)]
    worst = rows[rows["attacker"] == WORST_CASE_TRANSFER].set_index("strength")["value"]
    notes = []
    for name in white_box:
        own = rows[rows["attacker"] == name].set_index("strength")["value"]
        if (own < worst.reindex(own.index)).any():
            notes.append(f"'{name}' is white-box but links more images than any other attacker")
    return notes


def _retrain(
    bundle: Bundle, options: VerifyOptions, parts: tuple, linkers: dict[str, Linker], subjects: dict, progress: Progress
) -> list[Retrained]:
    picked = pick(bundle.meta.cells, options.retrain, options.seed)
    progress.start(len(picked))
    base, data, _, *rest = parts
    with tempfile.TemporaryDirectory() as folder:
        stages = CellStages(base, data, Store(Path(folder)), *rest)
        return retrain(bundle, picked, stages, subjects, linkers, lambda name: progress.cell(f"train {name}", False))


def _standings(
    meta: Submission,
    groups: Mapping[str, Group],
    attackers: Sequence[str],
    grid: tuple[float, ...],
    anchored: bool,
) -> tuple[list[Standing], str]:
    """(standings, why it is unranked)."""
    if meta.defense in ("none", "generic"):
        return [], "anchors are not ranked"
    try:
        found = standings(list(groups.values()), attackers, grid)
    except UserError as error:
        return [], str(error)
    reasons = []
    if not anchored:
        reasons.append("no trusted anchors")
    if len(meta.run.subjects) < LEAST_SUBJECTS:
        reasons.append(f"fewer than {LEAST_SUBJECTS} subjects")
    if meta.run.personalizer != LORA:
        reasons.append(f"personalizer '{meta.run.personalizer}', where '{LORA}' is ranked")
    elif meta.run.lora or meta.run.personalizer_options:
        reasons.append("its own LoRA settings")
    if few := why_unranked(list(groups.values()), attackers):
        reasons.append(few)
    return found, ", ".join(reasons)


def write_verification(found: Verification, path: Path) -> None:
    """The outcome as JSON, for machines."""
    content = {
        "bundle": found.bundle.path.name,
        "sha256": found.bundle.sha256,
        "name": found.bundle.meta.name,
        "accepted": found.accepted,
        "track": found.track,
        "attackers": [public_name(name, {}) for name in found.attackers],
        "refused": list(found.refused),
        "differences": [str(d) for d in found.differences],
        "notes": list(found.notes),
        "retrained": [{"agrees": r.agrees, "text": str(r)} for r in found.retrained],
        "unranked": found.unranked,
    }
    write_json(path, content)
