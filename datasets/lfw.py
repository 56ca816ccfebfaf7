"""Labeled Faces in the Wild: 13,233 photos of 5,749 people, 250 px, most people with one photo.

Huang, Ramesh, Berg and Learned-Miller, "Labeled faces in the wild", University of Massachusetts Amherst, report 07-49, 2007.
"""

from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.photos.files import photo_files
from iddmbench.photos.local_copy import LocalCopy, Reader
from iddmbench.seeds import Seeds
from iddmbench.types import FaceData, Person, Photo, Skipped, Subject


class LFW(LocalCopy):
    """ROOT/PERSON/PERSON_0001.jpg, original, funneled or deep-funneled; ROOT defaults to IDDMBENCH_LFW.

    Args:
        root: folder of people's folders; IDDMBENCH_LFW by default.
        subjects: number of subjects, drawn from the people with enough photos.
        references, enrolment, surrogate: photos per subject for each use; any others are unused.
        public: number of other people used as distractors, for calibration and as decoys, each with at most as many photos as
            `enrolment`, many with one.
        seed: seed of all draws. A person's place in them depends on seed and name alone, so fewer subjects
            are a prefix of more.
    """

    name = "lfw"
    title = "Labeled Faces in the Wild, 5,749 people (your copy)"
    licence = "for research; the photos remain their owners'"
    variable = "IDDMBENCH_LFW"
    layout = "PERSON/PERSON_0001.jpg"
    source = (
        "the University of Massachusetts publishes Labeled Faces in the Wild, and scikit-learn's fetch_lfw_people brings a "
        "copy, lfw_home/lfw_funneled"
    )

    def __init__(
        self,
        root: str | Path = "",
        subjects: int = 50,
        references: int = 4,
        enrolment: int = 4,
        surrogate: int = 4,
        public: int = 200,
        seed: int = 0,
    ):
        super().__init__(root)
        self._check(1, subjects=subjects, references=references, enrolment=enrolment, public=public)
        self._check(0, surrogate=surrogate, seed=seed)
        self.subjects, self.public, self.seed = subjects, public, seed
        self.references, self.enrolment, self.surrogate = references, enrolment, surrogate

    def _is_person(self, folder: Path) -> bool:
        return bool(_photos_of(folder))

    def _read(self, people: list[Path]) -> FaceData:
        reader, subjects, public = Reader(self.root), list[Subject](), list[Person]()
        needed, tried = self.references + self.enrolment + self.surrogate, set[str]()
        for folder in self._drawn("subject", people):
            if len(subjects) == self.subjects:
                break
            if len(files := _photos_of(folder)) < needed:
                continue
            tried.add(folder.name)
            photos = reader.read(self._shuffled(files), needed)
            if len(photos) < needed:
                reader.skipped.append(
                    Skipped(folder.name, f"{len(photos)} usable photos, {needed} needed of a subject")
                )
            else:
                subjects.append(self._split(folder.name, photos))
        for folder in self._drawn("public", people):
            if len(public) == self.public:
                break
            if folder.name not in tried and (photos := reader.read(self._shuffled(_photos_of(folder)), self.enrolment)):
                public.append(Person(folder.name, photos))
        if len(subjects) < self.subjects or len(public) < self.public:
            raise UserError(
                f"{self.root} gives {len(subjects)} subjects with {needed} usable photos ({self.subjects} asked for) and "
                f"{len(public)} public people ({self.public} asked for): complete the copy, or ask for fewer"
            )
        return self._face_data(subjects, public, reader.skipped)

    def _drawn(self, role: str, people: list[Path]) -> list[Path]:
        return sorted(people, key=lambda folder: Seeds(self.seed).child(role, folder.name).value())

    def _shuffled(self, files: list[Path]) -> list[Path]:
        if not files:
            return []
        order = Seeds(self.seed).child("split", files[0].parent.name).numpy().permutation(len(files))
        return [files[i] for i in order]

    def _split(self, name: str, photos: tuple[Photo, ...]) -> Subject:
        first, second = self.references, self.references + self.enrolment
        return Subject(name, photos[:first], photos[first:second], photos[second:])


def _photos_of(folder: Path) -> list[Path]:
    """PERSON/PERSON_0001.jpg and so on; other files are not of the dataset."""
    return [path for path in photo_files(folder) if path.stem[:-4] == f"{folder.name}_" and path.stem[-4:].isdigit()]
