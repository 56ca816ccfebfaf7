"""Looking after a cache: what is in it, whether it is whole, what may go."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from iddmbench.paths import BASES
from iddmbench.store.cache import DAMAGED, LOCKS, RECORD, TMP, Store, problem_of

IN_USE = 3600.0
"""Seconds after its last use within which an entry stays: a run at work may be about to read it."""


@dataclass(frozen=True)
class Stage:
    """One stage's entries. stale: made by other versions than those here. last_used: a day, "" for none."""

    stage: str
    entries: int
    bytes: int
    stale: int
    last_used: str


@dataclass(frozen=True)
class Gone:
    entries: int
    leftovers: int
    bytes: int


@dataclass(frozen=True)
class CacheEntry:
    """stage: BASES for a base model made from one file."""

    path: Path
    bytes: int
    used: float
    stage: str


def entries(store: Store) -> Iterator[CacheEntry]:
    for path in sorted(store.root.glob(f"*/*/*/{RECORD}")):
        if path.parents[2].name != BASES:
            yield CacheEntry(path.parent, _size(path.parent), path.stat().st_mtime, path.parents[2].name)
    for folder in sorted((store.root / BASES).glob("[!.]*")):
        if folder.is_dir():
            yield CacheEntry(folder, _size(folder), folder.stat().st_mtime, BASES)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@dataclass(frozen=True)
class Current:
    """What entries are made by here: versions of packages by name, and code numbers by stage (`cells/versions.py`,
    `linking/score.py`)."""

    versions: Mapping[str, str]
    code: Mapping[str, int]


def overview(store: Store, current: Current) -> list[Stage]:
    """By stage, in alphabetical order."""
    found: dict[str, list[CacheEntry]] = {}
    for entry in entries(store):
        found.setdefault(entry.stage, []).append(entry)
    return [
        Stage(
            stage,
            len(own),
            sum(entry.bytes for entry in own),
            sum(_is_stale(entry, current) for entry in own),
            datetime.fromtimestamp(max(entry.used for entry in own)).strftime("%Y-%m-%d"),
        )
        for stage, own in sorted(found.items())
    ]


def leftovers(store: Store) -> list[Path]:
    """What killed processes left, parts of entries that nobody is computing; and damaged entries that were set aside."""
    parts = (store.root / TMP).glob("*")
    left = [path for path in parts if not store.is_computing(path.name.partition(".")[0])]
    bases = [path for path in sorted((store.root / BASES).glob(".*")) if path.is_dir()]
    left += [path for path in bases if time.time() - path.stat().st_mtime > IN_USE]
    return left + sorted((store.root / DAMAGED).glob("*"))


def check(store: Store) -> Iterator[tuple[Path, str | None]]:
    """Every stage's entries, and what is wrong with each: its name against its key, its files against their checksums."""
    for path in sorted(store.root.glob("*/*/*")):
        if path.parents[1].name not in (LOCKS, TMP, DAMAGED, BASES) and path.is_dir():
            yield path, problem_of(path)


def _is_stale(entry: CacheEntry, current: Current) -> bool:
    """A base model has no key here: the name of its folder has the version of the code that made it."""
    return entry.stage != BASES and is_stale(entry.path, current)


def is_stale(entry: Path, current: Current) -> bool:
    """Whether versions or code numbers in the entry's key differ from those here: it is not looked up any more."""
    try:
        key = json.loads((entry / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return any(found != current.versions for found in _all("versions", key)) or any(
        not isinstance(found, dict) or found != {stage: current.code.get(stage) for stage in found}
        for found in _all("code", key)
    )


def _all(name: str, value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from _all(name, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _all(name, inner)


def collect(
    store: Store,
    days: float | None = None,
    size: float | None = None,
    stale: Current | None = None,
    dry_run: bool = False,
) -> Gone:
    """Remove leftovers, and entries that were not used for `days`, that others than `stale` made, or the longest unused ones
    until all take no more than `size` bytes. Entries used within the last hour stay."""
    now = time.time()
    old = sorted((entry for entry in entries(store)), key=lambda entry: entry.used)
    total = sum(entry.bytes for entry in old)
    gone: list[CacheEntry] = []
    for entry in old:
        if now - entry.used < IN_USE:
            continue
        too_old = days is not None and now - entry.used > days * 86400
        too_much = size is not None and total > size
        if too_old or too_much or (stale and _is_stale(entry, stale)):
            gone.append(entry)
            total -= entry.bytes
    parts = leftovers(store)
    if not dry_run:
        for entry in gone:
            remove(store, entry.path)
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)
    return Gone(len(gone), len(parts), sum(entry.bytes for entry in gone))


def remove(store: Store, entry: Path) -> None:
    """Take an entry away whole: a reader finds it or does not."""
    aside = store.root / TMP / f"{entry.name}.removed"
    aside.parent.mkdir(exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    entry.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
