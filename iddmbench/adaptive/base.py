"""The base class of adaptive attackers, and what they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from iddmbench.adaptive.posts import Fitted, Others, Posts, Scores
from iddmbench.attacker import Attacker
from iddmbench.models.base import BaseModel
from iddmbench.types import Embeddings

Scorer = Callable[[Posts], Scores]


@dataclass(frozen=True)
class Gallery:
    """Enrolled people as one system sees them.

    Attributes:
        identities: [I], sorted. templates: float [I, D], the normalized mean of each one's unit vectors.
    """

    identities: np.ndarray
    templates: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, labels: np.ndarray) -> "Gallery":
        """vectors: float [G, D], one per enrolled photo; labels: [G]."""
        identities = np.unique(labels)
        return cls(identities, np.stack([unit(vectors[labels == name].astype(float).mean(0)) for name in identities]))

    def template(self, identity: str) -> np.ndarray:
        return self.templates[int(np.flatnonzero(self.identities == identity)[0])]

    def scores(self, view: Embeddings) -> Scores:
        """Cosines with all templates."""
        return Scores(self.identities, view.vectors.astype(float) @ self.templates.T, view.acquired)


class Adaptive(ABC):
    """An attacker that prepares for one defense.

    Args:
        galleries: of the systems that it wraps, in order.

    Attributes:
        kind: prefix of its name. title: one line. several: whether it wraps more than one system.
        links_person: whether it links a post to a person, rather than to other posts.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    several: ClassVar[bool] = False
    links_person: ClassVar[bool] = True

    def __init__(self, galleries: Sequence[Gallery]):
        self.galleries = list(galleries)

    def views(self, attackers: Sequence[Attacker], base: BaseModel) -> list[Attacker]:
        """What embeds the posts, one per entry of `Posts.views`; the systems themselves by default."""
        return list(attackers)

    def fit(self, others: Others) -> Fitted:
        """Learn from what the same defense made of other people. Deterministic."""
        return Fitted(frozenset(others.subjects), self.learn(others))

    @abstractmethod
    def learn(self, others: Others) -> Scorer:
        """How to score a subject who is not among `others`."""


def best(candidates: Sequence[Sequence[tuple[Scorer, Posts]]]) -> int:
    """Index of the candidate that links most: each is a list of (scorer, posts that it was not fitted on).

    By rank-1 hits; among equals by the mean lead over the runner-up, in standard deviations; the first of those.
    """
    return int(max(range(len(candidates)), key=lambda index: (*_success(candidates[index]), -index)))


def _success(pairs: Sequence[tuple[Scorer, Posts]]) -> tuple[float, float]:
    hits: list[float] = []
    leads: list[float] = []
    for scorer, posts in pairs:
        scores = scorer(posts)
        if not scores.acquired.any():
            continue
        own, rest = scores.own(posts.subject), scores.rest(posts.subject)
        hits += list(scores.ranks(posts.subject) == 1)
        leads += list((own - rest.max(1)) / np.maximum(rest.std(1), 1e-12))
    return (float(np.mean(hits)), round(float(np.mean(leads)), 9)) if hits else (0.0, 0.0)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (or the one vector) scaled to unit length; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
