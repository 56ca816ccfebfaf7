"""Two conditions over the same subjects: the difference, an exact test and its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iddmbench.metrics.estimate import LEVEL, check_level

EXACT = 16
"""Subjects up to which every choice of signs is tried."""
DRAWS = 9999


@dataclass(frozen=True)
class PairedDifference:
    """Mean over subjects of first minus second.

    Attributes:
        value: the mean difference.
        low, high: its interval, by inverting the test; infinite where so few subjects can't bound it (five or fewer at 95 %).
        p_value: two-sided sign-flip test (null: each subject's difference is symmetric about 0; Fisher 1935, section 21).
            With K subjects never below 2 / 2^K. None with one subject, which leaves nothing to flip.
        subjects: how many.
    """

    value: float
    low: float
    high: float
    p_value: float | None
    subjects: int

    def separates(self, alpha: float = 1 - LEVEL) -> bool:
        """Whether the test alone, without regard to other comparisons, tells the two apart."""
        return self.p_value is not None and self.p_value <= alpha


def paired_difference(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    rng: np.random.Generator,
    level: float = LEVEL,
) -> PairedDifference:
    """Compare one figure of two conditions, subject by subject.

    The one-sided p value of a shift d is the share of subject sets S (the empty one counts for the data as they are) whose mean
    difference is at most d, for flipping the signs of S turns the sum around just then. The interval holds all d that neither
    side rejects at (1 - level) / 2: its ends are order statistics of the means over sets (Hartigan 1969).

    Args:
        first, second: float [K], one value per subject (its images and seeds averaged); element i of both is the same subject.
        rng: used with more than 16 subjects only, where 9,999 random sets stand for all.

    Raises ValueError when the two differ in length, are empty or hold NaN.
    """
    check_level(level)
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"not the same subjects: shapes {a.shape} and {b.shape}")
    if not len(a):
        raise ValueError("no subjects")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("a subject has no value; leave it out of both")
    d = a - b
    value = float(d.mean())
    if len(d) == 1:
        return PairedDifference(value, -math.inf, math.inf, None, 1)
    means, total = _means_of_sets(d, rng), 0
    total = len(means) + 1
    slack = 1e-12 * max(1.0, float(np.abs(d).max()))
    upper, lower = (1 + int((means <= slack).sum())) / total, (1 + int((means >= -slack).sum())) / total
    ends = np.sort(means)
    kept = math.floor((1 - level) / 2 * total + 1e-9)
    low, high = (float(ends[kept - 1]), float(ends[-kept])) if kept else (-math.inf, math.inf)
    return PairedDifference(value, low, high, min(1.0, 2 * min(upper, lower)), len(d))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values adjusted for that many comparisons (Holm 1979), in the order given; None stays None and is not counted."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    reached = 0.0
    for place, (p, i) in enumerate(known):
        reached = max(reached, min(1.0, p * (len(known) - place)))
        found[i] = reached
    return found


def _means_of_sets(d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mean of `d` over every non-empty set of subjects, or over 9,999 random ones."""
    if len(d) <= EXACT:
        sums, sizes = np.zeros(1), np.zeros(1)
        for one in d:
            sums, sizes = np.concatenate([sums, sums + one]), np.concatenate([sizes, sizes + 1])
        return sums[1:] / sizes[1:]
    chosen = rng.random((DRAWS, len(d))) < 0.5
    chosen[~chosen.any(1), 0] = True  # an empty set, once in 2^17 draws or less
    return chosen @ d / chosen.sum(1)
