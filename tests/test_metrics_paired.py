"""Paired comparisons against scipy's permutation test, and intervals against the test that they invert."""

import math

import numpy as np
import pytest
from scipy import stats

from iddmbench.metrics.paired import holm, paired_difference


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("subjects", [2, 5, 8, 12])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_p_value_is_scipys(subjects: int, shift: float) -> None:
    a, b = rng(1).random(subjects), np.round(rng(2).random(subjects), 1) + shift
    ours = paired_difference(a, b, rng())
    theirs = stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.value == pytest.approx(np.mean(a - b))


def test_more_subjects_than_can_be_tried() -> None:
    """Seventeen subjects by drawn signs, beside all 2^17 by scipy; and sixteen are exact whatever the generator."""
    a, b = rng(3).random(17), rng(4).random(17) + 0.2
    theirs = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert paired_difference(a, b, rng()).p_value == pytest.approx(theirs.pvalue, abs=0.01)
    assert paired_difference(a, b, rng(1)) == paired_difference(a, b, rng(1))
    assert paired_difference(a[:16], b[:16], rng(1)) == paired_difference(a[:16], b[:16], rng(2))


@pytest.mark.parametrize("subjects", [6, 7, 10])
def test_the_interval_inverts_the_test(subjects: int) -> None:
    a, b = rng(5).normal(size=subjects), rng(6).normal(0.4, 1, size=subjects)
    found = paired_difference(a, b, rng())
    for end, out in ((found.low, -1), (found.high, 1)):
        inside, outside = (paired_difference(a - end - by * out, b, rng()).p_value for by in (-1e-6, 1e-6))
        assert outside <= 0.05 < inside
    assert found.low < found.value < found.high


def test_six_subjects_can_be_bounded_and_five_can_not() -> None:
    a = np.array([0.9, 0.8, 1.0, 0.7, 0.95, 0.6])
    six, five = paired_difference(a, np.zeros(6), rng()), paired_difference(a[:5], np.zeros(5), rng())
    assert (six.low, six.high) == pytest.approx((0.6, 1.0)) and six.p_value == 2 / 64 and six.separates()
    assert five.p_value == 2 / 32 and math.isinf(five.low) and math.isinf(five.high) and not five.separates()
    one = paired_difference([0.4], [0.1], rng())
    assert one.p_value is None and not one.separates() and one.value == pytest.approx(0.3)


def test_equal_conditions_tie() -> None:
    found = paired_difference(np.full(9, 0.5), np.full(9, 0.5), rng())
    assert found.p_value == 1 and found.low == found.high == 0


def test_the_interval_covers() -> None:
    held = []
    for seed in range(300):
        d = rng(seed).exponential(size=8) * rng(seed + 1000).choice([-1, 1], size=8)  # symmetric about 0
        found = paired_difference(d + 0.2, np.zeros(8), rng())
        held.append(found.low <= 0.2 <= found.high)
    assert np.mean(held) >= 0.93


def test_pairing_removes_what_subjects_share() -> None:
    base = 5.0 * np.arange(14)
    found = paired_difference(base + 0.1 + rng(1).normal(0, 0.02, 14), base, rng())
    assert found.low > 0.05 and found.p_value is not None and found.p_value < 0.01


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    "first, second, words",
    [([1.0], [1.0, 2.0], "same subjects"), ([], [], "no subjects"), ([math.nan, 1], [0, 1], "no value")],
)
def test_misuse_is_refused(first: list[float], second: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        paired_difference(first, second, rng())
