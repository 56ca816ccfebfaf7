"""The main path: plan the cells, compute each, let every attacker look at it, and write the run folder."""

import errno
import json
import logging
import shutil
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iddmbench import __version__
from iddmbench.adaptive import FEWEST_SUBJECTS, parse
from iddmbench.dataset import DATASETS
from iddmbench.errors import UserError, did_you_mean
from iddmbench.metrics.quality import psnr, ssim
from iddmbench.models.base import load_base
from iddmbench.run.adaptive import AdaptiveLinker, build_linkers
from iddmbench.run.aggregate import Group, Scored, summarize, threat_of
from iddmbench.run.config import RunConfig
from iddmbench.run.environment import environment
from iddmbench.run.files import write_images, write_table, write_text
from iddmbench.run.folder import IMAGE_COLUMNS, SCHEMA, make_table, table_file
from iddmbench.run.lab import PROTECTED, Cell, Lab, Outputs, Thief
from iddmbench.run.linkage import FARS, Linkage, Linker
from iddmbench.run.store import Store, digest
from iddmbench.types import FaceData, Subject

PROTOCOL = "1"
"""Raised when the protocol changes what figures mean (docs/protocol.md); results of two protocols are never compared."""

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a caller may watch. `start(cells)`, then `cell(name, cached)` and `share(x)` for each, in [0, 1]."""

    start: Callable[[int], None] = lambda cells: None
    cell: Callable[[str, bool], None] = lambda name, cached: None
    share: Callable[[float], None] = lambda share: None


@dataclass
class Records:
    """What a run has gathered so far: its attackers, the rows of its tables, and the finished cells by defense."""

    linkers: dict[str, Linker] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)


def run(config: RunConfig, out: Path, cache: Path, device: str = "cpu", progress: Progress | None = None) -> int:
    """Do what `config` asks and fill `out`; returns the number of failed cells.

    A cell that raises is recorded as failed, with its traceback in the log, and the others go on; a full disk stops the run.
    Everything computed is in `cache`, so the same call resumes and recomputes nothing.
    Raises UserError before anything is computed when the configuration or the data are wrong.
    """
    progress = progress or Progress()
    config.check()
    data = DATASETS.get(config.dataset)(**config.dataset_options).load()
    subjects = choose(data, config.subjects)
    base = load_base(config.base, device)
    lora, sampling = config.lora_settings(base.recipe), config.sampling_settings(base.recipe)
    thief = Thief.of(config.threat, config.purify)
    lab = Lab(base, data, Store(cache), lora, sampling, config.prompts, config.images_per_prompt, thief)
    defenses = config.plan()
    learning = [name for name in config.attackers if parse(name)]
    if learning and len(subjects) < FEWEST_SUBJECTS:
        raise UserError(f"attacker '{learning[0]}' learns on other people: give at least {FEWEST_SUBJECTS} --subjects")
    written = resolved(config, lab, [s.name for s in subjects])
    check_folder(out, written)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", written)
    write_json(out / "environment.json", environment())
    cells = [Cell(s, d, seed) for seed in config.seeds for d in defenses for s in subjects]
    records = measure(cells, lab, config.attackers, out, progress)
    return sum(row["status"] == "failed" for row in records.cells)


def measure(cells: list[Cell], lab: Lab, attackers: Sequence[str], out: Path, progress: Progress) -> Records:
    """Every cell's images, seen by every attacker, written to `out` with all tables."""
    linkers, adaptive = build_linkers(attackers, lab)
    subjects = list({cell.subject.name: cell.subject for cell in cells}.values())
    many_seeds = len({cell.seed for cell in cells}) > 1
    records = Records(linkers=linkers)
    progress.start(len(cells))
    for cell in cells:
        group = _group(records, cell)
        name = f"{cell.label} {cell.subject.name}"
        progress.cell(name, lab.is_cached(cell))
        try:
            run_cell(cell, lab, linkers, out, records, group, progress.share, many_seeds)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS):
                raise
            log.error("cell %s failed\n%s", name, traceback.format_exc())
            records.groups[cell.label] = _with_missing(group)
            message = str(error).strip().splitlines() or [type(error).__name__]
            failure = {"status": "failed", "error": f"{type(error).__name__}: {message[0]}", "cached": False}
            records.cells.append({**_identity(cell, lab), **failure})
    for linker in adaptive.values():
        attack_adaptively(linker, records)
    _write_people(out, lab, subjects)
    _write_tables(out, records, linkers, list(adaptive), lab, subjects)
    return records


def run_cell(
    cell: Cell,
    lab: Lab,
    linkers: dict[str, Linker],
    out: Path,
    records: Records,
    group: Group,
    tick: Callable[[float], None],
    many_seeds: bool,
) -> None:
    """One cell: its images, every attacker's view of them, their quality; appended to `records` only when all is done."""
    cached = lab.is_cached(cell)
    outputs = lab.outputs(cell, tick)
    linkage, seconds = {}, 0.0
    for name, linker in linkers.items():
        embeddings, spent = lab.embed(linker.attacker, outputs)
        linkage[name], seconds = linker.link(cell, embeddings), seconds + spent
    utility = lab.utility(cell.subject, outputs)
    change = photo_change(outputs.extras.get(PROTECTED), lab.references(cell.subject))
    folder = cell.label + (f"-seed{cell.seed}" if many_seeds else "")
    paths = _write_cell_images(out, folder, cell, outputs)

    identity = _identity(cell, lab)
    own = {key: identity[key] for key in ("cell", "subject", "defense", "strength", "seed")}
    images, probes = [], []
    for i, prompt in enumerate(outputs.prompts):
        image = {**own, "prompt": prompt, "index": i % lab.per_prompt, "image": paths[i]}
        quality = {k: getattr(utility, k)[i] for k in ("detected", "ser_fiq", "brisque", "closeness", "adherence")}
        images.append({**image, **quality})
        for name, seen in linkage.items():
            probes.append({**image, **probe_row(name, group, seen, i)})
    records.images += images
    records.probes += probes
    stages = {f"seconds_{stage}": value for stage, value in outputs.seconds.items()}
    total = sum(outputs.seconds.values()) + seconds
    records.cells.append(
        {
            **identity,
            "status": "ok",
            "error": "",
            "seconds": total,
            "cached": cached,
            **stages,
            "seconds_embed": seconds,
            **{name: float(values.max() if name == "photo_linf" else values.mean()) for name, values in change.items()},
        }
    )
    group.cells.setdefault(cell.subject.name, []).append(Scored(cell, linkage, utility, change))


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


def attack_adaptively(linker: AdaptiveLinker, records: Records) -> None:
    """Let an adaptive attacker look at every condition, once all its cells are there, and add what it sees to `records`.

    Where too few of a condition's cells finished to learn on, it has no figures there, and the log says so.
    """
    images: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in records.images:
        images[row["cell"]].append({key: row[key] for key in IMAGE_COLUMNS})
    for group in records.groups.values():
        scored = [one for cells in group.cells.values() for one in cells]
        found: list[Linkage] = []
        try:
            by_seed = {seed: [one for one in scored if one.cell.seed == seed] for seed in {s.cell.seed for s in scored}}
            for part in by_seed.values():
                found += linker.attack([one.cell for one in part])
        except UserError as error:
            log.error("%s has no figures for %s: %s", linker.name, group.label, error)
            continue
        for one, seen in zip((one for part in by_seed.values() for one in part), found, strict=True):
            one.linkage[linker.name] = seen
            rows = images[digest(linker.lab.image_key(one.cell))[:16]]
            records.probes += [{**row, **probe_row(linker.name, group, seen, i)} for i, row in enumerate(rows)]


def choose(data: FaceData, wanted: tuple[str, ...] | int) -> list[Subject]:
    """The first `wanted` subjects (0: all), or those of the given names. Raises UserError for an unknown name."""
    if isinstance(wanted, int):
        if wanted < 0:
            raise UserError(f"subjects: {wanted} is negative; give a number, names, or 0 for all")
        return list(data.subjects[: wanted or None])
    known = {subject.name: subject for subject in data.subjects}
    for name in wanted:
        if name not in known:
            raise UserError(f"dataset '{data.name}' has no subject '{name}': {did_you_mean(name, known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def resolved(config: RunConfig, lab: Lab, subjects: list[str]) -> dict[str, Any]:
    """The configuration with every default filled in, as written to the run folder."""
    notes = [f"{d.name}: {d.title}" for d in {d.name: d for d in config.plan()}.values()]
    return {
        "schema": SCHEMA,
        "iddmbench": __version__,
        "protocol": protocol(lab),
        **config.model_dump(mode="json"),
        "subjects": subjects,
        "defense": ", ".join(config.defenses),
        "plan": [{"name": d.name, **d.model_dump(mode="json")} for d in config.plan()],
        "prompts": lab.prompts,
        "personalizer": "lora",
        "lora_settings": lab.lora.model_dump(mode="json"),
        "sampling_settings": lab.sampling.model_dump(),
        "data_fingerprint": lab.data.fingerprint,
        "base_fingerprint": lab.base.fingerprint,
        "skipped": [{"name": s.name, "reason": s.reason} for s in lab.data.skipped],
        "notes": notes,
    }


def protocol(lab: Lab) -> dict[str, str]:
    """Version and hash of what figures depend on whatever the defense: results of two hashes are never compared."""
    parts = {
        "version": PROTOCOL,
        "data": lab.data.fingerprint,
        "prompts": lab.prompts,
        "per_prompt": lab.per_prompt,
        "sampling": lab.sampling.model_dump(),
        "base": lab.base.fingerprint,
    }
    return {"version": PROTOCOL, "hash": digest(parts)}


def check_folder(out: Path, config: dict[str, Any]) -> None:
    """Raises UserError when `out` holds another run than `config` (as `resolved` gives it), or is no folder."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is not a folder: give another --out")
    path = out / "config.json"
    if not path.is_file():
        return
    ways_out = "give another --out, or remove that folder"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found.get("schema")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {ways_out}") from error
    if schema != SCHEMA:
        raise UserError(f"run folder {out} has schema version {schema}, this one writes {SCHEMA}: {ways_out}")
    wanted = json.loads(json.dumps(config))
    told = {"iddmbench", "notes"}  # what does not change a figure by itself
    changed = [key for key in (wanted.keys() | found.keys()) - told if wanted.get(key) != found.get(key)]
    if changed:
        raise UserError(f"run folder {out} holds another run ({', '.join(sorted(changed))} differ): {ways_out}")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def _group(records: Records, cell: Cell) -> Group:
    defense = cell.defense
    return records.groups.setdefault(cell.label, Group(defense.name, cell.strength, defense.surrogates(), {}, 0))


def _with_missing(group: Group) -> Group:
    return Group(group.defense, group.strength, group.white_box, group.cells, group.missing + 1)


def _identity(cell: Cell, lab: Lab) -> dict[str, Any]:
    return {
        "cell": digest(lab.image_key(cell))[:16],
        "dataset": lab.data.name,
        "subject": cell.subject.name,
        "base": lab.base.name,
        "defense": cell.defense.name,
        "strength": cell.strength,
        "seed": cell.seed,
    }


def _write_cell_images(out: Path, folder: str, cell: Cell, outputs: Outputs) -> list[str]:
    """Write the cell's images; returns their paths relative to the run folder."""
    target = out / "images" / folder / cell.subject.name
    _replace_images(target, outputs.images)
    for title, images in outputs.extras.items():
        _replace_images(out / "extras" / folder / cell.subject.name / title, images)
    return [str(Path("images", folder, cell.subject.name, f"{i:02d}.png")) for i in range(len(outputs.images))]


def _replace_images(folder: Path, images: np.ndarray) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    write_images(folder, images)


def _write_people(out: Path, lab: Lab, subjects: list[Subject]) -> None:
    for subject in subjects:
        _replace_images(out / "references" / subject.name, lab.references(subject))


def _write_tables(
    out: Path, records: Records, linkers: dict[str, Linker], adaptive: list[str], lab: Lab, subjects: list[Subject]
) -> None:
    for name, rows in (("cells", records.cells), ("probes", records.probes), ("images", records.images)):
        write_table(out / table_file(name), make_table(name, rows))
    write_table(out / "calibration.parquet", _calibration(linkers))
    real = lab.features(np.concatenate([lab.references(s) for s in subjects]))
    # Last: its presence says that the run is finished.
    write_table(out / "summary.parquet", summarize(list(records.groups.values()), [*linkers, *adaptive], real))


def _calibration(linkers: dict[str, Linker]) -> pd.DataFrame:
    rows = []
    for name, linker in linkers.items():
        attacker = linker.attacker
        for far, threshold in linker.thresholds.items():
            rows.append(
                {
                    "attacker": name,
                    "title": attacker.title,
                    "far": float(far),
                    "threshold": threshold.value,
                    "achieved_far": threshold.achieved,
                    "impostor_pairs": len(linker.impostors),
                    "licence": attacker.licence,
                    "source": attacker.source,
                    "fingerprint": attacker.fingerprint(),
                }
            )
    return pd.DataFrame(rows)
