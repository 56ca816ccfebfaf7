"""Linear concept erasure: features from which no linear classifier can read a concept, changed as little as possible."""

from dataclasses import dataclass

import numpy as np

RANK = 1e-6
"""Directions whose singular value is below this share of the largest one count as empty."""


@dataclass(frozen=True)
class LinearEraser:
    """LEACE (Belrose et al. 2023, arXiv 2306.03819, Theorem 4.3): r(x) = x - W^+ P W (x - mu), where W whitens the features
    and P projects onto the column space of W Sigma_xz.

    On the data that it was fitted on, features and concept are uncorrelated after it, so that no linear classifier beats the
    constant one, and no other affine map that achieves this moves the features less, in mean squared distance. Of other data
    it promises nothing.

    Attributes:
        mean: float [D]. directions: float [D, K], what is taken away; readers: float [K, D], how much of each there is.
    """

    mean: np.ndarray
    directions: np.ndarray
    readers: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, concept: np.ndarray) -> "LinearEraser":
        """Args:
            features: float [N, D], any N and D; directions that no feature takes are left alone.
            concept: float [N, C], such as one-hot columns of whose photo it is.

        Raises ValueError for other shapes, fewer than two rows, or values that are not finite.
        """
        x, z = np.asarray(features, dtype=np.float64), np.asarray(concept, dtype=np.float64)
        if x.ndim != 2 or z.ndim != 2 or len(x) != len(z) or len(x) < 2:
            raise ValueError(f"features {x.shape} and concept {z.shape} must be [N, D] and [N, C] with N >= 2")
        if not (np.isfinite(x).all() and np.isfinite(z).all()):
            raise ValueError("features and concept must be finite")
        mean = x.mean(0)
        # With x - mu = U S V', whitening turns the features into sqrt(N) U, and W Sigma_xz into U' z / sqrt(N).
        u, s, v = np.linalg.svd(x - mean, full_matrices=False)
        there = s > RANK * max(float(s[0]), np.finfo(float).tiny)
        u, s, v = u[:, there], s[there], v[there]
        basis, sizes, _ = np.linalg.svd(u.T @ (z - z.mean(0)), full_matrices=False)
        basis = basis[:, sizes > RANK * max(float(np.linalg.norm(z)), np.finfo(float).tiny)]
        return cls(mean, v.T @ (s[:, None] * basis), (basis / s[:, None]).T @ v)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float [N, D] without the concept."""
        x = np.asarray(features, dtype=np.float64)
        return x - (x - self.mean) @ self.readers.T @ self.directions.T
