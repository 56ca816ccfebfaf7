"""300 people who don't exist, in colour: 60 subjects x 12 photos, 240 public people x 6, shipped with the package.

Made by `python -m iddmbench.synthetic.build` (iddmbench/synthetic/data/README.md: how, licence, what is known of the people).
"""

import csv
import os
import zipfile
from collections import defaultdict
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from iddmbench.errors import UserError
from iddmbench.photos.dataset import FaceDataset
from iddmbench.photos.demographics import AGE, SEX, TONE, age_group, tone_group
from iddmbench.synthetic.pack import ARCHIVES, CHECKSUMS, TABLE, decode
from iddmbench.types import FaceData, Person, Photo, Subject
from iddmbench.wheel_files import sha256

Part = Literal["", "all", "tuning", "report"]


class Synthetic(FaceDataset):
    """Subjects s01-s60 (references, enrolment and surrogate photos, 4 each) and public people p001-p240.

    Args:
        part: which subjects: by default all 60, of whom a run takes the 12 for choosing settings by name alone; with
            "all" it takes these by number too. "tuning" (the 12) and "report" (the other 48) make the subjects left out
            public people, with their enrolment photos. Every gallery has 300 people.
        root: folder with the dataset's files; by default the one in the package.
    """

    name = "synthetic"
    base = "micro-rgb"
    title = "300 generated people in colour, 60 subjects x 12 and 240 x 6 photos"
    licence = "non-commercial research; made by a network that learned from FFHQ (CC BY-NC-SA 4.0); no real person"
    referees: ClassVar[dict[str, str]] = {
        "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581": (
            "it is fr_feature, the referee that decided which generated photos show one person, so the photos fit it"
        )
    }

    def __init__(self, part: Part = "", root: str | Path = ""):
        if part not in ("", "all", "tuning", "report"):
            raise UserError(f"dataset 'synthetic': part is all, tuning or report, not '{part}'")
        self.part = part
        self.root = Path(root) if root else Path(str(files("iddmbench.synthetic") / "data"))

    def load(self) -> FaceData:
        """Raises UserError when a file is missing or damaged."""
        self._check_files()
        public: dict[str, list[Photo]] = defaultdict(list)
        subjects: dict[str, dict[str, list[Photo]]] = defaultdict(lambda: defaultdict(list))
        traits: dict[str, dict[str, str]] = {}
        named_only: set[str] = set()
        for row in self.table():
            traits.setdefault(row["person"], _traits(row))  # of the first photo, as the card's table has them
            if row["role"] == "public":
                public[row["person"]].append(self._photo(row))
            elif self.part in ("", "all") or (self.part == "tuning") == (row["tuning"] == "1"):
                if not self.part and row["tuning"] == "1":
                    named_only.add(row["person"])
                subjects[row["person"]][row["split"]].append(self._photo(row))
            elif row["split"] == "enrolment":
                public[row["person"]].append(self._photo(row))
        people = tuple(
            Subject(
                name,
                tuple(split["reference"]),
                tuple(split["enrolment"]),
                tuple(split["surrogate"]),
                traits=traits[name],
                named_only=name in named_only,
            )
            for name, split in subjects.items()
        )
        return FaceData(self.name, people, tuple(Person(name, tuple(photos)) for name, photos in public.items()))

    def table(self) -> list[dict[str, str]]:
        """The rows of photos.csv (`iddmbench.synthetic.pack.Row`)."""
        with (self.root / TABLE).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _check_files(self) -> None:
        try:
            lines = (self.root / CHECKSUMS).read_text(encoding="utf-8").split("\n")
            sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines if line)}
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"dataset 'synthetic': {self.root / CHECKSUMS} can't be read: {_AGAIN}") from error
        for name in (*ARCHIVES.values(), TABLE):
            path = self.root / name
            if not path.is_file():
                raise UserError(f"dataset 'synthetic': {path} is missing: {_AGAIN}")
            if sha256(path) != sums.get(name):
                raise UserError(f"dataset 'synthetic': {path} is damaged (wrong SHA-256): {_AGAIN}")

    def _photo(self, row: dict[str, str]) -> Photo:
        """Unread: the table holds its digest."""
        read = partial(_read, self.root / ARCHIVES[row["role"]], row["file"])
        return Photo(row["file"].removesuffix(".webp"), row["pixels"], read)


def _traits(row: dict[str, str]) -> dict[str, str]:
    return {SEX: row["sex"], AGE: age_group(float(row["age"])), TONE: tone_group(float(row["tone"]))}


_AGAIN = "install iddmbench again, its data files are incomplete"


def _read(archive: Path, file: str) -> np.ndarray:
    """uint8 [160, 160, 3]. Raises OSError if the file is gone or is not an image."""
    try:
        stat = archive.stat()
        return decode(_opened(archive, (stat.st_mtime_ns, stat.st_size), os.getpid()).read(file))
    except (KeyError, zipfile.BadZipFile) as error:
        raise OSError(f"{archive.name}: {error}") from error


@lru_cache(maxsize=len(ARCHIVES))
def _opened(archive: Path, state: tuple[int, int], process: int) -> zipfile.ZipFile:
    """Kept open, because reading a list of 1,440 files takes eight times as long as reading one. state: another file is opened
    anew; process: a forked one does not share the place in the file."""
    return zipfile.ZipFile(archive)
