"""Whitening with a shrunk covariance: what `finetune` and `probe` compare vectors after."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from iddmbench.adaptive.base import unit


@dataclass(frozen=True)
class Seen:
    """N vectors as a `Whitening` sees them: float [N, D], and [N, M] along its axes."""

    vectors: np.ndarray
    along: np.ndarray

    @cached_property
    def squares(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared lengths [N] of the vectors, and squares [N, M] along the axes."""
        return (self.vectors**2).sum(1), self.along**2


class Whitening:
    """P = (C + s tr(C)/D I)^(-1/2) for any shrinkage s, where C = R^T R / n of n rows R, which are not centered here.

    All that is asked for are cosines after P. Where there are fewer rows than numbers, C is never formed: with R R^T / n =
    U L U^T, A = R^T U / sqrt(n) and l = s tr(C)/D, Woodbury's identity gives (C + l I)^(-1) = (I - A (L + l I)^(-1) A^T) / l.

    Args:
        rows: float [n, D]; without any, C = 0.
    """

    def __init__(self, rows: np.ndarray):
        n, width = max(len(rows), 1), rows.shape[1]
        self._rows = rows / np.sqrt(n) if len(rows) < width else None
        values, self._axes = np.linalg.eigh(rows.T @ rows / n if self._rows is None else self._rows @ self._rows.T)
        self._values = np.maximum(values, 0)
        self._mean = self._values.mean() if self._rows is None else self._values.sum() / width

    def seen(self, vectors: np.ndarray) -> Seen:
        return Seen(vectors, (vectors if self._rows is None else vectors @ self._rows.T) @ self._axes)

    def cosines(self, x: Seen, y: Seen, shrinkage: float) -> np.ndarray:
        """float [N, I] between N and I vectors, each as `seen` gives it."""
        level = shrinkage * max(self._mean, 1e-9)
        if self._rows is None:
            scale = np.sqrt(self._values + level)
            return unit(x.along / scale) @ unit(y.along / scale).T  # less P's last rotation, which no cosine sees
        share = 1 / (self._values + level)
        lengths = [np.sqrt(np.maximum(whole - along @ share, 1e-24)) for whole, along in (x.squares, y.squares)]
        return (x.vectors @ y.vectors.T - (x.along * share) @ y.along.T) / np.outer(*lengths)
