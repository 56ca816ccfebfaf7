"""Is the enrolled person the person? Every attacker is shown the subjects' real photos before anything is trained.

All here is a function of embeddings: who is recognized, who looks like somebody else, who may be enrolled twice. Photos
themselves are judged in linking/doubts.py, which puts everything together, and declared training data in linking/declared.py.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from iddmbench.results.findings import NOTE, WARNING, Finding
from iddmbench.types import Embeddings

STEP = 1 / 3
"""Of the way from the most similar strangers to what one person's photos give: from there on two identities are suspected to
be one. ORL's 40 people, 780 pairs of templates: dlib reaches 0.948 and is asked for 0.963, SFace 0.416 and 0.595, no false
alarm."""
ABLE = 0.95
"""Share of the public people's own photos that a system must recognize for its word on single photos to count. ORL: dlib and
SFace 1.00, LBPH 0.81, eigenfaces 0.51; the latter two would name half of ORL's subjects."""
NAMED = 3
"""Photos or people that a text names at most."""


@dataclass(frozen=True, eq=False)
class GalleryView:
    """One attacker's gallery.

    Attributes:
        attacker: its name in the run. names: what texts call a label; others stand as they are.
        gallery: float32 [P, D], unit vectors of enrolment photos; labels: whose each is, [P].
        public: labels of the public people, who are known to be different ones.
        threshold: score at FAR 1e-2; finest: at the finest FAR that the public people resolve.
    """

    attacker: str
    gallery: np.ndarray
    labels: np.ndarray
    public: frozenset[str]
    threshold: float
    finest: float
    names: Mapping[str, str] = field(default_factory=dict)

    def called(self, label: str) -> str:
        """ "s29" of a subject, "orl/s3 (public)" of a public person."""
        return self.names.get(label, f"{label} (public)" if label in self.public else label)

    @cached_property
    def identities(self) -> list[str]:
        return [str(name) for name in np.unique(self.labels)]

    def photos_of(self, identity: str) -> np.ndarray:
        return self.gallery[self.labels == identity]

    @cached_property
    def templates(self) -> np.ndarray:
        """float [I, D], the normalized mean of each identity's unit vectors."""
        return np.stack([mean(self.photos_of(name)) for name in self.identities])

    @cached_property
    def ability(self) -> float:
        """Share of the public people's photos that are recognized when the person's other photos are enrolled; 1 where nobody
        has two photos."""
        hits = [hit for name in self.identities if name in self.public for hit in self._left_out(name)]
        return float(np.mean(hits)) if hits else 1.0

    def _left_out(self, name: str) -> Iterator[bool]:
        own, column = self.photos_of(name), self.identities.index(name)
        for i, vector in enumerate(own if len(own) > 1 else own[:0]):
            scores = self.templates @ vector
            scores[column] = mean(np.delete(own, i, 0)) @ vector
            yield bool(scores[column] >= max(scores.max(), self.threshold))


@dataclass(frozen=True)
class Pair:
    """A subject and the identity that may be the same person, their templates' cosine, and from where on that is suspected."""

    subject: str
    other: str
    similarity: float
    limit: float


def same_person(view: GalleryView, subjects: Collection[str]) -> list[Pair]:
    """Subjects whose nearest identity in the gallery is as similar as one person's photos are.

    That is: above the attacker's threshold at its finest FAR, and STEP of the way from the most similar pair of public people
    to the median similarity of the two halves of one person's photos.
    """
    people = {name: view.photos_of(name) for name in view.identities}
    halves = [float(mean(v[::2]) @ mean(v[1::2])) for v in people.values() if len(v) > 1]
    public = np.array([name in view.public for name in view.identities])
    if public.sum() < 2 or not halves:
        return []
    different = view.templates[public] @ view.templates[public].T
    nearest = float(different[~np.eye(len(different), dtype=bool)].max())
    limit = max(view.finest, nearest + STEP * (float(np.median(halves)) - nearest))
    table = view.templates @ view.templates.T
    np.fill_diagonal(table, -np.inf)
    pairs: dict[frozenset[str], Pair] = {}
    for i, name in enumerate(view.identities):
        j = int(table[i].argmax())
        if name in subjects and table[i, j] >= limit:
            other = view.identities[j]
            pairs.setdefault(frozenset((name, other)), Pair(name, other, float(table[i, j]), limit))
    return list(pairs.values())


def pair_findings(view: GalleryView, pairs: Sequence[Pair]) -> Iterator[Finding]:
    for pair in pairs:
        subject, other = view.called(pair.subject), view.called(pair.other)
        text = (
            f"{view.attacker}: {subject} and {other} look like one person under two names (similarity "
            f"{pair.similarity:.2f}, suspected from {pair.limit:.2f}), so each takes links from the other"
        )
        yield Finding("same-person", WARNING, subject, "", view.attacker, text)


def unrecognized(
    view: GalleryView, subject: str, names: Sequence[str], photos: Embeddings, same: Collection[str] = ()
) -> Iterator[Finding]:
    """A subject whom the attacker does not put first, or only below its own threshold at FAR 1e-2, on some reference photos.

    A warning where that is half of them and more, else a note.

    Args:
        subject: its label. names: of the N reference photos. photos: their embeddings.
        same: identities that are suspected to be the subject: taking it for one of them is not a mistake.
    """
    reasons: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        if not photos.acquired[i]:
            reasons.setdefault("finds no face in", []).append(name)
            continue
        scores = view.templates @ photos.vectors[i]
        first = _first(view, scores, subject)
        if first not in (subject, *same):
            reasons.setdefault(f"takes them for {view.called(first)}", []).append(name)
        elif scores.max() < view.threshold:
            reasons.setdefault("scores below its threshold at FAR 1e-2", []).append(name)
    wrong = [name for several in reasons.values() for name in several]
    if wrong:
        told = "; ".join(f"{reason}: {listed(several)}" for reason, several in reasons.items())
        who, share = view.called(subject), f"{len(wrong)} of {len(names)} reference photos"
        text = f"{view.attacker} does not recognize {who} in {share} ({told})"
        severity = WARNING if 2 * len(wrong) >= len(names) else NOTE
        yield Finding("unrecognized", severity, who, ", ".join(wrong), view.attacker, text)


def strangers(
    view: GalleryView,
    subject: str,
    names: Sequence[str],
    enrolment: Embeddings,
    references: Embeddings,
    same: Collection[str] = (),
) -> Iterator[Finding]:
    """Enrolment photos that do not look like the subject's other photos: somebody else comes first, or nobody.

    Each is compared with the mean of all others of the subject, references included, and with everybody else's template.
    """
    column = view.identities.index(subject)
    for i, name in enumerate(names):
        rest = np.delete(enrolment.vectors, i, 0)[np.delete(enrolment.acquired, i)]
        own = np.concatenate((rest, references.vectors[references.acquired]))
        if not enrolment.acquired[i] or not len(own):
            continue
        scores = view.templates @ enrolment.vectors[i]
        scores[column] = mean(own) @ enrolment.vectors[i]
        first = _first(view, scores, subject)
        if first in (subject, *same) and scores.max() >= view.threshold:
            continue
        like = "does not look like" if first in (subject, *same) else f"looks like {view.called(first)} rather than"
        text = f"{view.attacker}: enrolment photo {name} {like} the other photos of {view.called(subject)}"
        yield Finding("stranger", WARNING, view.called(subject), name, view.attacker, text)


def weak(view: GalleryView, findings: Sequence[Finding]) -> Iterator[Finding]:
    """What `unrecognized` found by a system that is not ABLE, in one line: it says more about the system than the photos."""
    wrong = [f for f in findings if f.kind == "unrecognized"]
    if wrong:
        text = (
            f"{view.attacker} recognizes {view.ability:.0%} of the public people's own photos: it fails on reference photos of "
            f"{listed([f.subject for f in wrong])}, so its findings on single photos are ignored"
        )
        yield Finding("unrecognized", NOTE, "", "", view.attacker, text)


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Those of several attackers that say the same of the same photos once, under all their names."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for f in findings:
        groups.setdefault((f.kind, f.severity, f.subject, f.photo, f.text.removeprefix(f.attacker)), []).append(f)
    once = []
    for (kind, severity, subject, photo, said), several in groups.items():
        names = ", ".join(f.attacker for f in several)
        once.append(Finding(kind, severity, subject, photo, names, names + said))
    return once


def listed(names: Sequence[str]) -> str:
    """ "a, b, c and 4 more"."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def mean(vectors: np.ndarray) -> np.ndarray:
    """float [D] of unit length: the direction of the mean of [N, D]."""
    middle = vectors.mean(0, dtype=np.float64)
    return middle / max(float(np.linalg.norm(middle)), 1e-12)


def _first(view: GalleryView, scores: np.ndarray, subject: str) -> str:
    """The best identity; the subject where it ties, as for ranks."""
    column = view.identities.index(subject)
    return subject if scores[column] >= scores.max() else view.identities[int(scores.argmax())]
