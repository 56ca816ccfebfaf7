"""A defense that destroys faces leaves few scores: what can be said of them is said, and nothing fails."""

import math

import numpy as np
import pytest
from test_ranking import IMAGES, SUBJECTS, group

from iddmbench.linking.aggregate import summarize
from iddmbench.metrics.unlinkability import FEWEST


@pytest.mark.parametrize(("faces", "value", "interval"), [(IMAGES, True, True), (4, True, False), (0, True, True)])
def test_scores_of_one_subject_with_few_faces(faces: int, value: bool, interval: bool) -> None:
    """A resample may draw that subject again and again: without FEWEST scores in each there is no interval."""
    rng = np.random.default_rng(0)
    some = group("none", math.nan, {"dlib": 0.5}, 1.0, rng)
    linkage = some.cells[SUBJECTS[0]][0].linkage["dlib"]
    for i in range(IMAGES):
        linkage.acquired[i] = i < faces
        linkage.mated[i] = 0.5 + 0.01 * i if i < faces else math.nan
        linkage.nonmated[i] = 0.2 + 0.01 * rng.random(linkage.nonmated.shape[1]) if i < faces else math.nan
        linkage.rank[i] = 1 if i < faces else 0
    table = summarize([some], ["dlib"], rng.normal(size=(8, 8)))
    assert 4 * len(SUBJECTS) < FEWEST <= IMAGES * (len(SUBJECTS) - 1)
    for metric in ("eer", "auc", "d_prime", "d_sys"):
        row = table[(table["metric"] == metric) & (table["attacker"] == "dlib")].iloc[0]
        assert math.isfinite(row["value"]) is value
        # The other three are means over images, whose interval resamples nothing.
        assert math.isfinite(row["low"]) is (interval if metric == "d_prime" else value)
