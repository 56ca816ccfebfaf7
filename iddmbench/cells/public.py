"""Public people as utility sees them: what real photos are like, what tells people apart, and how looks vary between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from iddmbench.faces.look import LOOK
from iddmbench.metrics.erasure import LinearEraser
from iddmbench.metrics.kept import kept_look
from iddmbench.metrics.realism import RealPhotos
from iddmbench.metrics.utility import closeness
from iddmbench.seeds import Seeds
from iddmbench.types import Person, Photo

PEOPLE, PHOTOS = 64, 4
"""At most so many of them, and photos of each."""


@dataclass(frozen=True)
class PublicPeople:
    """Attributes:
    features: float [M, D] of photos of public people, cropped as references are, by the judge.
    people: int [M], whose photo it is.
    look: float [M, len(LOOK)], NaN where no face was found.
    """

    features: np.ndarray
    people: np.ndarray
    look: np.ndarray

    @classmethod
    def nobody(cls) -> "PublicPeople":
        return cls(np.zeros((0, 0)), np.zeros(0, int), np.zeros((0, len(LOOK))))

    @cached_property
    def _several(self) -> bool:
        return len(np.unique(self.people)) >= 2

    @cached_property
    def _photos(self) -> RealPhotos:
        return RealPhotos.of(self.features, self.people)

    @cached_property
    def _eraser(self) -> LinearEraser:
        who = (self.people[:, None] == np.unique(self.people)[None]).astype(float)
        return LinearEraser.fit(self.features, who)

    def realism(self, features: np.ndarray) -> np.ndarray:
        """float [N] in (0, 1]; NaN with fewer than two public people."""
        return self._photos.realism(features) if self._several else np.full(len(features), np.nan)

    def closeness_without_identity(self, features: np.ndarray, references: np.ndarray) -> np.ndarray:
        """float [N] in [-1, 1]: cosine with the references, as both differ from the public mean, after what tells the public
        people apart linearly has been erased (LEACE). NaN without references or with fewer than two public people."""
        if not (self._several and len(references)):
            return np.full(len(features), np.nan)
        own, before = (self._eraser(x) - self._eraser.mean for x in (features, references))
        return closeness(own, before.mean(0, keepdims=True))

    def kept_look(self, own: np.ndarray, references: np.ndarray, compared: np.ndarray) -> np.ndarray:
        """As `iddmbench.metrics.kept.kept_look`."""
        return kept_look(own, references, self.look, compared)


def chosen(public: Sequence[Person]) -> list[tuple[int, Photo]]:
    """Photos of public people with a number for whose each is: the same for every cell, whatever order the people have."""
    people = sorted(public, key=lambda person: person.label)
    drawn = sorted(Seeds(0).child("strangers").numpy().permutation(len(people))[:PEOPLE])
    return [(int(i), photo) for i in drawn for photo in people[i].photos[:PHOTOS]]
