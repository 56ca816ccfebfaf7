import math

import numpy as np
import pytest

from iddmbench.metrics.policies import POLICIES, hits_under, most_pessimistic_policy
from iddmbench.metrics.rates import rate_interval

HITS = np.array([1, 0, 1, 1])
ACQUIRED = np.array([True, True, False, False])


def hit_rates(hits, acquired, chance) -> dict:
    return {policy: rate_interval([hits_under(policy, hits, acquired, chance)]).value for policy in POLICIES}


def test_by_hand():
    np.testing.assert_array_equal(hits_under("acquired", HITS, ACQUIRED, 0.1), [1, 0, math.nan, math.nan])
    np.testing.assert_array_equal(hits_under("miss", HITS, ACQUIRED, 0.1), [1, 0, 0, 0])
    np.testing.assert_array_equal(hits_under("chance", HITS, ACQUIRED, 0.1), [1, 0, 0.1, 0.1])
    assert hit_rates(HITS, ACQUIRED, 0.1) == {"acquired": 0.5, "miss": 0.25, "chance": pytest.approx(0.3)}


def test_policies_agree_when_every_face_is_found():
    assert set(hit_rates(HITS, np.ones(4, bool), 0.3).values()) == {0.75}


def test_destroying_faces_does_not_improve_the_headline():
    """Faces are lost at random: the headline protection of a defense must not rise with the loss."""
    rng = np.random.default_rng(0)
    hits = rng.random(20_000) < 0.6
    headline = []
    for loss in (0.0, 0.3, 0.6, 0.9):
        acquired = rng.random(20_000) >= loss
        protection = {policy: 1 - rate for policy, rate in hit_rates(hits, acquired, 0.025).items()}
        headline.append(protection[most_pessimistic_policy(protection)])
        assert protection["miss"] >= protection["chance"] >= protection["acquired"] - 1e-12
    np.testing.assert_allclose(headline, 0.4, atol=0.03)


def test_a_guess_is_least_kind_when_found_faces_are_linked_less_often_than_by_chance():
    rates = hit_rates(np.zeros(4), ACQUIRED, 0.1)
    assert most_pessimistic_policy({policy: 1 - rate for policy, rate in rates.items()}) == "chance"


def test_no_face_at_all():
    rates = hit_rates(HITS, np.zeros(4, bool), 0.1)
    assert math.isnan(rates["acquired"]) and rates["miss"] == 0 and rates["chance"] == pytest.approx(0.1)
    assert most_pessimistic_policy({policy: 1 - rate for policy, rate in rates.items()}) == "chance"
    with pytest.raises(ValueError, match="no policy"):
        most_pessimistic_policy({"acquired": math.nan})


def test_scores_of_lost_probes_are_never_read():
    assert hits_under("miss", np.array([1, math.nan]), np.array([True, False]), 0.1).tolist() == [1, 0]


@pytest.mark.parametrize(
    "hits, acquired, chance",
    [(HITS, ACQUIRED[:3], 0.1), (HITS * 2, ACQUIRED, 0.1), (HITS, ACQUIRED, 1.1), (HITS * math.nan, ACQUIRED, 0.1)],
)
def test_misuse_is_refused(hits, acquired, chance):
    for policy in POLICIES:
        with pytest.raises(ValueError):
            hits_under(policy, hits, acquired, chance)
