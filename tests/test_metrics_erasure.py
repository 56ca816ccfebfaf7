import numpy as np
import pytest
from scipy.linalg import pinvh, sqrtm
from sklearn.linear_model import LogisticRegression

from iddmbench.metrics.erasure import LinearEraser


def people(n: int = 8, each: int = 60, d: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features in which people differ along some directions, with correlated noise, and whose each is."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(n), each)
    return rng.normal(size=(n, d))[who] * 2 + rng.normal(size=(len(who), d)) @ rng.normal(size=(d, d)), who


def one_hot(who: np.ndarray) -> np.ndarray:
    return (who[:, None] == np.unique(who)[None]).astype(float)


def test_no_linear_classifier_beats_chance_after_erasure() -> None:
    """Guardedness (Theorem 3.1 of the paper): on the training data the best linear classifier is the constant one."""
    x, who = people(n=3, each=80)
    before = LogisticRegression(C=1e4, max_iter=2000).fit(x, who).score(x, who)
    erased = LinearEraser.fit(x, one_hot(who))(x)
    model = LogisticRegression(C=1e4, max_iter=2000).fit(erased, who)
    assert before > 0.8
    np.testing.assert_allclose(model.predict_proba(erased), 1 / 3, atol=1e-3)
    np.testing.assert_allclose([erased[who == k].mean(0) for k in range(3)], [x.mean(0)] * 3, atol=1e-9)


def test_the_formula_by_other_means() -> None:
    """Theorem 4.3 with matrix square roots, for features with an empty direction."""
    x, who = people(d=10)
    x = np.column_stack((x, x[:, 0] - x[:, 1]))
    z, mean = one_hot(who), x.mean(0)
    covariance, cross = np.cov(x.T, bias=True), (x - mean).T @ (z - z.mean(0)) / len(x)
    whiten = pinvh(np.real(sqrtm(covariance)), rtol=1e-6)
    basis, sizes, _ = np.linalg.svd(whiten @ cross)
    basis = basis[:, : int((sizes > 1e-8).sum())]
    expected = x - (x - mean) @ (pinvh(whiten, rtol=1e-6) @ basis @ basis.T @ whiten).T
    np.testing.assert_allclose(LinearEraser.fit(x, z)(x), expected, atol=1e-6)


def test_no_other_erasure_moves_the_features_less() -> None:
    """Any map that kills the cross-covariance is an oblique projection along it; these move the features more."""
    x, who = people()
    z, mean = one_hot(who), x.mean(0)
    moved = float(((LinearEraser.fit(x, z)(x) - x) ** 2).sum(1).mean())
    cross = (x - mean).T @ (z - z.mean(0)) / len(x)
    span = np.linalg.svd(cross)[0][:, : len(np.unique(who)) - 1]
    others, rng = [], np.random.default_rng(1)
    for scale in (0.0, 0.05, 0.5):
        readers = span + scale * rng.normal(size=span.shape)
        readers = readers @ np.linalg.inv(span.T @ readers)  # readers' span = 1: what is along `span` goes whole
        other = x - (x - mean) @ readers @ span.T
        np.testing.assert_allclose((other - other.mean(0)).T @ (z - z.mean(0)), 0, atol=1e-6)
        others.append(float(((other - x) ** 2).sum(1).mean()))
    assert all(moved < other - 1e-6 for other in others)


def test_what_says_nothing_of_the_concept_stays() -> None:
    x, _ = people()
    z = np.random.default_rng(2).normal(size=(len(x), 2))
    z -= x @ np.linalg.lstsq(np.column_stack((x, np.ones(len(x)))), z, rcond=None)[0][:-1]
    np.testing.assert_allclose(LinearEraser.fit(x, z)(x), x, atol=1e-6)
    once = LinearEraser.fit(x, one_hot(people()[1]))
    np.testing.assert_allclose(once(once(x)), once(x), atol=1e-9)


def test_fewer_photos_than_features() -> None:
    """As on ORL: 1280 features of a hundred photos. Those are guarded; a stranger's photo may keep what nobody taught."""
    x, who = people(n=20, each=4, d=200)
    erased = LinearEraser.fit(x, one_hot(who))(x)
    np.testing.assert_allclose([erased[who == k].mean(0) for k in range(20)], [x.mean(0)] * 20, atol=1e-8)
    assert np.abs(erased - x).max() > 0.1


def test_wrong_input_is_refused() -> None:
    for x, z in (
        (np.zeros((3, 2)), np.zeros((2, 1))),
        (np.zeros((1, 2)), np.zeros((1, 1))),
        (np.zeros(3), np.zeros(3)),
    ):
        with pytest.raises(ValueError, match="must be"):
            LinearEraser.fit(x, z)
    with pytest.raises(ValueError, match="finite"):
        LinearEraser.fit(np.full((3, 2), np.nan), np.zeros((3, 1)))
