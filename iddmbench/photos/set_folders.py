"""Datasets in Anti-DreamBooth's split (arXiv 2303.15433): ROOT/IDENTITY/set_A|set_B|set_C, four photos each."""

import re
from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.photos.files import photo_files
from iddmbench.photos.local_copy import LocalCopy, Reader
from iddmbench.seeds import Seeds
from iddmbench.types import FaceData, Person, Photo, Skipped, Subject

REFERENCES, ENROLMENT, SURROGATE = "set_B", "set_C", "set_A"
SETS = (SURROGATE, REFERENCES, ENROLMENT)


class SetFolders(LocalCopy):
    """Sets A, B and C of each person are surrogate, reference and enrolment photos; some people are held out as public ones.

    Args:
        root: folder of identity folders; by default the dataset's environment variable.
        public: number of people who are not subjects: distractors, calibration and decoys, with photos from all their sets;
            0 makes everybody a subject, and then there is no threshold and no decoy.
        fewest: minimum usable photos in each of a person's sets; people with fewer are skipped.
        seed: seed of the draw of public people. The order of two people in it depends on these two alone.

    Everybody in such a split is meant to be a subject, but thresholds must come from non-subjects with the same kind of
    photos: gray ORL photos would calibrate another domain, and a second set of celebrities may contain the same people. 20
    of 50 leave 30 subjects and make 4,560 impostor pairs; FAR 1e-3 needs 3,000, i.e. 17 people. Other seeds hold out
    others.

    A duplicate photo is used once: as a reference if possible, else for enrolment, else as surrogate.
    """

    layout = "IDENTITY/set_A, set_B and set_C"
    source = "the Anti-DreamBooth repository (VinAIResearch) links its splits of 50 people of VGGFace2 and CelebA-HQ"

    def __init__(self, root: str | Path = "", public: int = 20, fewest: int = 4, seed: int = 0):
        super().__init__(root)
        self._check(1, fewest=fewest)
        self._check(0, public=public, seed=seed)
        self.public, self.fewest, self.seed = public, fewest, seed

    def _is_person(self, folder: Path) -> bool:
        return any((folder / name).is_dir() for name in SETS)

    def _read(self, people: list[Path]) -> FaceData:
        reader, usable = Reader(self.root), dict[str, dict[str, tuple[Photo, ...]]]()
        for folder in people:
            sets = {
                name: reader.read(photo_files(folder / name))
                for name in (REFERENCES, ENROLMENT, SURROGATE)
                if (folder / name).is_dir()
            }
            if problem := self._problem(sets):
                reader.skipped.append(Skipped(folder.name, problem))
            else:
                usable[person_name(folder.name)] = sets
        held_out = sorted(usable, key=lambda name: Seeds(self.seed).child("public", name).value())[: self.public]
        if len(usable) <= self.public:
            reasons = "; ".join(f"{s.name}: {s.reason}" for s in reader.skipped[-3:])
            raise UserError(
                f"{self.root} holds {len(usable)} people with {self.fewest} usable photos in each set, and {self.public} are "
                f"held out as public ones: no subject is left; the published split has 50{reasons and f' ({reasons})'}"
            )
        subjects = [
            Subject(name, sets[REFERENCES], sets[ENROLMENT], sets[SURROGATE])
            for name, sets in usable.items()
            if name not in held_out
        ]
        public = [Person(n, tuple(p for name in SETS for p in usable[n][name])) for n in sorted(held_out)]
        return self._face_data(subjects, public, reader.skipped)

    def _problem(self, sets: dict[str, tuple[Photo, ...]]) -> str:
        """Why a person can't be used; empty if there is no reason."""
        if missing := [name for name in SETS if name not in sets]:
            return f"no {', '.join(missing)}"
        short = [f"{len(sets[name])} usable photos in {name}" for name in SETS if len(sets[name]) < self.fewest]
        return f"{', '.join(short)}; {self.fewest} needed in each set" if short else ""


def person_name(folder: str) -> str:
    """The folder's name; a number gets "id" before it, since `--subjects 12` means the first twelve. No two become the same."""
    return f"id{folder}" if re.fullmatch(r"(id)*[0-9]+", folder) else folder
