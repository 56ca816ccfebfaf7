import numpy as np
import pytest

from iddmbench.metrics.tradeoff import Point, hypervolumes, privacy_at_utility, utility_at_privacy

CURVE = [Point(0, 0.1, 1.0), Point(0.5, 0.6, 0.95), Point(0.75, 0.9, 0.7), Point(1, 1.0, 0.2)]


def cloud(seed: int, n: int = 12) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [Point(i / n, *rng.random(2).round(1)) for i in range(n)]


def hypervolume(points: list[Point]) -> float:
    return float(hypervolumes(np.array([[p.privacy for p in points]]), np.array([[p.utility for p in points]]))[0])


@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_equals_the_counted_area(seed):
    points = cloud(seed)
    middles = (np.arange(100) + 0.5) / 100  # values have one decimal: every cell lies on one side
    x, y = np.meshgrid(middles, middles)
    covered = np.any([(x < p.privacy) & (y < p.utility) for p in points], axis=0)
    assert hypervolume(points) == pytest.approx(covered.mean())


def test_hypervolume_limits():
    assert hypervolume([]) == 0 and hypervolume([Point(1, 1, 1)]) == 1 and hypervolume([Point(1, 1, 0)]) == 0
    assert hypervolume([*CURVE, Point(0.6, 0.5, 0.5)]) == hypervolume(CURVE)
    assert hypervolume([*CURVE, Point(0.6, 0.95, 0.9)]) > hypervolume(CURVE)


def test_curves_do_not_see_one_another():
    privacy, utility = np.random.default_rng(1).random((2, 50, 4)).round(1)
    alone = [hypervolumes(p[None], u[None])[0] for p, u in zip(privacy, utility, strict=True)]
    assert hypervolumes(privacy, utility).tolist() == alone


def test_operating_points_by_hand():
    # utility falls from 0.95 to 0.7 while privacy rises from 0.6 to 0.9: 0.9 is passed a fifth of the way
    assert privacy_at_utility(CURVE, 0.9) == pytest.approx(0.66)
    assert utility_at_privacy(CURVE, 0.9) == pytest.approx(0.7)
    assert utility_at_privacy(CURVE, 0.95) == pytest.approx(0.45)
    assert privacy_at_utility(list(reversed(CURVE)), 0.9) == pytest.approx(0.66)


@pytest.mark.parametrize("seed", range(5))
def test_operating_points_equal_a_dense_walk(seed):
    points = cloud(seed, 6)
    walk = np.linspace(0, 5, 100_001)
    privacy, utility = (
        np.interp(walk, range(6), [getattr(p, name) for p in points]) for name in ("privacy", "utility")
    )
    for needed in (0.25, 0.55, 0.85):
        for ours, gain, have in (
            (privacy_at_utility(points, needed), privacy, utility),
            (utility_at_privacy(points, needed), utility, privacy),
        ):
            if have.max() >= needed:
                assert ours == pytest.approx(gain[have >= needed].max(), abs=1e-3)
            else:
                assert ours is None


def test_never_reached_is_none():
    weak = [Point(0, 0, 1), Point(1, 0.4, 0.8)]
    assert utility_at_privacy(weak) is None and privacy_at_utility([Point(0, 1, 0.5)]) is None
    assert privacy_at_utility([]) is None
    assert utility_at_privacy([Point(0, 1, 0.0)]) == 0  # reached, and worth nothing


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="one point per strength"):
        privacy_at_utility([Point(0, 0, 0), Point(0, 1, 1)])
    with pytest.raises(ValueError, match="must lie"):
        Point(0, 1.2, 0)
    with pytest.raises(ValueError, match="must lie"):
        Point(0, float("nan"), 0)
    for wrong in (1.2, -0.1, float("nan")):
        with pytest.raises(ValueError, match="must lie"):
            hypervolumes(np.array([[0.5, wrong]]), np.array([[0.5, 0.5]]))
