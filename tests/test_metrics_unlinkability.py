import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from iddmbench.metrics.unlinkability import local_linkability


def d_sys(mated: np.ndarray, nonmated: np.ndarray) -> float:
    return float(local_linkability(mated, nonmated).mean())


def closed_form(mated, nonmated) -> float:
    def integrand(s: float) -> float:
        m, n = mated.pdf(s), nonmated.pdf(s)
        if m <= n:
            return 0.0
        ratio = m / n if n > 0 else np.inf
        return m * (1.0 if np.isinf(ratio) else 2 * ratio / (1 + ratio) - 1)

    return quad(integrand, -12, 15, limit=500, points=[-1, 0, 0.5, 1, 2, 3])[0]


@pytest.mark.parametrize("mean, sd", [(1, 1), (3, 1), (0.5, 2), (-2, 0.7)])
def test_gaussians_have_the_integrated_value(mean, sd):
    rng = np.random.default_rng(0)
    mated, nonmated = rng.normal(mean, sd, 5000), rng.normal(0, 1, 5000)
    assert d_sys(mated, nonmated) == pytest.approx(closed_form(norm(mean, sd), norm(0, 1)), abs=0.03)


def test_by_hand():
    """Two bins: mated 3/4 in the upper, non-mated 1/4. LR = 3 there, D = 2 * 3/4 - 1 = 1/2, D_sys = 3/4 * 1/2."""
    mated, nonmated = np.r_[np.zeros(5), np.ones(15)], np.r_[np.zeros(15), np.ones(5)]
    np.testing.assert_allclose(local_linkability(mated, nonmated), mated / 2)
    assert d_sys(mated, nonmated) == pytest.approx(3 / 8)


def test_limits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    assert d_sys(x, x) == 0 and d_sys(np.ones(20), np.ones(30)) == 0
    assert d_sys(x + 100, x) == pytest.approx(1, abs=1e-6)
    assert d_sys(x - 100, x) == pytest.approx(1, abs=1e-6)
    assert d_sys(3 * x + 5, 3 * x[::2] + 4) == pytest.approx(d_sys(x + 5 / 3, x[::2] + 4 / 3))


def test_few_scores_are_biased_upwards():
    rng = np.random.default_rng(0)
    few, many = (np.mean([d_sys(rng.normal(size=n), rng.normal(size=n)) for _ in range(20)]) for n in (50, 10_000))
    assert few > 2 * many and many < 0.03


def test_misuse_is_refused():
    x = np.arange(30.0)
    with pytest.raises(ValueError, match="at least 20"):
        local_linkability(x[:19], x)
    with pytest.raises(ValueError, match="without NaN"):
        local_linkability(x, np.where(x == 3, np.nan, x))
