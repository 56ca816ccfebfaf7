import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score, roc_curve

from iddmbench.errors import UserError
from iddmbench.metrics import verification as v


def scores(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    genuine, impostors = rng.normal(1, 1, 300), rng.normal(0, 1.3, 700)
    return (genuine.round(1), impostors.round(1)) if ties else (genuine, impostors)


def labelled(genuine: np.ndarray, impostors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.r_[np.ones(len(genuine)), np.zeros(len(impostors))], np.r_[genuine, impostors]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_curve_equals_sklearn(seed, ties):
    pair = scores(seed, ties)
    far, tar, thresholds = roc_curve(*labelled(*pair), drop_intermediate=False)
    ours = v.roc(*pair)
    np.testing.assert_allclose(ours.far, far)
    np.testing.assert_allclose(ours.tar, tar)
    np.testing.assert_allclose(ours.thresholds, thresholds)
    assert v.auc(*pair) == pytest.approx(roc_auc_score(*labelled(*pair)))
    expected = brentq(lambda x: 1 - x - np.interp(x, far, tar), 0, 1)
    assert v.eer(*pair) == pytest.approx(expected, abs=2e-3 if not ties else 1e-2)


def test_equal_variance_normals_have_the_closed_form():
    rng = np.random.default_rng(0)
    pair = rng.normal(2, 1, 200_000), rng.normal(0, 1, 200_000)
    assert v.eer(*pair) == pytest.approx(norm.cdf(-1), abs=2e-3)
    assert v.auc(*pair) == pytest.approx(norm.cdf(np.sqrt(2)), abs=2e-3)
    assert v.d_prime(*pair) == pytest.approx(2, abs=0.02)
    tar = (pair[0] >= v.threshold_at_far(pair[1], 0.01).value).mean()
    assert tar == pytest.approx(norm.sf(norm.isf(0.01) - 2), abs=5e-3)


@pytest.mark.parametrize("ties", [False, True])
def test_placements_are_mann_whitneys(ties):
    genuine, impostors = scores(4, ties)
    found = v.placements(genuine, impostors)
    by_hand = [np.mean(impostors < g) + np.mean(impostors == g) / 2 for g in genuine]
    np.testing.assert_allclose(found, by_hand)
    assert found.sum() * len(impostors) == pytest.approx(mannwhitneyu(genuine, impostors).statistic)


def test_the_eer_lies_at_its_threshold():
    genuine, impostors = scores(6)
    value, threshold = v.eer_point(genuine, impostors)
    rates = (impostors >= threshold).mean(), (genuine < threshold).mean()
    assert value == v.eer(genuine, impostors) and rates == (pytest.approx(value, abs=4e-3),) * 2


def test_limits():
    low, high = np.arange(10.0), np.arange(10.0) + 20
    assert (v.eer(high, low), v.auc(high, low)) == (0, 1)
    assert (v.eer(low, high), v.auc(low, high)) == (1, 0)
    assert (v.eer(low, low), v.auc(low, low)) == (pytest.approx(0.5), 0.5)
    assert (v.eer(np.zeros(3), np.zeros(5)), v.auc(np.zeros(3), np.zeros(5))) == (0.5, 0.5)
    assert np.isnan(v.d_prime(np.zeros(3), np.ones(3)))


def test_eer_by_hand():
    # thresholds 3 and 2: (FAR, FRR) = (0, 1/2), (1/2, 0); the segment between them crosses FAR = FRR at 1/4
    assert v.eer(np.array([3.0, 2.0]), np.array([2.0, 0.0])) == pytest.approx(0.25)


def test_threshold_by_hand():
    impostors = np.arange(100) / 100  # 0.99, 0.98, ...
    point = v.threshold_at_far(impostors, 0.05)
    assert (point.achieved, point.pairs) == (0.05, 100)
    assert 0.94 < point.value <= 0.95


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("far", [0.01, 0.013, 0.1, 0.3, 0.999])
def test_threshold_is_the_lowest_that_keeps_the_rate(far, dtype):
    for ties in (False, True):
        impostors = scores(5, ties)[1].astype(dtype)
        point = v.threshold_at_far(impostors, far)
        assert point.achieved == (impostors >= point.value).mean() <= far
        below = impostors[impostors < point.value].max()
        assert (impostors >= below).mean() > far


def test_tied_impostors_stand_together():
    point = v.threshold_at_far(np.r_[np.full(10, 0.9), np.zeros(90)], 0.05)
    assert point.achieved == 0 and point.value > 0.9


def test_too_fine_a_rate_is_refused():
    impostors = np.random.default_rng(0).normal(size=2999)
    with pytest.raises(UserError, match=r"at least 0\.001, or calibrate on 3000 pairs"):
        v.threshold_at_far(impostors, 1e-3)
    assert v.finest_far(3000) == 1e-3
    assert v.threshold_at_far(np.r_[impostors, 0], 1e-3).achieved == 1e-3


@pytest.mark.parametrize("bad", [np.array([]), np.array([np.nan, 1]), np.zeros((2, 2))])
def test_bad_scores_are_refused(bad):
    good = np.arange(5.0)
    for call in (lambda: v.eer(bad, good), lambda: v.auc(good, bad), lambda: v.threshold_at_far(bad, 0.1)):
        with pytest.raises(ValueError, match="non-empty vector"):
            call()
