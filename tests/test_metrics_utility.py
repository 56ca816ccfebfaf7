import math

import numpy as np
import pytest
from scipy.stats import hmean
from sklearn.metrics.pairwise import cosine_similarity

from iddmbench.metrics.utility import Component, closeness, counted_images, harmonic_mean, utility


def test_normalized_by_hand():
    assert Component("detection", 0.7, floor=0.2, reference=1.0).normalized == pytest.approx(0.625)
    assert Component("KID", 0.3, floor=0.5, reference=0.1, higher_is_better=False).normalized == pytest.approx(0.5)
    assert Component("KID", 0.9, floor=0.5, reference=0.1, higher_is_better=False).normalized == 0
    assert Component("better than undefended", 2, floor=0, reference=1).normalized == 1


def test_index_is_the_harmonic_mean_with_its_components():
    parts = [Component("a", 0.9, 0, 1), Component("b", 0.5, 0, 1), Component("c", 0.2, 1, 0, higher_is_better=False)]
    result = utility(parts)
    assert result.index == pytest.approx(hmean([0.9, 0.5, 0.8]))
    assert result.components == tuple(parts)
    assert utility([*parts, Component("d", 0, 0, 1)]).index == 0
    assert utility([Component("a", 3, 0, 1)]).index == 1


def test_harmonic_mean_of_resamples():
    values = np.random.default_rng(0).random((50, 3))
    np.testing.assert_allclose(harmonic_mean(values), hmean(values, axis=1))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        harmonic_mean(np.array([0.5, 1.2]))


@pytest.mark.parametrize("value, floor, reference, higher", [(1, 1, 1, True), (1, 0, 1, False), (1, 1, 0, True)])
def test_anchors_in_the_wrong_order_are_refused(value, floor, reference, higher):
    with pytest.raises(ValueError, match="must lie"):
        Component("x", value, floor, reference, higher)


def test_what_has_no_value_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        Component("x", math.nan, 0, 1)
    for parts in ([], [Component("x", 0, 0, 1)] * 2):
        with pytest.raises(ValueError, match="distinct names"):
            utility(parts)


def test_closeness_is_the_mean_pairwise_cosine():
    rng = np.random.default_rng(0)
    outputs, references = rng.normal(size=(5, 8)), rng.normal(size=(4, 8))
    np.testing.assert_allclose(closeness(outputs, references), cosine_similarity(outputs, references).mean(1))
    with pytest.raises(ValueError, match="zero vector"):
        closeness(np.zeros((1, 8)), references)
    with pytest.raises(ValueError, match="dimension"):
        closeness(outputs[:, :3], references)


def test_components_of_numpy_scalars_are_taken():
    """Aggregation passes means of arrays, whose comparisons are no Python bools."""
    assert Component("x", np.float64(0.5), 0.0, np.float64(1.0)).normalized == 0.5


def test_near_a_floor_the_index_grows_in_proportion():
    """A geometric mean of four would make 0.26 of a component at half a per cent."""
    assert harmonic_mean(np.array([0.005, 1, 1, 1])) == pytest.approx(4 * 0.005, rel=0.02)
    assert harmonic_mean(np.array([0.0, 1, 1, 1])) == 0


def test_what_is_not_usable_has_the_floor():
    values, usable = np.array([0.9, 0.9, np.nan]), np.array([True, False, False])
    np.testing.assert_array_equal(counted_images(values, usable, 0.5), [0.9, 0.5, np.nan])
