"""The few frozen types that the stages pass on. A stage imports these, not another stage."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from iddmbench.errors import UserError

Image = np.ndarray
"""uint8 [H, W, 3], RGB."""


def pixel_digest(image: Image) -> str:
    """SHA-256 of an image's size and pixels: 64 hex digits, the same for a PNG and a BMP of one picture."""
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


@dataclass(frozen=True)
class Photo:
    """One photo of one person. Its pixels are read on each access, so many photos take no memory.

    Attributes:
        name: unique within the dataset ("s29/1"), for reports.
        digest: `pixel_digest` of the decoded photo; keys are made of it, not of the name.
        read: decodes the photo: uint8 [H, W, 3], RGB, upright.
    """

    name: str
    digest: str
    read: Callable[[], Image] = field(repr=False, compare=False)

    @classmethod
    def read_by(cls, name: str, read: Callable[[], Image]) -> "Photo":
        """Decodes the photo once, for its digest, and lets the pixels go."""
        return cls(name, pixel_digest(read()), read)

    @classmethod
    def of(cls, name: str, image: Image) -> "Photo":
        """A photo that is in memory, and stays there."""
        return cls(name, pixel_digest(image), partial(np.asarray, image))

    @property
    def image(self) -> Image:
        """The pixels. Raises UserError if they no longer match `digest`."""
        try:
            image = self.read()
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"photo {self.name} can no longer be read ({error}): start again") from error
        if pixel_digest(image) != self.digest:
            raise UserError(f"photo {self.name} changed after the run started: start again")
        return image


@dataclass(frozen=True)
class Person:
    """A public person: no subject, but somebody whom the linker knows.

    Attributes:
        name: unique within `source`.
        photos: all of them are in the gallery.
        source: the dataset whose people these are ("orl"); empty: the one that loads them.
    """

    name: str
    photos: tuple[Photo, ...]
    source: str = ""

    @property
    def label(self) -> str:
        """ "orl/s1": unique in a gallery, whatever other datasets call their people."""
        return label_of(self.source, self.name)


@dataclass(frozen=True)
class Subject:
    """A person who authorizes a personalized model.

    Attributes:
        name: unique among the dataset's subjects.
        references: the photos that personalize the model.
        enrolment: the linker's gallery photos; no defense and no model ever sees them.
        surrogate: extra clean photos that data-side defenses may use.
        source: as of `Person`.
        traits: for demographic tables, by trait, where the dataset tells: {"sex": "female", "age": "20-29"}
            (iddmbench.photos.demographics). No key holds them, but those of tables.
        named_only: a run takes this person by name alone, not by number or with "all": settings are chosen on these people.
    """

    name: str
    references: tuple[Photo, ...]
    enrolment: tuple[Photo, ...]
    surrogate: tuple[Photo, ...] = ()
    source: str = ""
    traits: Mapping[str, str] = field(default_factory=dict, compare=False)
    named_only: bool = field(default=False, compare=False)

    @property
    def label(self) -> str:
        """As of `Person`."""
        return label_of(self.source, self.name)


def label_of(source: str, name: str) -> str:
    """A source holds no "/", so that two people never share a label; every label holds one."""
    return f"{source}/{name}"


@dataclass(frozen=True)
class Skipped:
    """A photo that a dataset left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class FaceData:
    """A dataset as the protocol sees it (docs/protocol.md).

    Raises UserError when two subjects share a name, when two people share a label, and for a person without photos.

    Attributes:
        name: dataset name; the source of all who name none.
        subjects: the people under test.
        public: people who are not subjects: distractors of the gallery, impostors that calibrate each attacker's
            threshold, and (ORL) what the embedded base model was trained on.
        skipped: what was left out, and why.
        complete: False for photos that somebody gives for images made elsewhere: there may be no references and no public
            people, and what needs them is not measured.
    """

    name: str
    subjects: tuple[Subject, ...]
    public: tuple[Person, ...]
    skipped: tuple[Skipped, ...] = ()
    complete: bool = True

    def __post_init__(self) -> None:
        def own(person: Any) -> Any:
            return person if person.source else replace(person, source=self.name)

        object.__setattr__(self, "subjects", tuple(map(own, self.subjects)))
        object.__setattr__(self, "public", tuple(map(own, self.public)))
        for subject in self.subjects:
            if not subject.enrolment or (self.complete and not subject.references):
                raise UserError(f"dataset '{self.name}': subject '{subject.name}' lacks references or enrolment photos")
        for person in self.public:
            if not person.photos:
                raise UserError(f"dataset '{self.name}': public person '{person.name}' has no photo")
        for people in (self.subjects, self.public):
            if wrong := [p.source for p in people if "/" in p.source or not p.name]:
                raise UserError(f"dataset '{self.name}': a person has no name, or a slash in the source: {wrong[0]!r}")
        if twice := _twice([s.name for s in self.subjects]):
            raise UserError(f"dataset '{self.name}' has two subjects named '{twice}': rename one")
        if twice := _twice([p.label for people in (self.subjects, self.public) for p in people]):
            raise UserError(
                f"dataset '{self.name}' has two people {twice}: nobody can be both a subject and a public person"
            )

    @property
    def offered(self) -> tuple[Subject, ...]:
        """The subjects that a run takes which names none: the first few, or "all"."""
        return tuple(subject for subject in self.subjects if not subject.named_only)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everybody's label, and the content of their photos in each role, in order."""
        roles = ("references", "enrolment", "surrogate")
        people = [[role, s.label, _digests(getattr(s, role))] for s in self.subjects for role in roles]
        return _sha256(people + [["public", p.label, _digests(p.photos)] for p in self.public])

    @cached_property
    def gallery(self) -> str:
        """SHA-256 over what a linker enrols and calibrates on: labels, roles, and content of photos. No reference is in it."""
        people = [["subject", s.label, _digests(s.enrolment)] for s in self.subjects]
        return _sha256(people + [["public", p.label, _digests(p.photos)] for p in self.public])


def _digests(photos: tuple[Photo, ...]) -> list[str]:
    return [photo.digest for photo in photos]


def _sha256(people: list[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(sorted(people)).encode()).hexdigest()


def _twice(names: list[str]) -> str:
    return next((name for name, count in Counter(names).items() if count > 1), "")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What a face-recognition system made of N images.

    Attributes:
        vectors: float32 [N, D], each row of unit length; zeros where not acquired.
        acquired: bool [N]; False where no face was found (failure to acquire).
    """

    vectors: np.ndarray
    acquired: np.ndarray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.shape[0] != self.acquired.shape[0]:
            raise ValueError(f"vectors {self.vectors.shape} and acquired {self.acquired.shape} don't match")

    def __len__(self) -> int:
        return len(self.acquired)
