"""Enrolment with an attacker: the photo embeddings behind its gallery and its thresholds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from iddmbench.attacker import Attacker
from iddmbench.errors import UserError
from iddmbench.types import Embeddings, FaceData, Person, Photo

Embed = Callable[[Attacker, tuple[Photo, ...]], Embeddings]
"""Embeddings of one person's photos by an attacker, stored or not."""


@dataclass(frozen=True, eq=False)
class Enrolment:
    """What one attacker makes of a dataset's photos; those without a face are left out.

    Attributes:
        subjects: label -> float32 [P, D] of the enrolment photos of each person under test.
        public: the same of public people (distractors and strangers), in the order of their labels.
        unseen: labels of public people whom the attacker was not trained on: they calibrate.
        complete: whether the dataset must resolve every requested rate (`FaceData.complete`).
    """

    subjects: Mapping[str, np.ndarray]
    public: Mapping[str, np.ndarray]
    unseen: frozenset[str]
    complete: bool = False


def enrol(attacker: Attacker, data: FaceData, embed: Embed) -> Enrolment:
    """Look at a dataset's enrolment and public photos.

    Raises UserError when the attacker was the dataset's referee, finds no face in any enrolment photo of a subject, or was
    trained on the public people.
    """
    if refusal := attacker.refusal(data.name):
        raise UserError(refusal)
    subjects = {}
    for subject in data.subjects:
        subjects[subject.label] = found = _acquired(embed(attacker, subject.enrolment))
        if not len(found):
            raise UserError(f"attacker '{attacker.name}' finds no face in any enrolment photo of '{subject.name}'")
    people = {person.label: person for person in sorted(data.public, key=lambda person: person.label)}
    public = {label: _acquired(embed(attacker, person.photos)) for label, person in people.items()}
    public = {label: found for label, found in public.items() if len(found)}
    unseen = frozenset(label for label in public if not _is_known(attacker, people[label]))
    if len(unseen) < 2 and data.public:
        raise UserError(f"attacker '{attacker.name}' was trained on the people who would set its threshold")
    return Enrolment(subjects, public, unseen, data.complete)


def _is_known(attacker: Attacker, person: Person) -> bool:
    return any((person.source, photo.name) in attacker.trained_on for photo in person.photos)


def _acquired(embeddings: Embeddings) -> np.ndarray:
    return embeddings.vectors[embeddings.acquired]
