"""Means of scores by t, other statistics by a bootstrap that is widened for few subjects."""

import math

import numpy as np
import pytest
from scipy import stats

from iddmbench.metrics.bootstrap import bootstrap, mean_interval, resampled_means, summarize


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ragged(seed: int = 1) -> list[np.ndarray]:
    draw = rng(seed)
    return [draw.normal(draw.normal(), 1, size=n) for n in (3, 9, 5, 16, 7, 12)]


def pooled(groups: list[np.ndarray]) -> float:
    return float(np.concatenate(groups).mean())


def test_equal_groups_give_the_t_interval_of_subject_means() -> None:
    data = [rng(s).normal(s, 1, size=8) for s in range(6)]
    theirs = stats.ttest_1samp([d.mean() for d in data], 0).confidence_interval(0.95)
    ours = mean_interval(data)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert (ours.n, ours.groups) == (48, 6)


def test_one_subject_gives_the_t_interval_of_its_images() -> None:
    values = rng(2).exponential(size=40)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = mean_interval([values])
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.covers == "images of one subject"


def test_unequal_groups_keep_the_mean_over_images() -> None:
    ours = mean_interval(ragged())
    assert ours.value == pytest.approx(pooled(ragged())) and ours.low < ours.value < ours.high


def test_fast_resampling_agrees_with_the_general_one() -> None:
    seen: list[float] = []
    general = bootstrap(ragged(), lambda groups: seen.append(pooled(groups)) or seen[-1], rng(), resamples=3000)
    fast = resampled_means([d[:, None] for d in ragged()], rng(7), 3000)[:, 0]
    assert stats.ks_2samp(fast, seen[1:]).pvalue > 1e-3
    low, high = np.quantile(seen[1:], [0.025, 0.975])
    stretch = math.sqrt(6 / 5) * stats.t.ppf(0.975, 5) / stats.norm.ppf(0.975)
    assert general.low == pytest.approx(general.value - stretch * (general.value - low))
    assert general.high == pytest.approx(general.value + stretch * (high - general.value))


def test_few_subjects_are_widened_and_bounds_are_kept() -> None:
    samples = rng(1).normal(0.9, 0.05, 2000)
    widths = [(e := summarize(0.9, samples, 64, k, bounds=(0.0, 1.0))).high - e.low for k in (2, 4, 12, 100)]
    assert widths == sorted(widths, reverse=True)
    assert summarize(0.9, samples, 64, 2, bounds=(0.0, 1.0)).high == 1.0
    plain = np.subtract(*np.quantile(samples, [0.975, 0.025]))
    assert summarize(0.9, samples, 64, 1000).high - summarize(0.9, samples, 64, 1000).low == pytest.approx(
        plain, rel=5e-3
    )


def test_variance_has_both_levels() -> None:
    """Two-stage variance of a balanced mean: between subjects / S + within subjects / (S n), plug-in variances."""
    data = [rng(s).normal(3 * s, 2, size=10) for s in range(8)]
    means = resampled_means([d[:, None] for d in data], rng(5), 20000)[:, 0]
    expected = np.var([d.mean() for d in data]) / 8 + np.mean([d.var() for d in data]) / 80
    assert means.var() == pytest.approx(expected, rel=0.05)


def test_columns_share_their_draws() -> None:
    data = [rng(s).normal(size=(6, 1)) for s in range(5)]
    means = resampled_means([np.hstack([d, 2 * d]) for d in data], rng(), 50)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])


def test_chunks_do_not_change_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resampled_means([d[:, None] for d in ragged()], rng(), 4000)
    monkeypatch.setattr("iddmbench.metrics.bootstrap.CHUNK", 3000)
    parts = resampled_means([d[:, None] for d in ragged()], rng(1), 4000)
    assert stats.ks_2samp(whole[:, 0], parts[:, 0]).pvalue > 1e-3


def test_same_generator_same_interval() -> None:
    assert bootstrap(ragged(), pooled, rng(9), 50) == bootstrap(ragged(), pooled, rng(9), 50)
    assert bootstrap(ragged(), pooled, rng(9), 50) != bootstrap(ragged(), pooled, rng(10), 50)


@pytest.mark.parametrize(
    "groups, message",
    [([], "no subjects"), ([np.array([])], "no images"), ([np.array([1.0, math.nan])], "1 NaN values")],
)
def test_failed_groups_are_errors(groups: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(groups)
    with pytest.raises(ValueError, match=message):
        bootstrap(groups, pooled, rng())


def test_other_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        summarize(0.0, np.array([0.0, math.nan]), 2, 1)
    with pytest.raises(ValueError, match="resample"):
        bootstrap([np.array([0.0, 1.0])], lambda g: 1 / g[0].sum() if g[0].sum() == 1 else math.inf, rng())


def test_one_image_has_no_interval() -> None:
    assert math.isnan(mean_interval([np.array([1.0])]).low)
