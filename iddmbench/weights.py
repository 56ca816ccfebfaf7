"""Weights that are too large or too restricted to ship: where they lie, how they get there, and whether they are right.

A file is used from the weights folder only after its SHA-256 was checked. Fetching resumes where it was cut off. Where
nobody publishes a checksum, the one of the first file seen is written beside it and holds from then on ("pinned").
"""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from iddmbench.archives import DamagedArchive, archive_kind, extract
from iddmbench.errors import UserError
from iddmbench.paths import user_folder
from iddmbench.store.cache import default_cache
from iddmbench.wheel_files import sha256

VARIABLE = "IDDMBENCH_WEIGHTS"
BLOCK = 1 << 18
TIMEOUT = 60
OnBytes = Callable[[int, int | None], None]
"""Called with bytes done, and bytes in all if the server says."""


@dataclass(frozen=True)
class WeightFile:
    """One file of weights.

    Attributes:
        file: its name in the weights folder; a drop-in must have it.
        url: where it is fetched from.
        licence: of the weights, in a few words.
        sha256: of the file, 64 hex digits; None where no published checksum is known, so that the first file seen is pinned.
        member: base name inside the archive (zip or .tgz) that `url` gives, or "TASK of manifest.json" where a manifest
            in that zip names the file (insightface's packs); "" when `url` gives the file itself.
        bytes: size of what `url` gives, for messages; 0 if unknown.
        parts: other files of the same archive, without which it is of no use: fetched and checked with it.
        by_hand: `url` is a page for a browser (a project's README, a cloud drive), not the file: nothing fetches it.
    """

    file: str
    url: str
    licence: str
    sha256: str | None = None
    member: str = ""
    bytes: int = 0
    parts: tuple["WeightFile", ...] = ()
    by_hand: bool = False

    def __post_init__(self) -> None:
        if PurePosixPath(self.file).name != self.file or self.file in ("", ".", ".."):
            raise ValueError(f"'{self.file}' is not a plain file name")
        if not self.url.startswith(("https://", "http://127.0.0.1")):
            raise ValueError(f"weights are downloaded over https, not from {self.url}")
        if self.sha256 is not None and len(self.sha256) != 64:
            raise ValueError(f"'{self.sha256}' is not a SHA-256")
        if any(part.url != self.url or not part.member or part.parts for part in self.parts):
            raise ValueError(f"the parts of {self.file} must be members of {self.url}")

    @property
    def path(self) -> Path:
        return weights_folder() / self.file

    @property
    def pin(self) -> Path:
        """Where a pinned checksum stands."""
        return self.path.with_name(self.file + ".sha256")

    @property
    def expected(self) -> str | None:
        """The published checksum, else the pinned one, else None. Raises UserError if the pin is not a checksum."""
        if self.sha256 is not None or not self.pin.is_file():
            return self.sha256
        text = self.pin.read_text(encoding="utf-8", errors="replace").split()
        if not text or len(text[0]) != 64:
            raise UserError(f"{self.pin} contains no SHA-256: remove it to pin {self.file} anew")
        return text[0]

    def problem(self) -> str | None:
        """None when the file and its parts are there and right, else one line. Writes and downloads nothing."""
        return next(filter(None, (one._problem() for one in (self, *self.parts))), None)

    def _problem(self) -> str | None:
        if not self.path.is_file():
            if self.by_hand:
                return f"get {self.file} from {self.url} (put it at {self.path})"
            return f"{self.file} is not in {weights_folder()}"
        expected = self.expected
        found = sha256(self.path)
        if expected is not None and found != expected:
            kind = "its" if self.sha256 else "the pinned"
            again = f"get it again from {self.url}" if self.by_hand else "fetch it again"
            return (
                f"{self.path} is damaged or another file ({self.path.stat().st_size} bytes, SHA-256 {found[:12]}..., "
                f"{kind} checksum is {expected[:12]}...): remove it and {again}"
            )
        return None

    def require(self) -> Path:
        """The path of the checked file; pins its checksum where none is known. Raises UserError when there is a problem."""
        if problem := self.problem():
            raise UserError(problem)
        for one in (self, *self.parts):
            if one.expected is None:
                note = "recorded at first download; no checksum is published, so compare it with a second source"
                _pin(one.pin, f"{sha256(one.path)}  {one.file}\n# {note}\n")
        return self.path


def weights_folder() -> Path:
    """IDDMBENCH_WEIGHTS, else weights/ in the cache folder."""
    return user_folder(VARIABLE) or default_cache() / "weights"


def fetch(weights: WeightFile, progress: OnBytes = lambda done, total: None) -> Path:
    """Download a file into the weights folder, unless it is there and right; returns its path.

    What was already received of an interrupted download is kept and continued (HTTP Range). The file gets its name only
    when its checksum is right. Several processes may call it at once.

    Raises UserError when the server can't be reached or refuses, the checksum is wrong, the disk is not writable, or the file
    can only be got by hand and is not there.
    """
    if weights.by_hand:
        return weights.require()
    folder = weights_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{weights.file}.lock"):
            missing = [one for one in (weights, *weights.parts) if not one.path.is_file()]
            for one in (weights, *weights.parts):
                if one not in missing and (problem := one._problem()):
                    raise UserError(problem)  # a wrong file is somebody's: it is not overwritten
            return _fetch(weights, missing, progress) if missing else weights.require()
    except OSError as error:
        raise UserError(
            f"{weights.url} can't be fetched into {folder}: {_reason(error)}; {_drop_in(weights)}"
        ) from error


def _fetch(weights: WeightFile, missing: list[WeightFile], progress: OnBytes) -> Path:
    kind = archive_kind(weights.url) if weights.member else ""
    part = weights.path.with_name(f"{weights.file}{kind}.part")
    resumed = part.is_file() and part.stat().st_size > 0
    _download(weights, part, progress)
    ready: dict[Path, Path] = {}
    try:
        for one in missing:
            ready[one.path] = file = one.path.with_name(one.file + ".member") if kind else part
            if kind:
                extract(part, kind, one.member, file)
            if one.expected not in (None, found := hash_of(file)):
                raise _Wrong(f"SHA-256 {found[:12]}..., expected {str(one.expected)[:12]}...")
    except (_Wrong, DamagedArchive) as error:
        for file in (part, *ready.values()):
            file.unlink(missing_ok=True)
        if resumed:  # what was there before may have been of another file: once more from the start
            return _fetch(weights, missing, progress)
        raise UserError(f"{weights.url} sent a wrong file ({error}), which was removed; {_drop_in(weights)}") from error
    for path, file in ready.items():
        file.replace(path)
    part.unlink(missing_ok=True)
    return weights.require()


class _Wrong(Exception):
    """The bytes that were received are not the file."""


def _download(weights: WeightFile, part: Path, progress: OnBytes) -> None:
    """Complete `part`, from where it ends if the server can, else from the start."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(weights.url, headers={"User-Agent": "iddmbench", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # all of it was there already, or the checksum will tell
        raise UserError(
            f"{weights.url}: the server answered {error.code} {error.reason}; {_drop_in(weights)}"
        ) from error
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        progress(have, total)
        with part.open("ab" if have else "wb") as file:
            try:
                while block := response.read(BLOCK):
                    file.write(block)
                    have += len(block)
                    progress(have, total)
            except http.client.HTTPException as error:
                raise UserError(_cut(weights, have, total)) from error
        if total is not None and have < total:
            raise UserError(_cut(weights, have, total))


def _cut(weights: WeightFile, have: int, total: int | None) -> str:
    return f"{weights.url} was cut off after {have} of {total or '?'} bytes: rerun the command to continue from there"


def hash_of(path: Path) -> str:
    """SHA-256 of a file, read anew (`wheel_files.sha256` remembers)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pin(path: Path, text: str) -> None:
    """A folder that can't be written is left alone: the pin is a help, not a need."""
    from iddmbench.store.files import write_text  # loads torch

    with suppress(OSError):
        write_text(path, text)


def _drop_in(weights: WeightFile) -> str:
    inside = f" ({weights.member} in that archive)" if weights.member else ""
    beside = "".join(f" and {part.file} beside it" for part in weights.parts)
    return f"or get it elsewhere{inside} and put it at {weights.path}{beside}"


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)
