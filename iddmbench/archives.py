"""One file out of an archive: zip, or gzipped tar as npm packs it."""

import json
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

BLOCK = 1 << 18
MANIFEST = "manifest.json"
OF_MANIFEST = f" of {MANIFEST}"


class DamagedArchive(Exception):
    """No readable archive, or without the wanted member."""


def archive_kind(url: str) -> str:
    """ ".tgz" for a gzipped tar, by the address's ending; else ".zip"."""
    return ".tgz" if url.endswith((".tgz", ".tar.gz")) else ".zip"


def extract(archive: Path, kind: str, member: str, target: Path) -> None:
    """Write one member, found by its base name in any folder, to `target`.

    Args:
        kind: ".zip" or ".tgz".
        member: base name. In a zip also "TASK of manifest.json": the file that its manifest names for a task, as
            {"tasks": {TASK: {"file": NAME}}} (the manifests of insightface's packs, version 2).

    Raises DamagedArchive when the archive can't be read or has not exactly one such member.
    """
    try:
        if kind == ".tgz":
            with tarfile.open(archive, "r:gz") as tar:
                name = _only(member, (entry.name for entry in tar if entry.isfile()))
                _copy(tar.extractfile(name), target)
        else:
            with zipfile.ZipFile(archive) as zipped:
                wanted = member
                if member.endswith(OF_MANIFEST):
                    wanted = _of_manifest(zipped, member.removesuffix(OF_MANIFEST))
                with zipped.open(_only(wanted, zipped.namelist())) as source:
                    _copy(source, target)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise DamagedArchive(f"not a readable zip file: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's trouble, not the archive's
            raise
        raise DamagedArchive(f"not a readable {kind.lstrip('.')}: {error}") from error


def _only(member: str, names: Iterable[str]) -> str:
    found = [name for name in names if PurePosixPath(name).name == member]
    if len(found) != 1:
        raise DamagedArchive(f"{len(found)} members named {member}")
    return found[0]


def _of_manifest(zipped: zipfile.ZipFile, task: str) -> str:
    try:
        name = json.loads(zipped.read(_only(MANIFEST, zipped.namelist())))["tasks"][task]["file"]
        return PurePosixPath(name).name
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedArchive(f"its {MANIFEST} names no file for {task}") from error


def _copy(source: IO[bytes] | None, target: Path) -> None:
    assert source is not None  # only files were listed
    with target.open("wb") as sink:
        shutil.copyfileobj(source, sink, BLOCK)
