"""Doubts about a run's photos and systems, raised before anything is trained."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from iddmbench.attacker import Attacker
from iddmbench.faces.detect import YuNet
from iddmbench.linking.declared import PeopleBySource, attacker_training, base_training, foreign, gray_base
from iddmbench.linking.enrolment import Embed
from iddmbench.linking.linker import Linker
from iddmbench.linking.premise import (
    ABLE,
    GalleryView,
    listed,
    merged,
    pair_findings,
    same_person,
    strangers,
    unrecognized,
    weak,
)
from iddmbench.models.base import BaseModel
from iddmbench.photos.dataset import DATASETS
from iddmbench.photos.duplicates import same_pictures, thumbnail
from iddmbench.photos.faults import faults
from iddmbench.photos.files import TURNED
from iddmbench.results.findings import FACT, NOTE, WARNING, Finding, in_order
from iddmbench.types import FaceData, Person, Photo, Subject

CODE = 2
"""Raised by hand when a check changes, so that older findings are not reused."""


def all_findings(
    data: FaceData,
    subjects: Sequence[Subject],
    linkers: Mapping[str, Linker],
    embed: Embed,
    detector: YuNet,
    base: BaseModel,
) -> list[Finding]:
    """About the run's subjects, as every attacker sees them, in the order in which they are shown.

    linkers: plain systems by name, those that adaptive attackers wrap included.
    """
    names = {subject.label: subject.name for subject in data.subjects}
    views = {name: view_of(name, linker, names) for name, linker in linkers.items()}
    found = [f for name, linker in linkers.items() for f in recognition(views[name], linker.attacker, embed, subjects)]
    found = merged(found)
    for subject in subjects:
        for photo in photos_of(subject):
            for fault in faults(photo.image, detector):
                severity = WARNING if fault.serious else NOTE
                found.append(Finding(fault.kind, severity, subject.name, photo.name, "", f"{photo.name} {fault.text}"))
    found += [
        Finding("turned", NOTE, "", s.name, "", f"{s.name} was left out: {s.reason}")
        for s in data.skipped
        if s.reason.startswith(TURNED)
    ]
    found += duplicates(data, subjects)
    people = people_of(data, subjects)
    found += foreign(people)
    found += unverified(data.name)
    found += base_training(base.name, base.recipe, people)
    found += gray_base(base.name, base.recipe, subjects)
    for name, linker in linkers.items():
        found += attacker_training(name, linker.attacker, people)
        found += _left_out(name, linker)
    return in_order(found)


def unverified(dataset: str) -> Iterator[Finding]:
    """Photos that somebody gives: one person's can be compared with each other, and nobody knows whose they should be."""
    if dataset in DATASETS.names() and dataset != "folder":
        return
    text = (
        "nothing verifies that photos show the person they are named after, only that a person's photos look alike: "
        "if all show somebody else, figures are about that person"
    )
    yield Finding("unverified", FACT, "", "", "", text)


def photos_of(subject: Subject) -> tuple[Photo, ...]:
    return (*subject.references, *subject.enrolment, *subject.surrogate)


def view_of(name: str, linker: Linker, names: Mapping[str, str]) -> GalleryView:
    """names: what texts call each subject's label."""
    values = [threshold.value for threshold in linker.thresholds.values()] or [-1.0]
    return GalleryView(name, linker.gallery, linker.labels, frozenset(linker.public), min(values), max(values), names)


def recognition(view: GalleryView, attacker: Attacker, embed: Embed, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """What one system makes of the subjects' reference and enrolment photos."""
    able = view.ability >= ABLE
    pairs = same_person(view, [s.label for s in subjects]) if able else []
    yield from pair_findings(view, pairs)
    found: list[Finding] = []
    for subject in subjects:
        same = [({p.subject, p.other} - {subject.label}).pop() for p in pairs if subject.label in (p.subject, p.other)]
        references = embed(attacker, subject.references)
        found += unrecognized(view, subject.label, [p.name for p in subject.references], references, same)
        if able:
            enrolment = embed(attacker, subject.enrolment)
            found += strangers(view, subject.label, [p.name for p in subject.enrolment], enrolment, references, same)
    yield from found if able else weak(view, found)


def _left_out(name: str, linker: Linker) -> Iterator[Finding]:
    """A system that was trained on public people: these do not calibrate it, but stay in the gallery."""
    known = len(linker.public) - len(linker.unseen)
    if known:
        text = f"{name} was trained on {known} of the distractors, who are left out where its threshold is set"
        yield Finding("trained-on", FACT, "", "", name, text)


def duplicates(data: FaceData, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Pictures that appear twice among the dataset's photos, where one belongs to a subject of the run.

    A warning where they are in two roles or of two people, else a note: fewer photos than it seems.
    """
    photos = [(s.name, role, p) for s in data.subjects for role, several in roles(s) for p in several]
    photos += [(person.label, "public", p) for person in data.public for p in person.photos]
    thumbnails = np.stack([thumbnail(p.image) for _, _, p in photos])
    wanted = {s.name for s in subjects}
    for group in same_pictures([p.digest for _, _, p in photos], thumbnails):
        members = [photos[i] for i in group.places]
        own = [name for name, role, _ in members if role != "public" and name in wanted]
        if not own:
            continue
        places = Counter((name, role) for name, role, _ in members)
        told = ", ".join(
            f"{n} {role} of {name}" if role != "public" else f"{n} of {name} (public)"
            for (name, role), n in places.items()
        )
        names = [p.name for _, _, p in members]
        what = "the same picture" if group.exact else "nearly the same picture"
        text = f"{what} appears {len(members)} times: {told} ({listed(names)})"
        yield Finding("duplicate", WARNING if len(places) > 1 else NOTE, own[0], ", ".join(names), "", text)


def roles(subject: Subject) -> Iterator[tuple[str, tuple[Photo, ...]]]:
    yield "reference", subject.references
    yield "enrolment", subject.enrolment
    yield "surrogate", subject.surrogate


def people_of(data: FaceData, subjects: Sequence[Subject]) -> PeopleBySource:
    """By the dataset that they come from."""
    return PeopleBySource(_by_source(subjects), _by_source(data.public))


def _by_source(people: Sequence[Subject] | Sequence[Person]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for person in people:
        found.setdefault(person.source, []).append(person.name)
    return found
