"""How far would a calibrated threshold move with other people to calibrate on?"""

import numpy as np

from iddmbench.metrics.estimate import LEVEL, check_level

RESAMPLES = 1000
ROWS = 100
HEAD = 4
"""The threshold is first looked for among so many times the share of pairs that lies above it."""


def threshold_interval(
    scores: np.ndarray,
    people: np.ndarray,
    others: np.ndarray,
    far: float,
    rng: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Ends of the threshold at `far` when the people of the calibration set are resampled (percentile bootstrap).

    A person drawn w times counts w times on both sides: the pair of a photo of i and the template of j weighs w_i w_j. Pairs
    share people, so to resample pairs would say far too little.

    Args:
        scores: float [P] of impostor pairs. people, others: int [P], who is on the photo, whose template it is; 0 .. N - 1.
        far: in (0, 1). rng: source of the draws.

    Returns: (low, high), as `iddmbench.metrics.verification.threshold_at_far` sets thresholds.
    """
    check_level(level)
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked, a, b = np.asarray(scores)[order], np.asarray(people)[order], np.asarray(others)[order]
    # Equal scores are refused together: a run of them ends where the next score is lower.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    count = int(max(a.max(), b.max())) + 1
    pairs = np.zeros((count, count))
    np.add.at(pairs, (a, b), 1)
    size, found = int(np.ceil(HEAD * far * len(ranked))), []
    for first in range(0, resamples, ROWS):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(ROWS, resamples - first)).astype(float)
        most = far * ((drawn @ pairs) * drawn).sum(1, keepdims=True) * (1 + 1e-9)
        while True:
            total = np.cumsum(drawn[:, a[:size]] * drawn[:, b[:size]], axis=1)
            above = total[:, ends[ends < size]] > most
            if size >= len(ranked) or above.any(1).all():
                break
            size *= 2
        found.append(ranked[ends[above.argmax(1)]])
    values = np.concatenate(found)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    kind = np.float32 if ranked.dtype == np.float32 else np.float64
    return tuple(float(np.nextafter(kind(v), kind(np.inf))) for v in (low, high))  # type: ignore[return-value]
