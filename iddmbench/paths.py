"""Paths and file names as people give them."""

import os
from pathlib import Path

from iddmbench.errors import UserError, escaped

BASES = "bases"
"""The cache's folder of base models that were made from one file; the folder's time is that of its last use."""


def user_path(given: str | Path) -> Path:
    """A path that a user gave: `~` and `~NAME` are home folders. Every option, variable and setting goes through here.

    Raises UserError when nobody is called NAME here.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise UserError(f"{given}: no home folder is known for it; write ./~NAME for a folder of that name") from error


def user_folder(variable: str) -> Path | None:
    """What an environment variable names; None where it is not set or empty."""
    chosen = os.environ.get(variable)
    return user_path(chosen) if chosen else None


def default_cache() -> Path:
    """IDDMBENCH_CACHE, else iddmbench/ below XDG_CACHE_HOME or ~/.cache."""
    chosen = user_folder("IDDMBENCH_CACHE")
    return chosen or (user_folder("XDG_CACHE_HOME") or Path.home() / ".cache") / "iddmbench"


def check_utf8(path: Path, instead: str) -> None:
    """Raises UserError for a folder to write to whose path is not UTF-8: tables can't be written there.

    instead: how to name another one.
    """
    whole = str(path.absolute())
    if any("\ud800" <= c <= "\udfff" for c in whole):
        raise UserError(f"{readable(whole)}: tables can't be written below a path that is not UTF-8: {instead}")


def readable(name: str) -> str:
    r"""A file's name as text that can be shown and written anywhere: bytes that are not UTF-8, and controls, as \xe9."""
    plain = "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in name)
    return escaped(plain).replace("\n", "\\n")
