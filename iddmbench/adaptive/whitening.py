"""Whitening with a shrunk covariance: what `finetune` and `probe` compare vectors after."""

from dataclasses import dataclass

import numpy as np

from iddmbench.adaptive.base import unit


@dataclass(frozen=True)
class Seen:
    """N vectors as a `Whitening` sees them: float [N, D], and [N, M] along its axes."""

    vectors: np.ndarray
    along: np.ndarray


class Whitening:
    """P = (C + s tr(C)/D I)^(-1/2) for any shrinkage s, where C = R^T R / n of n rows R, which are not centered here.

    All that is asked for are cosines after P. Where there are fewer rows than numbers, C is never formed: with R R^T / n =
    U L U^T, A = R^T U / sqrt(n) and l = s tr(C)/D, Woodbury's identity gives (C + l I)^(-1) = (I - A (L + l I)^(-1) A^T) / l.

    Args:
        rows: float [n, D]; without any, C = 0.
    """

    def __init__(self, rows: np.ndarray):
        n, width = max(len(rows), 1), rows.shape[1]
        self._few = len(rows) < width
        values, axes = np.linalg.eigh((rows @ rows.T if self._few else rows.T @ rows) / n)
        self._values = np.maximum(values, 0)
        self._axes = rows.T @ axes / np.sqrt(n) if self._few else axes
        self._mean = self._values.sum() / width if self._few else self._values.mean()

    def seen(self, vectors: np.ndarray) -> Seen:
        return Seen(vectors, vectors @ self._axes)

    def cosines(self, x: Seen, y: Seen, shrinkage: float) -> np.ndarray:
        """float [N, I] between N and I vectors, each as `seen` gives it."""
        level = shrinkage * max(self._mean, 1e-9)
        scale = np.sqrt(self._values + level)
        if not self._few:
            return unit(x.along / scale) @ unit(y.along / scale).T  # less P's last rotation, which no cosine sees
        a, b = x.along / scale, y.along / scale
        lengths = [np.sqrt(np.maximum((s.vectors**2).sum(1) - (w**2).sum(1), 1e-24)) for s, w in ((x, a), (y, b))]
        return (x.vectors @ y.vectors.T - a @ b.T) / np.outer(*lengths)
