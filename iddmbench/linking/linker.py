"""The linker: a gallery of enrolled people, a calibrated threshold, and what it makes of each posted image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from iddmbench.attacker import Attacker
from iddmbench.linking.enrolment import Enrolment
from iddmbench.metrics.feed import pooled_scores, pooled_templates
from iddmbench.metrics.identification import (
    IdentityScores,
    identity_scores,
    mean_templates,
    own_scores,
    ranks_of,
    template_scores,
    true_scores,
)
from iddmbench.metrics.threshold_error import threshold_interval
from iddmbench.metrics.verification import Threshold, threshold_at_far
from iddmbench.seeds import Seeds
from iddmbench.types import Embeddings

FARS = {"1e-2": 1e-2, "1e-3": 1e-3}
FPIRS = {"5e-2": 5e-2}
"""Of open-set identification. ORL's 280 public photos resolve no rate finer than 3 / 280."""
FEEDS = (4, 16)
"""Posts of one model that a linker fuses to one template."""
DECOY = "decoy"
"""Stands among the labels of a gallery. It is none itself: every label holds a slash."""


@dataclass(frozen=True)
class Linkage:
    """One attacker's view of one cell's N images.

    Attributes:
        acquired: bool [N].
        mated: float [N], score (usually a cosine) against the subject's enrolment template; nonmated: float [N, I - 1], against
            every other enrolled identity. NaN where not acquired.
        rank: int [N] of the subject among I identities, 1 = linked; 0 where not acquired.
        matched: by FAR ("1e-2"), verification at its threshold.
        found: by FPIR ("5e-2"), open-set identification: rank 1 and above the threshold of people not enrolled.
        feeds: by number of posts, their fused template's rank.
        decoy_rank: int [N] of the decoy identity once it is enrolled too; 0 where not acquired. None: not asked.
    """

    acquired: np.ndarray
    mated: np.ndarray
    nonmated: np.ndarray
    rank: np.ndarray
    matched: dict[str, "Matches"]
    found: dict[str, "Matches"]
    feeds: dict[int, "Feeds"]
    decoy_rank: np.ndarray | None = None

    @property
    def identities(self) -> int:
        return self.nonmated.shape[1] + 1


@dataclass(frozen=True)
class Matches:
    """Which of N images match at a threshold (False where not acquired), and what strangers reach there: the achieved rate.

    ends: bool [N] twice, which match at the lower and at the upper end of the threshold's interval; None where it is not known.
    """

    hits: np.ndarray
    threshold: Threshold
    ends: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Feeds:
    """Ranks int [M] of fused templates, 0 where no post of the feed was acquired; acquired bool [M]."""

    rank: np.ndarray
    acquired: np.ndarray


class Linker:
    """One attacker with its gallery (enrolment photos of all subjects, and the public people as distractors).

    An identity's score is the cosine to the normalized mean of its photos' unit vectors, unless the attacker has one of its own
    (`Attacker.compare`). Thresholds come from the public
    people: every photo of each against the templates of all others, so no pair is mated. People whom
    the attacker was trained on are left out there. Without public people there is neither a threshold nor a decoy.

    Args:
        enrolled: what the attacker makes of these people's photos, see `iddmbench.linking.enrolment.enrol`.

    Attributes:
        gallery: float32 [G, D], one row per photo; labels: [G], whose it is.
        public: label -> vectors of public people; unseen: of those who calibrate.
    """

    def __init__(self, attacker: Attacker, enrolled: Enrolment):
        self.attacker, self.public = attacker, dict(enrolled.public)
        people = [*enrolled.subjects.items(), *self.public.items()]
        self.gallery = np.concatenate([vectors for _, vectors in people])
        self.labels = np.repeat([label for label, _ in people], [len(vectors) for _, vectors in people])
        self.unseen = {label: vectors for label, vectors in self.public.items() if label in enrolled.unseen}
        self.impostors = self._impostors()
        # Where all public people calibrate, a rate that the dataset can't resolve is refused.
        if self.public and enrolled.complete and len(self.unseen) == len(self.public):
            self.thresholds = {name: threshold_at_far(self.impostors, far) for name, far in FARS.items()}
        else:
            self.thresholds = thresholds(self.impostors, FARS)
        self.strangers = thresholds(self._strangers(), FPIRS)

    @property
    def identities(self) -> int:
        return len(np.unique(self.labels))

    def link(self, subject: str, probes: Embeddings, decoy: Sequence[str] = ()) -> Linkage:
        """What the attacker makes of N images that were posted in the name of one enrolled person.

        Args:
            subject: the person's label. probes: embeddings of the images.
            decoy: labels of the public people whose mean is the decoy identity; none: its rank is not computed.
        """
        n, seen = len(probes), probes.acquired
        mated, rank, decoy_rank = np.full(n, np.nan), np.zeros(n, dtype=int), np.zeros(n, dtype=int)
        nonmated = np.full((n, self.identities - 1), np.nan)
        if seen.any():
            vectors = probes.vectors[seen]
            true = np.repeat(subject, len(vectors))
            table = self._against_all(vectors)
            mated[seen] = true_scores(table, true)
            nonmated[seen] = table.scores[:, table.identities != subject]
            rank[seen] = ranks_of(table, true)
        people = [label for label in decoy if label in self.public]
        if seen.any() and people:
            table = self._with_decoy(vectors, [self.public[label] for label in people])
            decoy_rank[seen] = ranks_of(table, np.repeat(DECOY, len(vectors)))
        feeds = {}
        for posts in (count for count in FEEDS if count <= n):
            table, acquired = self._feeds(probes, posts)
            feeds[posts] = Feeds(ranks_of(table, np.repeat(subject, len(acquired))) * acquired, acquired)
        matched = {}
        for name, t in self.thresholds.items():
            low, high = (reached(mated, end) for end in self.threshold_ends[name])
            matched[name] = Matches(at_least(mated, t), t, (low, high))
        found = {name: Matches(at_least(mated, t) & (rank == 1), t) for name, t in self.strangers.items()}
        return Linkage(seen, mated, nonmated, rank, matched, found, feeds, decoy_rank if people else None)

    @property
    def _by_cosine(self) -> bool:
        return self.attacker.similarity == "cosine"

    def _table(self, probes: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> IdentityScores:
        if self._by_cosine:
            return identity_scores(probes, gallery, labels, "mean")
        return own_scores(probes, gallery, labels, self.attacker.compare)

    @cached_property
    def _templates(self) -> tuple[np.ndarray, np.ndarray]:
        """Identities and their templates, for a system that compares by cosine."""
        return mean_templates(self.gallery, self.labels)

    def _against_all(self, probes: np.ndarray) -> IdentityScores:
        if self._by_cosine:
            return template_scores(probes, *self._templates)
        return self._table(probes, self.gallery, self.labels)

    def _with_decoy(self, vectors: np.ndarray, people: list[np.ndarray]) -> IdentityScores:
        """The decoy counts each of its people once; by a score of its own, each of their photos."""
        if self._by_cosine:
            decoy = _mean(np.stack(list(map(_mean, people))).astype(float))
            identities, templates = self._templates
            place = int(np.searchsorted(identities, DECOY))
            known = np.concatenate((identities[:place], [DECOY], identities[place:]))
            return template_scores(vectors, known, np.insert(templates, place, decoy, axis=0))
        decoy = np.concatenate(people)
        labels = np.append(self.labels, np.repeat(DECOY, len(decoy)))
        return self._table(vectors, np.concatenate((self.gallery, decoy)), labels)

    def _feeds(self, probes: Embeddings, posts: int) -> tuple[IdentityScores, np.ndarray]:
        """Feeds of that many posts against everybody, by their mean vector; by a score of its own, by its mean."""
        if self._by_cosine:
            templates, acquired = pooled_templates(probes.vectors, probes.acquired, posts)
            return self._against_all(templates), acquired
        table = self._against_all(probes.vectors)
        scores, acquired = pooled_scores(table.scores, probes.acquired, posts)
        return IdentityScores(table.identities, scores), acquired

    def nearest(self, probes: Embeddings, count: int) -> list[list[tuple[str, float]]]:
        """For each of N images the `count` most alike people, label and score, the best first; none where not acquired."""
        found: list[list[tuple[str, float]]] = [[] for _ in range(len(probes))]
        seen = np.flatnonzero(probes.acquired)
        if len(seen):
            table = self._against_all(probes.vectors[seen])
            best = np.argsort(-table.scores, axis=1, kind="stable")[:, :count]
            for i, row, scores in zip(seen, best, table.scores, strict=True):
                found[i] = [(str(table.identities[k]), float(scores[k])) for k in row]
        return found

    @cached_property
    def threshold_ends(self) -> dict[str, tuple[float, float]]:
        """By FAR, the ends of the threshold when the people that it was calibrated on are resampled."""
        if not self.thresholds:
            return {}
        people = np.concatenate([np.repeat(i, len(v)) for i, v in enumerate(self.unseen.values())])
        # `_impostors` goes photo by photo, over the templates of all other people in the order of their names.
        order = np.argsort(np.array(list(self.unseen)))
        others = np.concatenate([order[order != i] for i in people])
        seeds = Seeds(0).child("thresholds", self.attacker.name)
        return {
            name: threshold_interval(
                self.impostors, np.repeat(people, len(order) - 1), others, t.far, seeds.child(name).numpy()
            )
            for name, t in self.thresholds.items()
        }

    def _impostors(self) -> np.ndarray:
        if not self.unseen:
            return np.zeros(0)
        labels = np.concatenate([np.repeat(name, len(v)) for name, v in self.unseen.items()])
        photos = np.concatenate(list(self.unseen.values()))
        table = self._table(photos, photos, labels)
        return table.scores[labels[:, None] != table.identities[None]]

    def _strangers(self) -> np.ndarray:
        """Best score over the gallery of each public photo, its own person not being enrolled."""
        if not self.unseen:
            return np.zeros(0)
        labels = np.concatenate([np.repeat(name, len(v)) for name, v in self.unseen.items()])
        table = self._against_all(np.concatenate(list(self.unseen.values())))
        return np.where(labels[:, None] == table.identities[None], -np.inf, table.scores).max(1)


def thresholds(scores: np.ndarray, rates: dict[str, float]) -> dict[str, Threshold]:
    """Thresholds at the rates that this many impostor scores can resolve."""
    return {name: threshold_at_far(scores, rate) for name, rate in rates.items() if scores.size * rate >= 3 - 1e-9}


def at_least(scores: np.ndarray, threshold: Threshold) -> np.ndarray:
    """bool [N]; False where a score is NaN."""
    return reached(scores, threshold.value)


def reached(scores: np.ndarray, value: float) -> np.ndarray:
    """bool [N]; False where a score is NaN."""
    return np.nan_to_num(scores, nan=-np.inf) >= value


def _mean(vectors: np.ndarray) -> np.ndarray:
    mean = vectors.mean(0)
    return mean / np.linalg.norm(mean)
