"""How photo-like a single image is: its distance to real photos, in units of theirs to one another."""

from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 3


@dataclass(frozen=True)
class RealPhotos:
    """Realism score (Kynkaanniemi et al. 2019, arXiv 1904.06991, Eq. 3) against real photos of several people.

    Attributes:
        features: float [M, D] of the photos that count. radii: float [M], the distance of each to its third nearest photo of
            another person; the half with the largest radii is left out, as in the paper.
    """

    features: np.ndarray
    radii: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, people: np.ndarray) -> "RealPhotos":
        """Args:
            features: float [M, D]; people: int [M], whose photo it is. Another person's photos are the neighbours, so that
                it does not matter how many each has.

        Raises ValueError for fewer than two people, or wrong shapes.
        """
        x, who = np.asarray(features, dtype=np.float64), np.asarray(people)
        if x.ndim != 2 or who.shape != (len(x),) or len(np.unique(who)) < 2:
            raise ValueError(f"features {x.shape} of {who.shape} must be [M, D] of at least two people")
        far = _distances(x, x)
        far[who[:, None] == who[None]] = np.inf
        ordered = np.sort(far, axis=1)
        last = np.minimum(NEIGHBOURS, np.isfinite(ordered).sum(1)) - 1
        radii = np.take_along_axis(ordered, last[:, None], axis=1)[:, 0]
        kept = radii <= np.median(radii)
        return cls(x[kept], radii[kept])

    def realism(self, features: np.ndarray) -> np.ndarray:
        """max over photos of radius / distance, at most 1: float [N] of features float [N, D]; higher is better.

        1: as near to a photo as photos of different people are to each other; 1/2: twice as far from every photo.
        """
        far = _distances(np.asarray(features, dtype=np.float64), self.features)
        with np.errstate(divide="ignore"):
            return np.minimum((self.radii / far).max(1), 1.0)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0.0))
