"""Opening a bundle. It is a zip file from a stranger: nothing in it is trusted, extracted or executed.

A member is read only if its name is one that the metadata call for, into memory, up to a limit that does not depend on what
the archive says of itself. No path of the archive is ever used as a path on disk.
"""

import hashlib
import json
import re
import stat
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from iddmbench.errors import UserError
from iddmbench.submission.images import decode
from iddmbench.submission.schema import MEMBER, CellFacts, Submission, parse_submission, printable

MOST_MEMBERS = 100_000
MOST_JSON = 32 << 20
MOST_VALUES = 600_000
MOST_IMAGE = 16 << 20
MOST_ADAPTER = 1 << 30
MOST_BYTES = 4 << 30
"""Limits on what a bundle may hold once unpacked, in bytes (and members, and values of its JSON); docs/leaderboard.md states
them."""
NAME = re.compile(
    r"submission\.json|images/[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*/[0-9]{4}\.png"
    r"|adapters/[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors"
)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose structure was checked; its images are decoded on access.

    Attributes:
        path: the zip file; sha256: of that file.
        meta: its checked metadata.
    """

    path: Path
    sha256: str
    meta: Submission

    def images(self, cell: CellFacts, side: int) -> np.ndarray:
        """The cell's images, uint8 [N, side, side, 3]. Raises UserError naming the first invalid one."""
        with zipfile.ZipFile(self.path) as archive:
            return np.stack([decode(self._read(archive, name), side, name) for name in self.meta.images_of(cell)])

    def adapter(self, cell: CellFacts) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return self._read(archive, cell.adapter)

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        content = read_member(archive, archive.getinfo(name), limit_of(name))
        if hashlib.sha256(content).hexdigest() != self.meta.files[name].sha256:
            raise UserError(f"{self.path.name}: {name} changed while it was read")
        return content


def open_bundle(path: Path) -> Bundle:
    """Check a bundle's structure: names, sizes, metadata, and that every file has the size and hash that is stated.

    Raises UserError, in one line that names what is wrong, for anything that is not a well-formed bundle.
    """
    if not path.is_file():
        raise UserError(f"no such bundle: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            _nothing_besides(archive, members)
            if MEMBER not in members:
                raise UserError(f"it has no {MEMBER}: create it with `iddmbench submit`")
            meta = parse_submission(strict_json(read_member(archive, members[MEMBER], MOST_JSON), MEMBER))
            _check_files(archive, members, meta)
    except UserError as error:
        raise UserError(f"bundle {path.name} refused: {error}") from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise UserError(f"bundle {path.name} refused: not a readable zip file ({printable(str(error), 80)})") from error
    with path.open("rb") as stream:
        return Bundle(path, hashlib.file_digest(stream, "sha256").hexdigest(), meta)


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """A member's bytes. Raises UserError when it is larger than `limit`, whatever its header says, or damaged."""
    try:
        with archive.open(info) as stream:
            content = stream.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        raise UserError(f"{printable(info.filename, 80)} is damaged ({printable(str(error), 80)})") from error
    if len(content) > limit:
        raise UserError(f"{printable(info.filename, 80)} is larger than {limit >> 20} MiB")
    return content


def limit_of(name: str) -> int:
    return MOST_ADAPTER if name.startswith("adapters/") else MOST_IMAGE


def strict_json(content: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises UserError for NaN and infinity, also by overflow (1e999), a duplicate key, endless
    nesting, numbers of absurd length, bytes that are not UTF-8, more than MOST_VALUES values, and anything but an object."""

    def refuse(problem: str) -> NoReturn:
        raise UserError(f"{what}: {problem}")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) == len(items):
            return found
        twice = next(key for key, count in Counter(key for key, _ in items).items() if count > 1)
        return refuse(f"the key {printable(twice, 60)!r} appears twice")

    def finite(text: str) -> float:
        value = float(text)
        return value if abs(value) < float("inf") else refuse(f"the number {printable(text, 30)} is not finite")

    def whole(text: str) -> int:
        return int(text) if len(text) <= 20 else refuse(f"the number {printable(text, 30)} is too long")

    # Counted before anything is built: a list of empty objects takes fifty times its text in memory. Each value of a list or
    # object but the first has a comma before it; commas inside texts only make the count larger.
    if sum(content.count(mark) for mark in (b",", b"{", b"[")) > MOST_VALUES:
        refuse(f"it holds more than {MOST_VALUES} values")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_float=finite,
            parse_int=whole,
            parse_constant=lambda name: refuse(f"{name} is not a number"),
        )
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} is not valid JSON ({printable(str(error), 80)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{what} is not a JSON object")
    return value


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Members by name, after a look at the directory alone."""
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise UserError(f"it holds {len(infos)} members, at most {MOST_MEMBERS} are allowed")
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        shown = printable(info.filename, 80)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise UserError(f"member {shown!r} is a link or a special file")
        # `orig_filename`: Python cuts names at a NUL and turns the system's separators into slashes.
        if info.orig_filename != info.filename or not NAME.fullmatch(info.filename):
            raise UserError(f"member {shown!r} has a name that is not allowed in a bundle")
        if info.filename in found:
            raise UserError(f"member {shown!r} appears twice")
        if info.flag_bits & 0x1:
            raise UserError(f"member {shown!r} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"member {shown!r} uses a compression other than stored or deflated")
        total += info.file_size
        if total > MOST_BYTES:
            raise UserError(f"it unpacks to more than {MOST_BYTES >> 30} GiB")
        found[info.filename] = info
    return found


def _nothing_besides(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> None:
    """The file begins with its first member and ends with the directory: something else in front of it (a script, an image)
    would make it two files in one."""
    if members and min(info.header_offset for info in members.values()) != 0:
        raise UserError("there is data before the archive")
    if archive.comment:
        raise UserError("there is data after the archive")


def _check_files(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], meta: Submission) -> None:
    stated = set(meta.files)
    if extra := sorted(set(members) - stated - {MEMBER}):
        raise UserError(f"{extra[0]} is not in the list of files")
    if absent := sorted(stated - set(members)):
        raise UserError(f"{printable(absent[0], 80)} is missing")
    total = 0
    for name, facts in meta.files.items():
        content = read_member(archive, members[name], limit_of(name))
        total += len(content)
        if total > MOST_BYTES:
            raise UserError(f"it unpacks to more than {MOST_BYTES >> 30} GiB")
        if len(content) != facts.size or hashlib.sha256(content).hexdigest() != facts.sha256:
            raise UserError(f"{name} does not match its stated hash")
