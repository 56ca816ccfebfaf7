import math

import numpy as np
import pytest
from scipy import stats

from iddmbench.metrics.estimate import (
    bootstrap,
    bootstrap_mean,
    bootstrap_ratio,
    paired_difference,
    resampled_means,
    summarize,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ragged(seed: int = 1) -> list[np.ndarray]:
    draw = rng(seed)
    return [draw.normal(draw.normal(), 1, size=n) for n in (3, 9, 5, 16, 7, 12)]


def pooled(groups: list[np.ndarray]) -> float:
    return float(np.concatenate(groups).mean())


def test_fast_path_agrees_with_the_general_one():
    seen: list[float] = []
    general = bootstrap(ragged(), lambda groups: seen.append(pooled(groups)) or seen[-1], rng(), resamples=3000)
    fast = resampled_means([d[:, None] for d in ragged()], rng(7), 3000)[:, 0]
    assert stats.ks_2samp(fast, seen[1:]).pvalue > 1e-3
    estimate = bootstrap_mean(ragged(), rng(7), resamples=3000)
    assert estimate.value == pytest.approx(general.value)
    assert (estimate.low, estimate.high) == pytest.approx(np.quantile(fast, [0.025, 0.975]))
    assert (general.low, general.high) == pytest.approx(np.quantile(seen[1:], [0.025, 0.975]))
    assert (estimate.n, estimate.groups) == (general.n, general.groups) == (52, 6)


def test_one_subject_equals_scipy_bootstrap():
    values = rng(2).exponential(size=40)
    ours = bootstrap_mean([values], rng(3), resamples=9999)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=9999, rng=rng(4)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours.covers == "images of one subject" and ours.groups == 1


def test_variance_has_both_levels():
    """Two-stage variance of a balanced mean: between subjects / S + within subjects / (S n), plug-in variances."""
    data = [rng(s).normal(3 * s, 2, size=10) for s in range(8)]
    means = resampled_means([d[:, None] for d in data], rng(5), 20000)[:, 0]
    expected = np.var([d.mean() for d in data]) / 8 + np.mean([d.var() for d in data]) / 80
    assert means.var() == pytest.approx(expected, rel=0.05)


def test_correlated_images_widen_the_interval():
    subjects = [np.full(20, float(s % 2)) for s in range(10)]
    images = [np.concatenate(subjects)]
    wide, narrow = bootstrap_mean(subjects, rng()), bootstrap_mean(images, rng())
    assert wide.value == narrow.value == 0.5
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_coverage_on_new_subjects():
    hits = 0
    for seed in range(200):
        draw = rng(seed)
        data = [draw.normal(draw.normal(0.5), 1, size=8) for _ in range(20)]
        estimate = bootstrap_mean(data, draw, resamples=400)
        hits += estimate.low <= 0.5 <= estimate.high
    assert 0.88 <= hits / 200 <= 0.99


def test_columns_share_their_draws():
    data = [rng(s).normal(size=(6, 1)) for s in range(5)]
    means = resampled_means([np.hstack([d, 2 * d]) for d in data], rng(), 50)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])


def test_chunks_do_not_change_the_distribution(monkeypatch):
    whole = resampled_means([d[:, None] for d in ragged()], rng(), 4000)
    monkeypatch.setattr("iddmbench.metrics.estimate.CHUNK", 3000)
    parts = resampled_means([d[:, None] for d in ragged()], rng(1), 4000)
    assert stats.ks_2samp(whole[:, 0], parts[:, 0]).pvalue > 1e-3


def test_same_generator_same_interval():
    assert bootstrap_mean(ragged(), rng(9)) == bootstrap_mean(ragged(), rng(9))
    assert bootstrap_mean(ragged(), rng(9)) != bootstrap_mean(ragged(), rng(10))


@pytest.mark.parametrize("value, end", [(0.0, "high"), (1.0, "low")])
def test_all_equal_hits_get_the_exact_binomial_end(value, end):
    estimate = bootstrap_mean([np.full(4, value)] * 12, rng(), bounds=(0, 1))
    exact = stats.binomtest(int(12 * value), 12).proportion_ci(0.95, method="exact")
    assert getattr(estimate, end) == pytest.approx(getattr(exact, end))
    assert {estimate.low, estimate.high} & {value}
    assert bootstrap_mean([np.full(4, value)] * 12, rng()).high == value


def test_ratio_leaves_out_what_has_no_denominator():
    acquired = [np.array([1, 1, 0.0]), np.array([0.0, 0, 0]), np.array([1, 0, 1.0])]
    hits = [np.array([1, 0, 0.0]), np.zeros(3), np.array([1, 0, 0.0])]
    estimate = bootstrap_ratio(hits, acquired, rng(), resamples=2000)
    assert estimate.value == 0.5
    # all three draws take subject 1 (1/27), or take images that were not acquired
    p_none = (1 / 3) * 1 + (1 / 3) * (1 / 27) + (1 / 3) * (1 / 27)
    assert estimate.undefined == pytest.approx(p_none**3, abs=0.02)
    nothing = bootstrap_ratio([np.zeros(3)], [np.zeros(3)], rng())
    assert math.isnan(nothing.value) and nothing.undefined == 1


def test_paired_test_equals_scipy_permutation():
    a, b = ragged(1), [d + rng(3).normal(0.3, 1, size=len(d)) for d in ragged(1)]
    ours = paired_difference(a, b, rng())
    sums = np.array([x.sum() - y.sum() for x, y in zip(a, b, strict=True)])
    theirs = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.estimate.value == pytest.approx(pooled(a) - pooled(b))


def test_pairing_removes_what_subjects_share():
    base = [np.full(10, 5.0 * s) for s in range(14)]
    better = [d + 0.1 + rng(s).normal(0, 0.05, size=10) for s, d in enumerate(base)]
    difference = paired_difference(better, base, rng())
    assert difference.estimate.low > 0.05
    assert difference.p_value is not None and difference.p_value < 0.01
    assert paired_difference(base[:1], base[:1], rng()).p_value is None


@pytest.mark.parametrize(
    "groups, message",
    [([], "no subjects"), ([np.array([])], "no images"), ([np.array([1.0, math.nan])], "1 NaN values")],
)
def test_failed_groups_are_errors(groups, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(groups, rng())
    with pytest.raises(ValueError, match=message):
        bootstrap(groups, pooled, rng())


def test_other_misuse_is_refused():
    with pytest.raises(ValueError, match="not the same images"):
        paired_difference([np.zeros(3)], [np.zeros(4)], rng())
    with pytest.raises(ValueError, match="NaN"):
        summarize(0.0, np.array([0.0, math.nan]), 2, 1)
    with pytest.raises(ValueError, match="resample"):
        bootstrap([np.array([0.0, 1.0])], lambda g: 1 / g[0].sum() if g[0].sum() == 1 else math.inf, rng())


def test_one_image_has_no_interval():
    assert math.isnan(bootstrap_mean([np.array([1.0])], rng()).low)
