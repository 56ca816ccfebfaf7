"""A figure with its interval. Images of one subject are correlated: subjects are drawn first, then images of each."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Groups = Sequence[np.ndarray]
"""One array per subject, its first axis the subject's images."""

CHUNK = 2_000_000
EXACT_SIGNS = 12


@dataclass(frozen=True)
class Estimate:
    """A figure and its percentile bootstrap interval (Efron and Tibshirani 1993, section 13.3).

    Attributes:
        value: the figure on the data as they are.
        low, high: ends of the interval; NaN where one image alone gives none.
        n: images behind the figure.
        groups: subjects behind it. 1: the interval covers other images of that subject only, not other subjects.
        level: nominal coverage.
        undefined: share of resamples in which the figure had no value (only `bootstrap_ratio` can have any).
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    level: float = 0.95
    undefined: float = 0.0

    @property
    def covers(self) -> str:
        """What the interval generalizes to: "subjects and images" or "images of one subject"."""
        return "subjects and images" if self.groups > 1 else "images of one subject"

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    groups: Groups,
    statistic: Callable[[list[np.ndarray]], float],
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Interval of any statistic of all subjects' rows, by the two-stage bootstrap (subjects, then images of each).

    Args:
        groups: per subject, an array of its rows [n_s, ...]; the row count may differ between subjects.
        statistic: takes the list of (resampled) groups, returns a finite float; it must not rely on their order.
        rng: source of the draws.

    Raises ValueError for no or empty groups, for NaN in the data and when the statistic is not finite in a resample.
    """
    data = _checked(groups)
    value = _finite(statistic(data), "the statistic")
    samples = np.empty(resamples)
    for b in range(resamples):
        drawn = [data[s] for s in rng.integers(len(data), size=len(data))]
        drawn = [rows[rng.integers(len(rows), size=len(rows))] for rows in drawn]
        samples[b] = _finite(statistic(drawn), f"the statistic of resample {b}")
    return summarize(value, samples, sum(map(len, data)), len(data), level)


def bootstrap_mean(
    values: Groups,
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """`bootstrap` of the mean over all images of all subjects, vectorized.

    Args:
        values: per subject, float or bool [n_s], one value per image.
        bounds: smallest and largest possible value of one image, (0, 1) for hits. Where all values are equal the
            bootstrap would give an interval of no width; with bounds it takes the exact binomial ends instead (Clopper
            and Pearson 1934), as if each subject (or, with one subject, each image) were one trial.

    Raises ValueError as `bootstrap` does.
    """
    data = _checked(values, ndim=1)
    samples = resampled_means([rows[:, None] for rows in data], rng, resamples)[:, 0]
    flat = np.concatenate(data)
    estimate = summarize(float(flat.mean()), samples, flat.size, len(data), level)
    if bounds is not None and np.ptp(flat) == 0:
        trials = len(data) if len(data) > 1 else flat.size
        unseen = 1 - ((1 - level) / 2) ** (1 / trials)
        value = estimate.value
        low, high = value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
        return Estimate(value, low, high, flat.size, len(data), level)
    return estimate


def bootstrap_ratio(
    numerators: Groups, denominators: Groups, rng: np.random.Generator, resamples: int = 1000, level: float = 0.95
) -> Estimate:
    """Sum of numerators over sum of denominators, both per image: hits over acquired probes, for example.

    The value is NaN when the denominators sum to 0. Resamples in which they do so have no value: they are left out of
    the interval, and their share is reported as `undefined`.

    Raises ValueError as `bootstrap` does, and when a subject's two arrays differ in length.
    """
    top, bottom = _checked(numerators, ndim=1), _checked(denominators, ndim=1)
    _same_lengths(top, bottom)
    n, total = sum(map(len, top)), sum(float(d.sum()) for d in bottom)
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan, n, len(top), level, undefined=1.0)
    means = resampled_means([np.stack(pair, 1) for pair in zip(top, bottom, strict=True)], rng, resamples)
    defined = means[:, 1] != 0
    samples = means[defined, 0] / means[defined, 1]
    value = sum(float(t.sum()) for t in top) / total
    estimate = summarize(value, samples, n, len(top), level)
    return Estimate(value, estimate.low, estimate.high, n, len(top), level, undefined=float(1 - defined.mean()))


def resampled_means(groups: Groups, rng: np.random.Generator, resamples: int = 1000) -> np.ndarray:
    """Column means under the two-stage bootstrap.

    The columns share their draws, so that any function of them (a minimum over attackers, a hypervolume over strengths)
    gets its interval from `summarize(function(means), function(resampled), ...)`.

    Args:
        groups: per subject, float [n_s, K]; n_s may differ.

    Returns: float64 [resamples, K].
    """
    data = _checked(groups, ndim=2)
    if len({rows.shape[1] for rows in data}) > 1:
        raise ValueError(f"subjects differ in columns: {sorted({rows.shape[1] for rows in data})}")
    lengths = np.array([len(rows) for rows in data])
    starts = np.cumsum(lengths) - lengths
    rows = np.concatenate(data)
    width = int(lengths.max())
    step = max(1, CHUNK // (len(data) * width * rows.shape[1]))
    means = np.empty((resamples, rows.shape[1]))
    for first in range(0, resamples, step):
        b = min(step, resamples - first)
        subjects = rng.integers(len(data), size=(b, len(data)))
        n = lengths[subjects][..., None]
        picks = starts[subjects][..., None] + (rng.random((b, len(data), width)) * n).astype(np.intp)
        used = np.arange(width) < n  # a subject with fewer images than the largest draws only as many as it has
        sums = np.where(used[..., None], rows[picks], 0.0).sum((1, 2))
        means[first : first + b] = sums / n.sum((1, 2))[:, None]
    return means


def summarize(value: float, samples: np.ndarray, n: int, groups: int, level: float = 0.95) -> Estimate:
    """The estimate whose interval is the middle `level` of the resampled values. ValueError for NaN samples."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if np.isnan(samples).any():
        raise ValueError(f"{int(np.isnan(samples).sum())} of {len(samples)} resampled values are NaN")
    if n < 2 or len(samples) == 0:
        return Estimate(value, math.nan, math.nan, n, groups, level)
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n, groups, level)


@dataclass(frozen=True)
class PairedDifference:
    """Mean of first minus second over the same images.

    Attributes:
        estimate: the difference and its interval.
        p_value: two-sided sign-flip permutation test over subjects (null: a subject's difference is symmetric about
            0); None with one subject, which leaves nothing to permute. With S subjects it is never below 2 / 2^S.
    """

    estimate: Estimate
    p_value: float | None


def paired_difference(
    first: Groups, second: Groups, rng: np.random.Generator, resamples: int = 1000, level: float = 0.95
) -> PairedDifference:
    """Two defenses on the same subjects, prompts and seeds: mean per-image difference, interval and test.

    Args:
        first, second: per subject, float [n_s]; element i of both is the same prompt and seed.

    Raises ValueError when the two do not hold the same subjects with the same image counts, and as `bootstrap` does.
    """
    a, b = _checked(first, ndim=1), _checked(second, ndim=1)
    _same_lengths(a, b)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    estimate = bootstrap_mean(differences, rng, resamples, level)
    if len(differences) == 1:
        return PairedDifference(estimate, None)
    sums = np.array([d.sum() for d in differences])
    if len(sums) <= EXACT_SIGNS:
        signs = 1 - 2 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1)
        extreme = np.abs(signs @ sums) >= np.abs(sums.sum()) * (1 - 1e-12)
        return PairedDifference(estimate, float(extreme.mean()))
    signs = rng.choice([-1, 1], size=(9999, len(sums)))
    extreme = np.abs(signs @ sums) >= np.abs(sums.sum()) * (1 - 1e-12)
    return PairedDifference(estimate, float((1 + extreme.sum()) / (1 + len(extreme))))


def _checked(groups: Groups, ndim: int | None = None) -> list[np.ndarray]:
    data = [np.asarray(rows, dtype=np.float64) for rows in groups]
    if not data:
        raise ValueError("no subjects")
    for s, rows in enumerate(data):
        if len(rows) == 0:
            raise ValueError(f"subject {s} has no images; leave it out explicitly or count it as failed")
        if ndim is not None and rows.ndim != ndim:
            raise ValueError(f"subject {s}: expected {ndim} dimensions, got shape {rows.shape}")
        if np.isnan(rows).any():
            raise ValueError(
                f"subject {s} has {int(np.isnan(rows).sum())} NaN values; a failed image needs a policy, not an average"
            )
    return data


def _same_lengths(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    if list(map(len, a)) != list(map(len, b)):
        raise ValueError(f"not the same images: counts per subject are {list(map(len, a))} and {list(map(len, b))}")


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}")
    return float(value)
