import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier

from iddmbench.metrics import identification as m


def people(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, 16))
    labels, true = np.repeat(np.arange(8), 3), np.repeat(np.arange(8), 5)
    names = np.array([f"s{i}" for i in range(8)])
    gallery = centres[labels] + rng.normal(0, 1.2, (24, 16))
    probes = centres[true] + rng.normal(0, 1.2, (40, 16))
    return probes, gallery, names[labels], names[true]


def test_rank_one_of_max_rule_is_the_nearest_neighbour():
    probes, gallery, labels, true = people()
    nearest = KNeighborsClassifier(1, metric="cosine").fit(gallery, labels).predict(probes)
    hits = m.rank_k_hit(m.ranks(probes, gallery, labels, true))
    np.testing.assert_array_equal(hits, nearest == true)
    assert 0 < hits.mean() < 1


@pytest.mark.parametrize("rule", ["max", "mean"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_rank_k_equals_sklearn_top_k(rule, k):
    probes, gallery, labels, true = people(1)
    table = m.identity_scores(probes, gallery, labels, rule)
    expected = top_k_accuracy_score(true, table.scores, k=k, labels=table.identities)
    assert m.rank_k_hit(m.ranks_of(table, true), k).mean() == pytest.approx(expected)


def test_scores_by_hand():
    gallery = np.array([[3.0, 0], [0, 2], [-1, 0]])
    labels = np.array(["a", "a", "b"])
    probe = np.array([[1.0, 1.0]])
    best, mean = (m.identity_scores(probe, gallery, labels, rule).scores[0] for rule in ("max", "mean"))
    np.testing.assert_allclose(best, [np.sqrt(0.5), -np.sqrt(0.5)])
    np.testing.assert_allclose(mean, [1, -np.sqrt(0.5)])


def test_templates_against_scikit_learn() -> None:
    """Kept templates give what a gallery gives: cosines to the mean of each person's unit vectors."""
    probes, gallery, labels, _ = people(3)
    identities, templates = m.mean_templates(gallery, labels)
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    means = np.stack([unit[labels == name].mean(0) for name in identities])
    found = m.template_scores(probes, identities, templates)
    np.testing.assert_allclose(found.scores, cosine_similarity(probes, means))
    whole = m.identity_scores(probes, gallery, labels, "mean")
    assert np.array_equal(found.scores, whole.scores) and np.array_equal(found.identities, whole.identities)


def test_order_and_scale_do_not_matter():
    probes, gallery, labels, true = people(2)
    shuffle = np.random.default_rng(0).permutation(len(labels))
    expected = m.ranks(probes, gallery, labels, true)
    np.testing.assert_array_equal(m.ranks(7 * probes, gallery[shuffle] * 0.1, labels[shuffle], true), expected)


def test_ties_go_to_the_attacker():
    gallery = np.eye(3)
    labels = np.arange(3)
    assert list(m.ranks(np.array([[1.0, 1, 0]] * 3), gallery, labels, labels)) == [1, 1, 3]


def test_decoy_rate_looks_the_probe_up_as_the_decoy():
    gallery, labels = np.eye(2), np.array(["decoy", "subject"])
    probes = np.array([[1, 0.1], [0.1, 1], [1, 0.2]])
    assert m.rank_k_hit(m.ranks(probes, gallery, labels, np.array(["decoy"] * 3))).mean() == pytest.approx(2 / 3)


def test_unknown_identity_and_bad_shapes_are_refused():
    probes, gallery, labels, true = people()
    with pytest.raises(ValueError, match=r"not in the gallery: \['nobody', 'zz'\]"):
        m.ranks(probes[:2], gallery, labels, np.array(["zz", "nobody"]))
    with pytest.raises(ValueError, match="don't match"):
        m.ranks(probes, gallery, labels[:-1], true)
    with pytest.raises(ValueError, match="true labels"):
        m.ranks(probes, gallery, labels, true[:-1])
    with pytest.raises(ValueError, match="rule"):
        m.identity_scores(probes, gallery, labels, "median")  # type: ignore[arg-type]


def test_a_true_score_is_the_cosine_to_the_template():
    """Anti-DreamBooth's ISM is the mean of these."""
    probes, gallery, labels, true = people(3)
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    templates = np.stack([unit[labels == name].mean(0) for name in true])
    expected = np.diag(cosine_similarity(probes, templates))
    np.testing.assert_allclose(m.true_scores(m.identity_scores(probes, gallery, labels, "mean"), true), expected)


def test_chance():
    rng = np.random.default_rng(0)
    gallery, probes = rng.normal(size=(20, 8)), rng.normal(size=(20_000, 8))
    found = m.ranks(probes, gallery, np.arange(20), rng.integers(20, size=20_000))
    for k in (1, 5):
        assert m.rank_k_hit(found, k).mean() == pytest.approx(m.chance_level(20, k), abs=0.01)
    assert m.chance_level(3, 5) == 1
