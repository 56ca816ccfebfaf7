"""Results of stages, stored under a hash of everything they depend on."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iddmbench.errors import UserError

RECORD = "key.json"


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, in a form that does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def default_cache() -> Path:
    """IDDMBENCH_CACHE, else iddmbench/ below XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("IDDMBENCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iddmbench"


class Store:
    """A folder of finished stage results. An entry is written whole or not at all; several processes may share it."""

    def __init__(self, root: Path):
        self.root = root
        try:
            (root / "tmp").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cache folder {root} can't be written ({error.strerror}): set IDDMBENCH_CACHE") from error

    def path(self, stage: str, key: dict[str, Any]) -> Path:
        name = digest({"stage": stage, **key})
        return self.root / stage / name[:2] / name

    def has(self, stage: str, key: dict[str, Any]) -> bool:
        return (self.path(stage, key) / RECORD).is_file()

    def fetch(self, stage: str, key: dict[str, Any], compute: Callable[[Path], None]) -> Path:
        """The entry's folder; `compute` fills it (in a temporary folder, renamed when done) if it is not there yet."""
        final = self.path(stage, key)
        if (final / RECORD).is_file():
            return final
        part = self.root / "tmp" / uuid.uuid4().hex
        part.mkdir()
        try:
            compute(part)
            (part / RECORD).write_text(json.dumps(key, sort_keys=True, indent=1), encoding="utf-8")
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.rename(final)
            except OSError:
                # Another process was first; both computed the same.
                if not (final / RECORD).is_file():
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return final
