import numpy as np
import pytest

from iddmbench.metrics.realism import NEIGHBOURS, RealPhotos


def photos(each: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(10), each)
    return rng.normal(size=(10, 6))[who] + 0.01 * rng.normal(size=(len(who), 6)), who


def test_the_score_by_counting() -> None:
    """Eq. 3, one image and one photo at a time."""
    x, who = photos()
    new = np.random.default_rng(1).normal(size=(5, 6)) * 2
    radii = [sorted(np.linalg.norm(x[who != who[i]] - x[i], axis=1))[NEIGHBOURS - 1] for i in range(len(x))]
    small = np.array(radii) <= np.median(radii)
    expected = [
        max(r / np.linalg.norm(y - p) for r, p in zip(np.array(radii)[small], x[small], strict=True)) for y in new
    ]
    np.testing.assert_allclose(RealPhotos.of(x, who).realism(new), np.minimum(expected, 1), rtol=1e-6)


def test_farther_from_photos_is_less_real() -> None:
    x, who = photos()
    real = RealPhotos.of(x, who)
    away = np.array([10.0, 0, 0, 0, 0, 0])
    scores = [float(real.realism(real.features[:1] + s * away)[0]) for s in (0, 1, 2, 4)]
    assert scores[0] == 1 and scores == sorted(scores, reverse=True) and len(set(scores)) == 4
    # Twice as far as the radius from the one photo there is within reach.
    one = RealPhotos(np.zeros((1, 2)), np.array([3.0]))
    np.testing.assert_allclose(one.realism(np.array([[6.0, 0], [1.0, 0]])), [0.5, 1.0])


def test_how_many_photos_a_person_has_does_not_matter_much() -> None:
    """Neighbours are other people's: with its own photos among them, each radius would be that of one person's photos."""
    few, many = (RealPhotos.of(*photos(each)) for each in (1, 6))
    assert 0.5 < many.radii.mean() / few.radii.mean() < 1.1


def test_one_person_is_not_enough() -> None:
    with pytest.raises(ValueError, match="two people"):
        RealPhotos.of(np.zeros((4, 2)), np.zeros(4, int))
    assert len(RealPhotos.of(np.array([[0.0], [1.0]]), np.array([0, 1])).features) == 2  # one neighbour each
