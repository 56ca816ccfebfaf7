import numpy as np
import pytest
from sklearn.preprocessing import normalize

from iddmbench.metrics.feed import pooled_scores, pooled_templates
from iddmbench.metrics.identification import rank_k_hit, ranks


def test_template_is_the_normalized_mean():
    vectors = np.random.default_rng(0).normal(size=(9, 5))
    templates, acquired = pooled_templates(vectors, np.ones(9, bool), 4)
    unit = normalize(vectors)
    expected = normalize([unit[[0, 2, 4, 6]].mean(0), unit[[1, 3, 5, 7]].mean(0)])
    np.testing.assert_allclose(templates, expected)
    assert acquired.all()
    np.testing.assert_allclose(pooled_templates(vectors, np.ones(9, bool), 1)[0], unit)


def test_lost_posts_are_left_out():
    vectors = np.array([[1.0, 0], [0, 1], [9, 9], [0, 0]])
    templates, acquired = pooled_templates(vectors, np.array([True, False, False, False]), 2)
    np.testing.assert_allclose(templates, [[1, 0], [0, 0]])
    assert acquired.tolist() == [True, False]


def test_pooling_links_what_single_posts_do_not():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 64))
    rates = {}
    for posts in (1, 4, 16):
        hits = []
        for person in range(30):
            outputs = people[person] + 5 * rng.normal(size=(16, 64))
            templates, _ = pooled_templates(outputs, np.ones(16, bool), posts)
            hits.append(rank_k_hit(ranks(templates, people, np.arange(30), np.full(len(templates), person))))
        rates[posts] = np.concatenate(hits).mean()
    assert rates[1] < rates[4] < rates[16]


def test_added_scores_rank_as_pooled_templates_do():
    rng = np.random.default_rng(1)
    people, outputs = normalize(rng.normal(size=(12, 8))), normalize(rng.normal(size=(8, 8)))
    seen = np.array([True, True, False, True, True, True, True, False])
    pooled, acquired = pooled_scores(outputs @ people.T, seen, 4)
    templates, same = pooled_templates(outputs, seen, 4)
    assert np.array_equal(acquired, same)
    np.testing.assert_array_equal(pooled.argsort(1), (templates @ people.T).argsort(1))
    np.testing.assert_allclose(pooled[0], (outputs @ people.T)[[0, 4, 6]].mean(0))  # post 2 has no face


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="feeds of 5"):
        pooled_scores(np.zeros((4, 2)), np.ones(4, bool), 5)
    with pytest.raises(ValueError, match="don't match"):
        pooled_templates(np.zeros((4, 2)), np.ones(3, bool), 2)
