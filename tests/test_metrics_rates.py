"""Intervals of rates: exact where the answer is known, monotone, symmetric, one method whatever is lost, and covering."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from iddmbench.metrics.rates import Rate, ends_first, rate_interval, rate_intervals

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from interval_coverage import coverage_of_means, coverage_of_percentiles, coverage_of_rates

EXACT = 1e-6


def subjects(*hits: int, images: int = 16) -> list[np.ndarray]:
    return [np.r_[np.ones(h), np.zeros(images - h)] for h in hits]


def ends(values: list[np.ndarray]) -> tuple[float, float]:
    estimate = rate_interval(values)
    return estimate.low, estimate.high


def width(values: list[np.ndarray]) -> float:
    low, high = ends(values)
    return high - low


@pytest.mark.parametrize("linked", range(13))
def test_all_or_none_is_clopper_pearson_over_subjects(linked: int) -> None:
    exact = stats.binomtest(linked, 12).proportion_ci(0.95, method="exact")
    assert ends(subjects(*[16] * linked, *[0] * (12 - linked))) == pytest.approx((exact.low, exact.high), abs=EXACT)


def test_nobody_linked_among_twelve() -> None:
    """The case that switched methods: [0, 26 %] with no face lost, three lost; and with one image linked no narrower."""
    nobody = subjects(*[0] * 12)
    lost = [v.copy() for v in nobody]
    for s in (0, 4, 9):
        lost[s][0] = math.nan
    all_of_one = [v.copy() for v in nobody]
    all_of_one[0][:3] = math.nan
    assert ends(nobody) == pytest.approx((0, 0.2646), abs=1e-4)
    for values in (lost, all_of_one, subjects(1, *[0] * 11)):
        low, high = ends(values)
        assert 0 <= low < 1e-3 and 0.2646 < high < 0.28
    assert width(subjects(1, *[0] * 11)) > width(nobody)


def test_against_drawn_weights() -> None:
    """The definition: the quantile of the rate over random Dirichlet weights, one more subject added, by Monte Carlo."""
    rng = np.random.default_rng(1)
    images = np.array([16, 16, 9, 12, 16, 3, 16, 16])
    hits = np.array([3, 16, 0, 4, 1, 3, 0, 7])
    values = [np.r_[np.ones(h), np.zeros(n - h), np.full(16 - n, np.nan)] for h, n in zip(hits, images, strict=True)]
    weights = rng.exponential(size=(400_000, 9))
    totals = weights @ np.r_[images, 16]
    low = np.quantile(weights @ np.r_[hits, 0] / totals, 0.025)
    high = np.quantile(weights @ np.r_[hits, 16] / totals, 0.975)
    assert ends(values) == pytest.approx((low, high), abs=3e-3)
    assert rate_interval(values).value == hits.sum() / images.sum()


def test_the_race_of_exponential_sums() -> None:
    rng = np.random.default_rng(2)
    c = np.array([[1.0, -2, 0.5, -0.1, 0], [1, 1, -1, -1, 0], [0.3, 0.2, 0.1, -5, -0.001]])
    drawn = (rng.exponential(size=(400_000, 5)) @ c.T <= 0).mean(0)
    np.testing.assert_allclose(ends_first(c), drawn, atol=4e-3)
    assert ends_first(c)[1] == pytest.approx(0.5)
    np.testing.assert_allclose(ends_first(np.array([[1.0, 2.0], [-1.0, -2.0], [0.0, -1.0]])), [0, 1, 1])


def test_ends_rise_with_every_hit() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        hits = np.zeros(int(rng.integers(2, 9)), int)
        before = ends(subjects(*hits, images=6))
        while (hits < 6).any():
            hits[rng.choice(np.flatnonzero(hits < 6))] += 1
            after = ends(subjects(*hits, images=6))
            assert after[0] >= before[0] - EXACT and after[1] >= before[1] - EXACT
            before = after


def test_losing_an_image_never_narrows() -> None:
    """Of a rate of 0 or 1 any image; of another, one of the more frequent kind (the others move the rate itself to the end)."""
    rng = np.random.default_rng(4)
    for common in (0.0, 1.0):
        for share in (0.0, 0.1, 0.3):
            values = [np.where(rng.random(8) < share, 1 - common, common) for _ in range(6)]
            before = width(values)
            for _ in range(20):
                if abs(rate_interval(values).value - common) > 0.45:
                    break
                s = int(rng.choice([i for i, v in enumerate(values) if (v == common).sum() > 1]))
                values[s][rng.choice(np.flatnonzero(values[s] == common))] = math.nan
                after = width(values)
                assert after >= before - EXACT
                before = after


def test_lost_subjects_do_not_switch_the_method() -> None:
    one_left = [np.zeros(16), *(np.full(16, math.nan) for _ in range(11))]
    assert ends(one_left) == pytest.approx((0, 0.975), abs=EXACT), "one subject of several, not sixteen images"
    assert rate_interval(one_left).covers == "subjects and images"
    assert math.isnan(rate_interval([np.full(4, math.nan)] * 2).value)


def test_hit_and_miss_can_be_swapped() -> None:
    values = subjects(3, 16, 0, 5, 2)
    low, high = ends(values)
    assert ends([1 - v for v in values]) == pytest.approx((1 - high, 1 - low), abs=EXACT)


def test_one_subject_is_its_images() -> None:
    estimate = rate_interval(subjects(3))
    exact = stats.binomtest(3, 16).proportion_ci(0.95, method="exact")
    assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high), abs=EXACT)
    assert estimate.covers == "images of one subject" and estimate.groups == 1


def test_fractions_of_a_hit_and_order_of_subjects() -> None:
    values = [np.full(4, 0.25), np.full(4, 0.5), np.array([0.1, 0.2, 0.9, 0.8])]
    low, high = ends(values)
    assert 0 < low < rate_interval(values).value < high < 1
    assert ends(values[::-1]) == pytest.approx((low, high), abs=EXACT)


def test_many_at_once_are_what_each_is() -> None:
    some = [subjects(3, 2, 9), subjects(1), subjects(0, 0, 0, 0), subjects(16, 2)]
    together = rate_intervals([Rate.of(v) for v in some])
    for one, values in zip(together, some, strict=True):
        assert (one.low, one.high) == pytest.approx(ends(values), abs=EXACT)


@pytest.mark.parametrize("values", [[], [np.array([[1.0]])], [np.array([1.5])], [np.array([-0.1, 0.0])]])
def test_misuse_is_refused(values: list[np.ndarray]) -> None:
    with pytest.raises(ValueError):
        rate_interval(values)
    with pytest.raises(ValueError, match="level"):
        rate_interval([np.zeros(2)], level=1.0)


# ---- coverage: small versions of benchmarks/interval_coverage.py --------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4, 6, 12])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("correlation", [0.1, 0.4, 0.8])
def test_rates_are_covered(count: int, rate: float, correlation: float) -> None:
    share, _ = coverage_of_rates(count, rate, correlation, draws=150)
    assert share >= 0.93


def test_the_percentile_bootstrap_is_not_good_enough() -> None:
    """What was printed before: the test would fail with it."""
    assert coverage_of_percentiles(2, 0.2, 0.4, 150) < 0.85 and coverage_of_percentiles(6, 0.2, 0.4, 150) < 0.9


def test_means_of_scores_are_covered() -> None:
    assert all(coverage_of_means(count, skewed=False, draws=300)[0] >= 0.92 for count in (2, 4, 12))
