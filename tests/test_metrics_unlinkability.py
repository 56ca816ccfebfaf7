import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.metrics.pairwise import cosine_similarity

from iddmbench.metrics.unlinkability import cross_post_eer, cross_post_scores, d_sys, d_sys_null
from iddmbench.metrics.verification import eer


def closed_form(mated, nonmated) -> float:
    def integrand(s: float) -> float:
        m, n = mated.pdf(s), nonmated.pdf(s)
        if m <= n:
            return 0.0
        ratio = m / n if n > 0 else np.inf
        return m * (1.0 if np.isinf(ratio) else 2 * ratio / (1 + ratio) - 1)

    return quad(integrand, -12, 15, limit=500, points=[-1, 0, 0.5, 1, 2, 3])[0]


@pytest.mark.parametrize("density", ["histogram", "kde"])
@pytest.mark.parametrize("mean, sd", [(1, 1), (3, 1), (0.5, 2), (-2, 0.7)])
def test_gaussians_have_the_integrated_value(density, mean, sd):
    rng = np.random.default_rng(0)
    mated, nonmated = rng.normal(mean, sd, 5000), rng.normal(0, 1, 5000)
    assert d_sys(mated, nonmated, density) == pytest.approx(closed_form(norm(mean, sd), norm(0, 1)), abs=0.03)


def test_histogram_by_hand():
    """Two bins: mated 3/4 in the upper, non-mated 1/4. LR = 3 there, D = 2 * 3/4 - 1 = 1/2, D_sys = 3/4 * 1/2."""
    mated, nonmated = np.r_[np.zeros(5), np.ones(15)], np.r_[np.zeros(15), np.ones(5)]
    assert d_sys(mated, nonmated) == pytest.approx(3 / 8)


@pytest.mark.parametrize("density", ["histogram", "kde"])
def test_limits(density):
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    assert d_sys(x, x, density) == 0
    assert d_sys(x + 100, x, density) == pytest.approx(1, abs=1e-6)
    assert d_sys(x - 100, x, density) == pytest.approx(1, abs=1e-6)
    assert d_sys(3 * x + 5, 3 * x[::2] + 4, density) == pytest.approx(d_sys(x + 5 / 3, x[::2] + 4 / 3, density))


def test_null_shows_the_bias_of_few_scores():
    rng = np.random.default_rng(0)
    few, many = (d_sys_null(rng.normal(2, 1, n), rng.normal(0, 1, n), rng) for n in (50, 10_000))
    assert few > 2 * many and many < 0.03
    same = [d_sys(rng.normal(size=50), rng.normal(size=50)) for _ in range(40)]
    assert np.mean(same) == pytest.approx(few, rel=0.5)


def test_cross_post_pairs_and_rate():
    rng = np.random.default_rng(0)
    models = np.repeat(["a", "b", "c"], 6)
    vectors = rng.normal(size=(3, 8))[np.repeat([0, 1, 2], 6)] + rng.normal(size=(18, 8))
    mated, nonmated = cross_post_scores(vectors, models)
    assert (mated.size, nonmated.size) == (3 * 15, 3 * 36)
    every = cosine_similarity(vectors)
    assert mated.sum() == pytest.approx(
        sum((every[s, s].sum() - 6) / 2 for s in map(lambda k: slice(k, k + 6), (0, 6, 12)))
    )
    assert cross_post_eer(vectors, models) == eer(mated, nonmated)
    assert cross_post_eer(np.eye(3)[np.repeat([0, 1, 2], 6)], models) == 0


def test_misuse_is_refused():
    x = np.arange(30.0)
    with pytest.raises(ValueError, match="at least 20"):
        d_sys(x[:19], x)
    with pytest.raises(ValueError, match="density"):
        d_sys(x, x, "spline")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not vary"):
        d_sys(np.ones(30), x, "kde")
    with pytest.raises(ValueError, match="1 zero vectors"):
        cross_post_scores(np.array([[0.0, 0], [1, 0]]), np.array(["a", "b"]))
    with pytest.raises(ValueError, match="do not fit"):
        cross_post_scores(np.eye(3), np.array(["a", "b"]))
