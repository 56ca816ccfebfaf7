"""Results of stages, stored under a hash of everything they depend on.

    ROOT/cache.json                      the layout's version
    ROOT/STAGE/ab/abcd.../key.json       a finished entry: its key, beside what the stage wrote
    ROOT/STAGE/ab/abcd.../files.json     the SHA-256 of that; the key's time is that of the entry's last use
    ROOT/locks/abcd....lock              held by whoever computes that entry
    ROOT/tmp/abcd....PART                what it has so far
    ROOT/damaged/STAGE-abcd....PART      an entry that was not what its checksums say, set aside

An entry is written whole or not at all, and checked against its checksums when a process reads it first: a damaged one is
set aside, named in a warning, and computed again. Any number of processes may share a cache, on several machines too where
the file system has locks: who needs an entry that another is computing waits for it. A process that is killed lets go of
its locks.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from iddmbench.errors import UserError
from iddmbench.paths import check_utf8
from iddmbench.paths import default_cache as default_cache  # most import it from here

LAYOUT = 1
RECORD, FILES, MARK, LOCKS, TMP, DAMAGED = "key.json", "files.json", "cache.json", "locks", "tmp", "damaged"
REUSED = 86400.0
"""Seconds after which a use is noted again."""
STOPS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_WHOLE: dict[Path, tuple] = {}
"""Entries that this process has checked, and `_state` of their files then."""
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


log = logging.getLogger(__name__)


class UnwritableCache(UserError):
    """Nothing can be computed: it could not be kept."""


def stops(error: BaseException) -> bool:
    """Whether nothing else would fare better: a full or read-only disk."""
    return isinstance(error, UnwritableCache) or (isinstance(error, OSError) and error.errno in STOPS)


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, in a form that does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def checksums(entry: Path) -> dict[str, str]:
    """SHA-256 of what a stage wrote, by path below the entry."""
    files = sorted(path for path in entry.rglob("*") if path.is_file() and path.name not in (RECORD, FILES))
    return {str(path.relative_to(entry)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def problem_of(entry: Path) -> str | None:
    """What is wrong with an entry: its name against its key, its files against their checksums."""
    try:
        key = json.loads((entry / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{RECORD} can't be read"
    if not isinstance(key, dict) or digest({"stage": entry.parents[1].name, **key}) != entry.name:
        return "its key belongs to another entry"
    try:
        wanted = dict(json.loads((entry / FILES).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return f"{FILES} can't be read"
    try:
        found = checksums(entry)
    except OSError as error:
        return f"its files can't be read ({error.strerror})"
    if changed := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        return f"changed or missing: {', '.join(changed[:3])}"
    return None


def _state(entry: Path) -> tuple:
    """Sizes and times of the entry's files. The key's time is left out: it is that of the last use."""
    files = sorted(path for path in entry.rglob("*") if path.is_file() and path.name != RECORD)
    return tuple((str(path), status.st_size, status.st_mtime_ns) for path in files for status in [path.stat()])


class Store:
    """A folder of finished stage results.

    A folder that can only be read serves what it holds; the first entry that has to be computed raises UnwritableCache.
    Raises UserError for a cache of another layout, and UnwritableCache where there can be none.
    """

    def __init__(self, root: Path):
        self.root = root
        check_utf8(root, "give another --cache, or set IDDMBENCH_CACHE")
        if (root / MARK).is_file():
            self._check_layout()
        else:
            with self._writing():
                root.mkdir(parents=True, exist_ok=True)
                if not any(root.iterdir()):
                    # Whole or not at all: another process may open the same fresh cache right now.
                    part = root / f"{MARK}.{uuid.uuid4().hex}"
                    part.write_text(json.dumps({"layout": LAYOUT}), encoding="utf-8")
                    part.replace(root / MARK)

    def path(self, stage: str, key: dict[str, Any]) -> Path:
        name = digest({"stage": stage, **key})
        return self.root / stage / name[:2] / name

    def has(self, stage: str, key: dict[str, Any]) -> bool:
        return (self.path(stage, key) / RECORD).is_file()

    def fetch(self, stage: str, key: dict[str, Any], compute: Callable[[Path], None]) -> Path:
        """The entry's folder; `compute` fills it (in a temporary folder, renamed when done) if it is not there yet, or damaged.

        Raises UnwritableCache where it has to be computed and can't be kept.
        """
        final = self.path(stage, key)
        if found := self.find(stage, key):
            return found
        with self._lock(final.name) as lock:
            if not (final / RECORD).is_file():  # else whoever held the lock has just made it
                if final.is_dir():
                    self._set_aside(final, f"{RECORD} is missing")
                self._make(final, key, compute)
            # Whoever gets the lock after this finds the entry made; the file of one that failed stays.
            Path(lock.lock_file).unlink(missing_ok=True)
        return final

    def find(self, stage: str, key: dict[str, Any]) -> Path | None:
        """The entry's folder, if it is there and whole. One that is damaged is set aside.

        Raises UnwritableCache, naming the entry, where it can't be.
        """
        final = self.path(stage, key)
        if not self._use(final):
            return None
        if self._is_whole(final):
            return final
        problem = problem_of(final)
        try:
            with self._lock(final.name):
                if self._is_whole(final):  # another process has made it again by now
                    return final
                self._set_aside(final, problem)
        except UnwritableCache as error:
            raise UnwritableCache(f"cache entry {final} is damaged ({problem}), and {error}") from error
        return None

    @staticmethod
    def _is_whole(entry: Path) -> bool:
        """Whether the entry is what its checksums say. They are computed once for a process and an entry that stays."""
        try:
            state = _state(entry)
        except OSError:
            return False
        if _WHOLE.get(entry) != state:
            if problem_of(entry):
                _WHOLE.pop(entry, None)
                return False
            _WHOLE[entry] = state
        return True

    def _set_aside(self, entry: Path, problem: str | None) -> None:
        """Its lock is held."""
        place = self.root / DAMAGED / f"{entry.parents[1].name}-{entry.name}.{uuid.uuid4().hex[:8]}"
        with self._writing(), suppress(FileNotFoundError):
            place.parent.mkdir(exist_ok=True)
            entry.rename(place)
            log.warning("damaged cache entry %s (%s): moved to %s and recomputed", entry, problem, place)

    def _make(self, final: Path, key: dict[str, Any], compute: Callable[[Path], None]) -> None:
        self._remove_leftovers(final.name)
        part = self.root / TMP / f"{final.name}.{uuid.uuid4().hex}"
        with self._writing():
            part.mkdir(parents=True)
        try:
            compute(part)
            (part / FILES).write_text(json.dumps(checksums(part), sort_keys=True), encoding="utf-8")
            (part / RECORD).write_text(json.dumps(key, sort_keys=True, indent=1), encoding="utf-8")
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.rename(final)
            except OSError:
                # A file system without locks: another process was first, and both computed the same.
                if not (final / RECORD).is_file():
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def check_writable(self) -> None:
        """Raises UnwritableCache where a new entry could not be written."""
        probe = self.root / TMP / uuid.uuid4().hex
        with self._writing():
            probe.mkdir(parents=True)
            probe.rmdir()

    def is_computing(self, name: str) -> bool:
        """Whether some process holds the entry's lock."""
        lock = FileLock(self.root / LOCKS / f"{name}.lock")
        try:
            lock.acquire(blocking=False)
        except OSError:  # filelock's Timeout is one
            return True
        lock.release()
        return False

    @staticmethod
    def _use(entry: Path) -> bool:
        """Whether the entry is there; notes that it is used, where that is not known yet and can be written."""
        try:
            last = (entry / RECORD).stat().st_mtime
        except FileNotFoundError:
            return False
        if time.time() - last > REUSED:
            with suppress(OSError):
                os.utime(entry / RECORD)
        return True

    @contextmanager
    def _lock(self, name: str) -> Iterator[FileLock]:
        folder = self.root / LOCKS
        with self._writing():
            folder.mkdir(exist_ok=True)
            lock = FileLock(folder / f"{name}.lock")
            lock.acquire()
        try:
            yield lock
        finally:
            lock.release()

    def _remove_leftovers(self, name: str) -> None:
        """What a killed process left of an entry whose lock is held here."""
        for path in (self.root / TMP).glob(f"{name}.*"):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in READ_ONLY and not isinstance(error, FileExistsError):
                raise
            raise UnwritableCache(
                f"cache folder {self.root} can't be written ({error.strerror}): set IDDMBENCH_CACHE to another place"
            ) from error

    def _check_layout(self) -> None:
        try:
            found = json.loads((self.root / MARK).read_text(encoding="utf-8"))["layout"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.root / MARK} is damaged: remove it, or set IDDMBENCH_CACHE to another place"
            ) from error
        if found != LAYOUT:
            raise UserError(
                f"cache {self.root} has layout {found}, this version writes {LAYOUT}: "
                "set IDDMBENCH_CACHE to another place, or remove that folder"
            )
