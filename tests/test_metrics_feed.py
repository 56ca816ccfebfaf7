import numpy as np
import pytest
from sklearn.preprocessing import normalize

from iddmbench.metrics.feed import any_hit, pooled_templates
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


def test_any_hit_by_hand():
    assert any_hit(np.array([0, 1, 0, 0]), 2).tolist() == [0, 1]  # feeds {0, 2} and {1, 3}
    assert any_hit(np.array([0.5, 0.5]), 2).tolist() == [0.75]
    hits = np.random.default_rng(0).random(64) < 0.1
    means = [any_hit(hits, n).mean() for n in (1, 4, 16, 64)]
    assert means == sorted(means) and means[0] == hits.mean() and means[-1] == hits.any()


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="feeds of 5"):
        any_hit(np.zeros(4), 5)
    with pytest.raises(ValueError, match="policy"):
        any_hit(np.array([np.nan, 1]), 1)
    with pytest.raises(ValueError, match="do not fit"):
        pooled_templates(np.zeros((4, 2)), np.ones(3, bool), 2)
