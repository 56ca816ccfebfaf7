"""Distances between two sets of images, on the features of a named extractor.

A value belongs to its extractor: FID on Inception and FID on EfficientNet-Lite0 are two metrics, and the caller names
them apart.
"""

import numpy as np


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FID (Heusel et al. 2017, arXiv 1706.08500, Eq. 6); lower is closer.

    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), covariances with n - 1. The trace of the root is the sum of the
    singular values of A B^T, with A^T A = C_a and B^T B = C_b, which is exact for covariances of any rank (n < D
    included) and needs no offset.

    Its bias is positive and falls about as 1 / n: two sets of one distribution do not get 0. Compare only at one n, and
    do not trust it below a few thousand images; with fewer, use KID.

    Args:
        a: float [N, D]; b: float [M, D]; N, M >= 2.

    Returns: a value >= 0 in squared feature units.

    Raises ValueError for other shapes or values that are not finite.
    """
    a, b = _pair(a, b)
    root_a, root_b = _covariance_root(a), _covariance_root(b)
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return max(float(means + (root_a**2).sum() + (root_b**2).sum() - 2 * cross), 0.0)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """KID (Binkowski et al. 2018, arXiv 1801.01401): unbiased squared MMD, kernel (x.y / D + 1)^3; lower is closer.

    Expectation 0 for one distribution whatever n, so that small negative values occur and are not clipped. Do not
    bootstrap it by repeating images: a pair of equal images is not a pair of draws.

    Args and raises: as `frechet_distance`.
    """
    a, b = _pair(a, b)
    n, m = len(a), len(b)
    aa, bb = _kernel(a, a), _kernel(b, b)
    within_a = (aa.sum() - np.trace(aa)) / (n * (n - 1))
    within_b = (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within_a + within_b - 2 * _kernel(a, b).mean())


def _covariance_root(x: np.ndarray) -> np.ndarray:
    """[min(N, D), D] whose Gram matrix is the covariance of the rows."""
    return np.asarray(np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r"))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features must be [N, D] and [M, D] with N, M >= 2, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features must be finite")
    return a, b
