"""Intervals of rates: one subject-level method for every share of images, whatever the number of hits and of lost faces.

Images of one subject are correlated, so the subjects are what the interval counts. Its ends are those of Gaffke (2005), studied
by Learned-Miller and Thomas (arXiv 1905.06208): give the subjects random weights from the flat Dirichlet distribution, together
with one more subject whose images are all hits (for the upper end) or all misses (for the lower), and take the quantile of the
weighted rate. No model of how images correlate enters.

- Where each subject's images are all hits or all misses, the ends are exactly Clopper and Pearson's with subjects as trials.
- Both ends rise with every subject's hits, exactly; hit and miss can be swapped; a subject or image less never narrows the
  interval of a rate of 0 or 1. With 12 subjects none of whom is linked it is [0, 26 %].
- Its coverage is proven for all-or-none subjects and conjectured for every distribution; `benchmarks/interval_coverage.py`
  simulates it.

The weights G_i of the Dirichlet distribution are exponential variables, so P(weighted rate <= t) = P(sum G_i (h_i - t n_i)
<= 0): the chance that the sum of the positive terms ends before that of the negative ones, each a sequence of exponential
stages. By their lack of memory that is a sum over who finishes the next stage first, in which nothing cancels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from iddmbench.metrics.estimate import LEVEL, Estimate, Groups, check_level, unknown

PRECISION = 1e-9
STEPS = 80


@dataclass(frozen=True)
class Rate:
    """Hits over images of K subjects.

    Attributes:
        hits: float [K]; fractions of a hit are allowed (a guess, a score in [0, 1]).
        images: float [K], those that count; 0 for a subject whose images are all lost.
        most: images of the subject with most, lost ones included: the size of the subject that is added.
    """

    hits: np.ndarray
    images: np.ndarray
    most: float

    @classmethod
    def of(cls, values: Groups) -> "Rate":
        """From per-image values float or bool [n_s] in [0, 1] per subject; NaN: the image is lost.

        Raises ValueError for no subjects, values outside [0, 1] and arrays that are not flat.
        """
        data = [np.asarray(v, dtype=np.float64) for v in values]
        if not data:
            raise ValueError("no subjects")
        if any(v.ndim != 1 for v in data):
            raise ValueError(f"expected one value per image, got shapes {[v.shape for v in data]}")
        known = [v[~np.isnan(v)] for v in data]
        if any(((v < 0) | (v > 1)).any() for v in known):
            raise ValueError("a rate needs values between 0 and 1")
        hits, images = np.array([v.sum() for v in known]), np.array([len(v) for v in known], dtype=float)
        return cls(hits, images, float(max(map(len, data))))

    @property
    def value(self) -> float:
        """All hits over all images; NaN without any image."""
        total = self.images.sum()
        return float(self.hits.sum() / total) if total else math.nan


def rate_interval(values: Groups, level: float = LEVEL) -> Estimate:
    """The rate of per-image values in [0, 1] (NaN: lost) over all images of all subjects, with its interval.

    With one subject (before any image is lost) images are the trials, and the estimate says so by `groups` = 1.

    Raises ValueError as `Rate.of` does, and for a level outside (0, 1).
    """
    return rate_intervals([Rate.of(values)], level)[0]


def rate_intervals(rates: Sequence[Rate], level: float = LEVEL) -> list[Estimate]:
    """`rate_interval` of many rates at once."""
    check_level(level)
    found: list[Estimate] = [unknown(0, len(r.hits), level) for r in rates]
    by_size: dict[int, list[int]] = {}
    for i, rate in enumerate(rates):
        if rate.images.sum() > 0:
            by_size.setdefault(len(rate.hits), []).append(i)
    for subjects, places in by_size.items():
        some = [rates[i] for i in places]
        low, high = (_images if subjects == 1 else _subjects)(some, (1 - level) / 2)
        for i, rate, a, b in zip(places, some, low, high, strict=True):
            value = rate.value
            n = int(rate.images.sum())
            found[i] = Estimate(value, float(min(a, value)), float(max(b, value)), n, subjects, level)
    return found


def _images(rates: Sequence[Rate], tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's ends with images as trials; fractional hits by the same Beta quantiles."""
    x, n = np.array([r.hits[0] for r in rates]), np.array([r.images[0] for r in rates])
    with np.errstate(invalid="ignore"):
        low = np.where(x > 0, beta.ppf(tail, np.maximum(x, 1e-300), n - x + 1), 0.0)
        high = np.where(x < n, beta.ppf(1 - tail, x + 1, np.maximum(n - x, 1e-300)), 1.0)
    return low, high


def _subjects(rates: Sequence[Rate], tail: float) -> tuple[np.ndarray, np.ndarray]:
    hits, images = np.stack([r.hits for r in rates]), np.stack([r.images for r in rates])
    most = np.array([r.most for r in rates])[:, None]
    none = np.zeros_like(most)
    h = np.concatenate([np.concatenate([hits, none], 1), np.concatenate([hits, most], 1)])
    n = np.concatenate([np.concatenate([images, most], 1)] * 2)
    targets = np.repeat([tail, 1 - tail], len(rates))
    below, above = quantiles(h, n, targets)
    return below[: len(rates)], above[len(rates) :]


def quantiles(h: np.ndarray, n: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brackets [B], [B] of the quantiles of (sum G_i h_i) / (sum G_i n_i), G exponential, narrower than PRECISION.

    Args:
        h, n: float [B, M], 0 <= h <= n. targets: [B] in (0, 1).
    """
    low, high = np.zeros(len(h)), np.ones(len(h))
    f_low, f_high = -targets, 1 - targets  # of the distribution function less the target, at 0 and at 1
    side = np.zeros(len(h), dtype=int)
    for step in range(STEPS):
        left = np.flatnonzero(high - low > PRECISION)
        if not len(left):
            break
        a, b, fa, fb = low[left], high[left], f_low[left], f_high[left]
        # Regula falsi with the Illinois weights; every third step halves, so that the bracket always shrinks.
        t = (a + b) / 2 if step % 3 == 2 else np.clip((a * fb - b * fa) / (fb - fa), a, b)
        t = np.clip(t, a + PRECISION / 4, b - PRECISION / 4)
        f = ends_first(h[left] - t[:, None] * n[left]) - targets[left]
        under = f < 0
        low[left], f_low[left] = np.where(under, t, a), np.where(under, f, np.where(side[left] == 1, fa / 2, fa))
        high[left], f_high[left] = np.where(under, b, t), np.where(under, np.where(side[left] == -1, fb / 2, fb), f)
        side[left] = np.where(under, -1, 1)
    return low, high


def ends_first(c: np.ndarray) -> np.ndarray:
    """P(sum over i of c_i G_i <= 0) [B] for independent standard exponential G; c: float [B, M]."""
    count = len(c)
    order = np.sort(c, axis=1)
    most = max(1, int((c > 0).sum(1).max())), max(1, int((c < 0).sum(1).max()))
    up, down = np.maximum(order[:, ::-1][:, : most[0]], 0), np.maximum(-order[:, : most[1]], 0)
    # reached[:, j]: chance that the positive stages from i on end before the negative ones from j on. Row by row from the last:
    # a positive stage of mean p ends before a negative one of mean q with chance q / (p + q).
    rows, columns = most
    with np.errstate(invalid="ignore", divide="ignore"):
        first = down[:, None, :] / (up[:, :, None] + down[:, None, :])
    first = np.where(np.isnan(first), 1.0, first)  # two stages of no length: the positive side is through
    table = np.zeros((count, rows + 1, columns + 1))
    table[:, rows, :] = 1
    for total in range(rows + columns - 2, -1, -1):
        a = np.arange(max(0, total - columns + 1), min(rows, total + 1))
        b = total - a
        chance = first[:, a, b]
        table[:, a, b] = chance * table[:, a + 1, b] + (1 - chance) * table[:, a, b + 1]
    return table[:, 0, 0]
