"""Can two posts be told to come from one model? Linkability of outputs to each other, no gallery needed.

Mated scores compare two outputs of one model, non-mated scores outputs of two models of different people.
"""

from typing import Literal

import numpy as np

from iddmbench.metrics.verification import eer

FEWEST = 20
GRID = 1024


def d_sys(mated: np.ndarray, nonmated: np.ndarray, density: Literal["histogram", "kde"] = "histogram") -> float:
    """Global linkability D_sys of Gomez-Barrero et al. 2018 (IEEE TIFS 13(6), Eq. 8 and 11), prior ratio omega = 1.

    Local linkability at score s: D(s) = 2 LR / (1 + LR) - 1 where LR = p(s | mated) / p(s | non-mated) > 1, else 0.
    D_sys = integral of p(s | mated) D(s). In [0, 1]: 0 unlinkable, 1 fully linkable; lower is more private. Only scores
    that are *likelier* for mated pairs count, on either side of the axis.

    Densities: "histogram", as in the authors' code, min(M / 10, 100) equal bins over the range of both sets for M mated
    scores, summed as the step functions they are; "kde", Gaussian kernels of Scott's width on a grid of 1,024 points.
    Both are biased upwards for few scores, the histogram more: read D_sys beside `d_sys_null`. KDE smooths the edge of
    scores that are bounded (cosine 1).

    Raises ValueError for fewer than 20 scores of a kind, NaN, or (kde) scores that do not vary.
    """
    mated, nonmated = _scores(mated), _scores(nonmated)
    low, high = min(mated.min(), nonmated.min()), max(mated.max(), nonmated.max())
    if density == "histogram":
        if low == high:
            return 0.0
        edges = np.linspace(low, high, min(mated.size // 10, 100) + 1)
        m, n = (np.histogram(s, edges)[0] / s.size for s in (mated, nonmated))
        return _integrate(m, n)
    if density != "kde":
        raise ValueError(f"density must be 'histogram' or 'kde', got {density!r}")
    if np.ptp(mated) == 0 or np.ptp(nonmated) == 0:
        raise ValueError("scores that do not vary have no kernel density; use density='histogram'")
    from scipy.stats import gaussian_kde

    kernels = gaussian_kde(mated), gaussian_kde(nonmated)
    margin = 4 * max(float(np.sqrt(k.covariance[0, 0])) for k in kernels)
    grid = np.linspace(low - margin, high + margin, GRID)
    m, n = (k(grid) * (grid[1] - grid[0]) for k in kernels)
    return _integrate(m, n)


def local_linkability(mated: np.ndarray, nonmated: np.ndarray) -> np.ndarray:
    """D(s) at each mated score, float [M] in [0, 1], by the histograms of `d_sys`, which is its mean."""
    mated, nonmated = _scores(mated), _scores(nonmated)
    low, high = min(mated.min(), nonmated.min()), max(mated.max(), nonmated.max())
    if low == high:
        return np.zeros(mated.size)
    edges = np.linspace(low, high, min(mated.size // 10, 100) + 1)
    m, n = (np.histogram(s, edges)[0] / s.size for s in (mated, nonmated))
    local = np.maximum(m - n, 0) / np.where(m > n, m + n, 1.0)
    # np.histogram closes the last bin on the right.
    return local[np.clip(np.searchsorted(edges, mated, side="right") - 1, 0, len(local) - 1)]


def d_sys_null(
    mated: np.ndarray,
    nonmated: np.ndarray,
    rng: np.random.Generator,
    density: Literal["histogram", "kde"] = "histogram",
    repeats: int = 20,
) -> float:
    """Mean D_sys when the pairs' labels are shuffled: what these numbers of scores give with nothing to link."""
    mated, nonmated = _scores(mated), _scores(nonmated)
    pool = np.concatenate([mated, nonmated])
    shuffles = (rng.permutation(pool) for _ in range(repeats))
    return float(np.mean([d_sys(s[: mated.size], s[mated.size :], density) for s in shuffles]))


def cross_post_scores(vectors: np.ndarray, models: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs of outputs.

    Args:
        vectors: float [N, D], only outputs in which a face was found.
        models: [N] label of the model (one per subject) that made each output.

    Returns: mated scores (both outputs of one model) and non-mated scores, N (N - 1) / 2 values together. The pairs
        overlap, so they are fewer independent observations than they look: bootstrap over models.

    Raises ValueError for zero vectors or shapes that do not fit.
    """
    x, models = np.asarray(vectors, dtype=np.float64), np.asarray(models)
    if x.ndim != 2 or models.shape != x.shape[:1]:
        raise ValueError(f"vectors {x.shape} and models {models.shape} do not fit together")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if (norms == 0).any():
        raise ValueError(f"{int((norms == 0).sum())} zero vectors: leave out outputs without a face and count them")
    x = x / norms
    i, j = np.triu_indices(len(x), k=1)
    scores, same = (x @ x.T)[i, j], models[i] == models[j]
    return scores[same], scores[~same]


def cross_post_eer(vectors: np.ndarray, models: np.ndarray) -> float:
    """Equal error rate of telling two posts of one model from posts of two; higher is more private, 0.5 unlinkable.

    Raises as `cross_post_scores` and `iddmbench.metrics.verification.eer` do (one model, or one output each).
    """
    return eer(*cross_post_scores(vectors, models))


def _integrate(mated: np.ndarray, nonmated: np.ndarray) -> float:
    """Sum of m (m - n) / (m + n) where m > n, which is m D(s) with LR = m / n written without the division by 0."""
    total = np.where(mated > nonmated, mated + nonmated, 1.0)
    return float((mated * np.maximum(mated - nonmated, 0) / total).sum())


def _scores(values: np.ndarray) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size < FEWEST or np.isnan(scores).any():
        raise ValueError(f"D_sys needs a vector of at least {FEWEST} scores without NaN, got shape {scores.shape}")
    return scores
