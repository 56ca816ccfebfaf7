"""The linker: a gallery of enrolled people, a calibrated threshold, and what it makes of each posted image."""

from dataclasses import dataclass

import numpy as np

from iddmbench.attacker import Attacker
from iddmbench.errors import UserError
from iddmbench.metrics.identification import identity_scores, ranks_of, true_scores
from iddmbench.metrics.verification import Threshold, threshold_at_far
from iddmbench.run.lab import Cell, Lab
from iddmbench.types import Embeddings

FARS = {"1e-2": 1e-2, "1e-3": 1e-3}
DECOY = "decoy"


@dataclass(frozen=True)
class Linkage:
    """One attacker's view of one cell's N images.

    Attributes:
        acquired: bool [N].
        mated: float [N], cosine to the subject's enrolment template; nonmated: float [N, I - 1], to every other enrolled
            identity. NaN where not acquired.
        rank: int [N] of the subject among I identities, 1 = linked; 0 where not acquired.
        decoy_rank: int [N] of the decoy identity once it is enrolled too; 0 where not acquired.
    """

    acquired: np.ndarray
    mated: np.ndarray
    nonmated: np.ndarray
    rank: np.ndarray
    decoy_rank: np.ndarray


class Linker:
    """One attacker with its gallery (enrolment photos of all subjects, and the public people as distractors).

    An identity's score is the cosine to the normalized mean of its photos' unit vectors. Thresholds come from the public
    people: every photo of each against the templates of all others, so no pair is mated.

    Raises UserError when no face is found on any enrolment photo of a subject.
    """

    def __init__(self, attacker: Attacker, lab: Lab):
        self.attacker, self.lab = attacker, lab
        vectors, labels = [], []
        for subject in lab.data.subjects:
            found = _acquired(lab.embed_photos(attacker, subject.enrolment))
            if not len(found):
                raise UserError(f"attacker '{attacker.name}' finds no face on any enrolment photo of '{subject.name}'")
            vectors.append(found)
            labels += [subject.name] * len(found)
        public = {name: lab.embed_photos(attacker, photos) for name, photos in sorted(lab.data.public.items())}
        self.public = {name: _acquired(e) for name, e in public.items() if e.acquired.any()}
        for name, found in self.public.items():
            vectors.append(found)
            labels += [name] * len(found)
        self.gallery, self.labels = np.concatenate(vectors), np.array(labels)
        self.impostors = self._impostors()
        self.thresholds: dict[str, Threshold] = {
            name: threshold_at_far(self.impostors, far) for name, far in FARS.items()
        }

    @property
    def identities(self) -> int:
        return len(np.unique(self.labels))

    def link(self, cell: Cell, probes: Embeddings) -> Linkage:
        n, seen = len(probes), probes.acquired
        mated, rank, decoy_rank = np.full(n, np.nan), np.zeros(n, dtype=int), np.zeros(n, dtype=int)
        nonmated = np.full((n, self.identities - 1), np.nan)
        if seen.any():
            vectors = probes.vectors[seen]
            name = cell.subject.name
            true = np.repeat(name, len(vectors))
            table = identity_scores(vectors, self.gallery, self.labels, "mean")
            mated[seen] = true_scores(table, true)
            nonmated[seen] = table.scores[:, table.identities != name]
            rank[seen] = ranks_of(table, true)
            people = [p for p in self.lab.decoy_people(cell) if p in self.public]
            decoy = np.stack([_mean(self.public[p]) for p in people])
            gallery = np.concatenate((self.gallery, _mean(decoy)[None]))
            table = identity_scores(vectors, gallery, np.append(self.labels, DECOY), "mean")
            decoy_rank[seen] = ranks_of(table, np.repeat(DECOY, len(vectors)))
        return Linkage(seen, mated, nonmated, rank, decoy_rank)

    def _impostors(self) -> np.ndarray:
        labels = np.concatenate([np.repeat(name, len(v)) for name, v in self.public.items()])
        photos = np.concatenate(list(self.public.values()))
        table = identity_scores(photos, photos, labels, "mean")
        return table.scores[labels[:, None] != table.identities[None]]


def _acquired(embeddings: Embeddings) -> np.ndarray:
    return embeddings.vectors[embeddings.acquired]


def _mean(vectors: np.ndarray) -> np.ndarray:
    mean = vectors.mean(0)
    return mean / np.linalg.norm(mean)
