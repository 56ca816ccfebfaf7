"""Can mated and non-mated scores be told apart, anywhere on their axis? Gomez-Barrero et al.'s linkability."""

import numpy as np

FEWEST = 20


def local_linkability(mated: np.ndarray, nonmated: np.ndarray) -> np.ndarray:
    """Local linkability at each mated score; its mean is the global linkability D_sys.

    Gomez-Barrero et al. 2018 (IEEE TIFS 13(6), Eq. 8 and 11), prior ratio omega = 1: D(s) = 2 LR / (1 + LR) - 1 where
    LR = p(s | mated) / p(s | non-mated) > 1, else 0, and D_sys = integral of p(s | mated) D(s). 0: unlinkable, 1: fully
    linkable; lower is more private. Only scores that are *likelier* for mated pairs count, on either side of the axis.

    Densities are histograms, as in the authors' code: min(M / 10, 100) equal bins over the range of both sets for M mated
    scores, summed as the step functions they are. They are biased upwards for few scores.

    Args:
        mated: float [M], scores of pairs of one identity. nonmated: float [N], of two identities.

    Returns: float [M] in [0, 1].

    Raises ValueError for fewer than 20 scores of a kind, or NaN.
    """
    mated, nonmated = _scores(mated), _scores(nonmated)
    low, high = min(mated.min(), nonmated.min()), max(mated.max(), nonmated.max())
    if low == high:
        return np.zeros(mated.size)
    edges = np.linspace(low, high, min(mated.size // 10, 100) + 1)
    m, n = (np.histogram(s, edges)[0] / s.size for s in (mated, nonmated))
    local = np.maximum(m - n, 0) / np.where(m > n, m + n, 1.0)
    # np.histogram closes the last bin on the right.
    return local[np.clip(np.searchsorted(edges, mated, side="right") - 1, 0, len(local) - 1)]


def _scores(values: np.ndarray) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size < FEWEST or np.isnan(scores).any():
        raise ValueError(f"D_sys needs a vector of at least {FEWEST} scores without NaN, got shape {scores.shape}")
    return scores
