import inspect

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics.pairwise import polynomial_kernel

from iddmbench.metrics.distribution import frechet_distance, kernel_distance


def features(n: int, m: int, dim: int, seed: int = 0, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    return rng.normal(size=(n, dim)), rng.normal(size=(m, dim)) @ mix + shift


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.skipif(
    "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters, reason="pytorch-fid 0.3.0 needs SciPy < 1.18"
)
def test_fid_equals_pytorch_fid():
    oracle = pytest.importorskip("pytorch_fid.fid_score").calculate_frechet_distance
    a, b = features(300, 200, 24)
    expected = oracle(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n, m", [(10, 14), (10, 500)])
def test_fid_of_few_images_equals_the_eigenvalue_route(n, m):
    """tr (C_a C_b)^(1/2) = sum of the roots of the eigenvalues of C_a C_b, at n < D too."""
    a, b = features(n, m, 32)
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(ca @ cb).real.clip(0)).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_fid_of_known_gaussians():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(100_000, 3)), 1 + 2 * rng.normal(size=(100_000, 3))
    assert frechet_distance(a, b) == pytest.approx(3 * (1 + (2 - 1) ** 2), rel=0.02)


def test_fid_invariants():
    a, b = features(50, 60, 8)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b))


def test_kid_equals_sklearn_kernel():
    a, b = features(40, 30, 16)
    aa, bb, ab = (polynomial_kernel(x, y, degree=3, gamma=1 / 16, coef0=1) for x, y in ((a, a), (b, b), (a, b)))
    expected = aa[~np.eye(40, dtype=bool)].mean() + bb[~np.eye(30, dtype=bool)].mean() - 2 * ab.mean()
    assert kernel_distance(a, b) == pytest.approx(expected)


def test_kid_is_unbiased_where_fid_is_not():
    rng = np.random.default_rng(0)
    sets = [(rng.normal(size=(20, 10)), rng.normal(size=(20, 10))) for _ in range(300)]
    kid = np.array([kernel_distance(a, b) for a, b in sets])
    assert abs(kid.mean()) < 3 * kid.std() / np.sqrt(300)
    assert (kid < 0).any()
    assert np.mean([frechet_distance(a, b) for a, b in sets]) > 1


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance])
def test_bad_features_are_refused(metric):
    for a, b in ((np.ones((1, 3)), np.ones((4, 3))), (np.ones((4, 3)), np.ones((4, 2)))):
        with pytest.raises(ValueError, match="features must be"):
            metric(a, b)
    with pytest.raises(ValueError, match="finite"):
        metric(np.full((4, 3), np.nan), np.ones((4, 3)))
