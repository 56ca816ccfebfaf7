"""Writing a run folder (iddmbench.results.run_folder says what is in it)."""

import json
import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from iddmbench.cells.stages import Cell
from iddmbench.errors import UserError, one_line
from iddmbench.linking.score import Scoring, cell_identity, read_rows
from iddmbench.results.findings import Finding, from_rows
from iddmbench.results.run_folder import (
    CONFIG,
    ENVIRONMENT,
    EXTRAS,
    FAILURES,
    IMAGES,
    REFERENCES,
    SCHEMA,
    make_table,
    table_file,
)
from iddmbench.run.environment import environment
from iddmbench.run.plan import RunPlan
from iddmbench.store.cache import stops
from iddmbench.store.files import copy_images, write_table, write_text

WAYS_OUT = "give another --out, or remove that folder"
TOLD = {"iddmbench", "notes"}
"""ResourceCache of a configuration that change no figure by themselves."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellResult:
    """What became of a cell. cached: its images were there before. error: one line, empty if it finished. seconds: just now."""

    cell: Cell
    cached: bool
    error: str = ""
    traceback: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.error


@contextmanager
def begin(study: RunPlan, out: Path) -> Iterator[None]:
    """Claim `out` for the study and write what it is asked to do.

    Raises UserError when `out` holds another run, or another process is writing it.
    """
    with opened(out, study.resolved()):
        yield


@contextmanager
def opened(out: Path, config: dict[str, Any]) -> Iterator[None]:
    """`begin` for what is no study: `config` is written as it is."""
    check_folder(out, config)
    with claimed(out):
        check_folder(out, config)
        write_json(out / CONFIG, config)
        write_json(out / ENVIRONMENT, environment())
        yield


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder (made if need be) against other processes. Raises UserError when one has it already."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"another process is writing {folder}: wait for it (`iddmbench status {folder}`), or give another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_claimed(folder: Path) -> bool:
    """Whether a process is writing the folder."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def check_folder(out: Path, config: dict[str, Any]) -> None:
    """Raises UserError when `out` holds another run than `config` (as `RunPlan.resolved` gives it), or is no folder."""
    found = written(out, CONFIG)
    if found is None:
        return
    if (schema := found.get("schema")) != SCHEMA:
        raise UserError(f"run folder {out} has schema version {schema}, this one writes {SCHEMA}: {WAYS_OUT}")
    wanted = json.loads(json.dumps(config))
    changed = [key for key in (wanted.keys() | found.keys()) - TOLD if wanted.get(key) != found.get(key)]
    if changed:
        raise UserError(f"run folder {out} holds another run ({', '.join(sorted(changed))} differ): {WAYS_OUT}")


def written(out: Path, file: str) -> dict[str, Any] | None:
    """What an earlier call wrote about itself into `out`; None where there is nothing. Raises UserError for what is damaged."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is not a folder: give another --out")
    if not (out / file).is_file():
        return None
    try:
        found = json.loads((out / file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{out / file} is damaged: {WAYS_OUT}")
    return found


def write_premise(out: Path, scoring: Scoring) -> list[Finding]:
    """Look at the photos before anything is trained, and keep what is doubtful in `out`."""
    table = read_rows(scoring.premise(), "premise")
    write_table(out / table_file("premise"), table)
    return from_rows(table.to_dict("records"))


def write_run(
    out: Path, scoring: Scoring, outcomes: Sequence[CellResult], given_up: Mapping[str, tuple[str, str]] | None = None
) -> tuple[Scoring, list[CellResult]]:
    """Score what finished, condition by condition, and write the run folder.

    A condition that can't be scored fails with all its cells, and the others go on. One condition at a time is in memory.

    Args:
        given_up: error and traceback of conditions, by label, that were tried and can't be scored.

    Returns the scoring of the finished cells, and what became of all cells.
    """
    done = scoring.only([outcome.cell for outcome in outcomes if outcome.ok])
    scored: list[Path] = []
    failed: dict[str, CellResult] = {}
    for condition in done.conditions:
        reason = (given_up or {}).get(condition.label)
        if reason is None:
            try:
                scored.append(done.tables(condition))
                continue
            except Exception as error:
                if stops(error):
                    raise
                log.error("%s can't be scored\n%s", condition.label, traceback.format_exc())
                reason = one_line(error), traceback.format_exc()
        failed |= {cell.name: CellResult(cell, False, f"scoring: {reason[0]}", reason[1]) for cell in condition.cells}
    outcomes = [failed.get(outcome.cell.name, outcome) for outcome in outcomes]
    lost = {condition.label: done.lost(condition) for condition in done.conditions if condition.cells}
    _write_failures(out, [outcome for outcome in outcomes if not outcome.ok], lost)
    for outcome in outcomes:
        if outcome.ok:
            _copy_pictures(out, done, outcome.cell)
    for subject in done.subjects:
        copy_images(done.lab.references_folder(subject), out / REFERENCES / subject.name)
    write_table(out / table_file("cells"), _cells(scored, outcomes, done))
    write_table(out / table_file("calibration"), read_rows(done.calibration(), "calibration"))
    for name in (
        "probes",
        "images",
        "demographics",
        "summary",
    ):  # the summary last: its presence says that the run is finished
        _join(out / table_file(name), [folder / table_file(name) for folder in scored], name)
    return done, outcomes


def _cells(scored: Sequence[Path], outcomes: Sequence[CellResult], scoring: Scoring) -> pd.DataFrame:
    """The table of cells: those that were scored, and the failed ones, in the run's order."""
    rows: list[Any] = [row for folder in scored for row in read_rows(folder, "cells").to_dict("records")]
    known = {row["cell"]: row for row in rows}
    table: list[dict[str, Any]] = []
    for outcome in outcomes:
        identity = cell_identity(outcome.cell, scoring.lab)
        if outcome.ok:
            table.append({**known[identity["cell"]], "cached": outcome.cached})
        else:
            table.append({**identity, "status": "failed", "error": outcome.error, "cached": False})
    return make_table("cells", table)


def _join(path: Path, parts: Sequence[Path], name: str) -> None:
    """Write the parts' rows one after another, one part at a time in memory."""
    part_path = path.with_name(path.name + ".part")
    empty = pa.Table.from_pandas(make_table(name, []), preserve_index=False)
    tables = [pq.read_schema(part) for part in parts[:1]] or [empty.schema]
    with pq.ParquetWriter(part_path, tables[0]) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))
    part_path.replace(path)


def _copy_pictures(out: Path, scoring: Scoring, cell: Cell) -> None:
    folder = scoring.folder(cell)
    for title, source in scoring.lab.pictures(cell).items():
        target = (EXTRAS, folder, cell.subject.name, title) if title else (IMAGES, folder, cell.subject.name)
        copy_images(source, out.joinpath(*target))


def _write_failures(out: Path, failed: Sequence[CellResult], lost: Mapping[str, Mapping[str, str]]) -> None:
    """Cells that failed, and attackers that have no figures for a condition."""
    path = out / FAILURES
    parts = [f"== {o.cell.name}\n{o.error}\n\n{o.traceback}" for o in failed]
    for condition, attackers in lost.items():
        parts += [
            f"== attacker '{name}' has no figures for {condition}\n{error}\n" for name, error in attackers.items()
        ]
    if parts:
        write_text(path, "\n".join(parts))
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
