"""The error of a threshold that few people calibrated."""

import numpy as np
import pytest

from iddmbench.metrics.threshold_error import threshold_interval
from iddmbench.metrics.verification import threshold_at_far


def pairs(people: int, photos: int, seed: int, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of every photo with every other person's template; some people look like many others."""
    rng = np.random.default_rng(seed)
    alike = rng.normal(0, spread, people)
    rows = [
        (alike[i] + alike[j] + rng.normal(0, 0.1), i, j)
        for i in range(people)
        for _ in range(photos)
        for j in range(people)
        if i != j
    ]
    scores, first, second = zip(*rows, strict=True)
    return np.array(scores), np.array(first), np.array(second)


def test_it_holds_the_threshold_and_narrows_with_people() -> None:
    widths: dict[int, list[float]] = {8: [], 32: []}
    for people, found in widths.items():
        for seed in range(5):
            scores, a, b = pairs(people, 2, seed)
            low, high = threshold_interval(scores, a, b, 0.05, np.random.default_rng(0), resamples=300)
            assert low <= threshold_at_far(scores, 0.05).value <= high
            found.append(high - low)
    assert np.mean(widths[8]) > 1.4 * np.mean(widths[32])


def test_against_resampling_written_out() -> None:
    """Pairs repeated as often as their people are drawn, the threshold set anew on each."""
    scores, a, b = pairs(10, 3, 2)
    low, high = threshold_interval(scores, a, b, 0.05, np.random.default_rng(0), resamples=2000)
    rng, found = np.random.default_rng(5), []
    for _ in range(600):
        times = np.bincount(rng.integers(10, size=10), minlength=10)
        again = np.repeat(scores, times[a] * times[b])
        found.append(threshold_at_far(again, 0.05).value)
    assert (low, high) == pytest.approx(np.quantile(found, [0.025, 0.975]), abs=0.03)


def test_pairs_alone_would_say_too_little() -> None:
    scores, a, b = pairs(12, 4, 3, spread=0.2)
    low, high = threshold_interval(scores, a, b, 0.05, np.random.default_rng(0), resamples=500)
    rng = np.random.default_rng(6)
    alone = [threshold_at_far(rng.choice(scores, scores.size), 0.05).value for _ in range(300)]
    assert high - low > 2 * np.subtract(*np.quantile(alone, [0.975, 0.025]))


@pytest.mark.parametrize("far", [0.05, 0.1, 0.4])
def test_it_is_the_quantile_of_thresholds_of_repeated_pairs(far: float) -> None:
    """Against pairs that are repeated as often as they weigh; equal scores included."""
    rng = np.random.default_rng(3)
    a, b = np.nonzero(~np.eye(12, dtype=bool))
    scores = rng.normal(size=len(a)).round(1)
    drawn = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=90)
    values = [threshold_at_far(np.repeat(scores, w[a] * w[b]), far).value for w in drawn]
    expected = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
    assert threshold_interval(scores, a, b, far, np.random.default_rng(0), resamples=90) == tuple(expected)
