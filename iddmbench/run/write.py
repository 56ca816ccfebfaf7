"""Writing a run folder (iddmbench.results.run_folder says what is in it)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from iddmbench.errors import UserError
from iddmbench.paths import check_utf8
from iddmbench.photos.left_out import listing
from iddmbench.results.findings import Finding, from_rows
from iddmbench.results.run_folder import (
    CONFIG,
    ENVIRONMENT,
    FAILURES,
    LEFT_OUT,
    PROMPTS,
    PUBLISHED,
    SCHEMA,
    make_table,
    read_rows,
    table_file,
)
from iddmbench.run.environment import environment
from iddmbench.run.outcome import CellResult, Measured
from iddmbench.run.plan import RunPlan
from iddmbench.store.files import copy_images, replacing, write_table, write_text
from iddmbench.types import Skipped

WAYS_OUT = "give another --out, or remove that folder"
TOLD = {"iddmbench", "notes", "people", "offered"}
"""Parts of a configuration that change no figure by themselves."""


@contextmanager
def begin(study: RunPlan, out: Path) -> Iterator[None]:
    """Claim `out` for the run and write its configuration.

    Raises UserError if `out` holds another run, or another process is writing it.
    """
    with opened(out, study.resolved()):
        yield


@contextmanager
def opened(out: Path, config: dict[str, Any]) -> Iterator[None]:
    """`begin` for anything but a RunPlan: `config` is written as is."""
    check_folder(out, config)
    with claimed(out):
        check_folder(out, config)
        write_json(out / CONFIG, config)
        write_json(out / ENVIRONMENT, environment())
        _write_left_out(out, [Skipped(one["name"], one["reason"]) for one in config.get("skipped", [])])
        yield


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a folder (created if needed) against other processes. Raises UserError if another process holds it."""
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
    """Raises UserError when `out` holds another run than `config` (as `RunPlan.resolved` gives it), or is not a folder."""
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
    check_utf8(out, "give another --out")
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


def write_premise(out: Path, premise: Path) -> list[Finding]:
    """Keep in `out` what is doubtful about the photos; premise: the folder that `Scoring.premise` gives."""
    table = read_rows(premise, "premise")
    write_table(out / table_file("premise"), table)
    return from_rows(table.to_dict("records"))


def write_run(out: Path, run: Measured) -> None:
    """Write the run folder: images, tables, and what failed."""
    _write_failures(out, [outcome for outcome in run.cells if not outcome.ok], run.lost)
    for place, source in run.pictures.items():
        copy_images(source, out.joinpath(*place))
    write_table(out / table_file("cells"), _cells(run))
    write_table(out / table_file("calibration"), read_rows(run.calibration, "calibration"))
    for name, rows in ((PUBLISHED, run.published), (PROMPTS, run.prompts)):
        if rows:
            write_table(out / table_file(name), make_table(name, rows))
    # The summary last: its presence says that the run is finished.
    for name in ("probes", "images", "demographics", "summary"):
        _join(out / table_file(name), [folder / table_file(name) for folder in run.tables], name)


def _cells(run: Measured) -> pd.DataFrame:
    """The table of cells: those that were scored, and the failed ones, in the run's order."""
    rows: list[Any] = [row for folder in run.tables for row in read_rows(folder, "cells").to_dict("records")]
    known = {row["cell"]: row for row in rows}
    table: list[dict[str, Any]] = []
    for outcome, identity in zip(run.cells, run.identities, strict=True):
        if outcome.ok:
            table.append({**known[identity["cell"]], "cached": outcome.cached})
        else:
            table.append({**identity, "status": "failed", "error": outcome.error, "cached": False})
    return make_table("cells", table)


def _join(path: Path, parts: Sequence[Path], name: str) -> None:
    """Write the parts' rows one after another, one part at a time in memory."""
    empty = pa.Table.from_pandas(make_table(name, []), preserve_index=False)
    tables = [pq.read_schema(part) for part in parts[:1]] or [empty.schema]
    with replacing(path) as whole, pq.ParquetWriter(whole, tables[0]) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))


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


def _write_left_out(out: Path, skipped: Sequence[Skipped]) -> None:
    if skipped:
        write_text(out / LEFT_OUT, listing(skipped))
    else:
        (out / LEFT_OUT).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
