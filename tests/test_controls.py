"""Controls that cheat: what they do, and that the utility index ranks them where they belong."""

import numpy as np
import pytest

from iddmbench.defense import DEFENSES, configure
from iddmbench.defenses.controls import nearest, replaced
from iddmbench.errors import UserError
from iddmbench.nets.age_sex import AgeSex
from iddmbench.types import Subject


def read(ages: list[float], female: list[float]) -> AgeSex:
    return AgeSex(np.array(ages), np.array(female))


def test_the_nearest_stranger_is_of_the_same_sex_and_age() -> None:
    strangers = read([30, 31, 55, np.nan], [0.9, 0.2, 0.1, np.nan])
    assert nearest(read([29, 33], [0.1, 0.3]), strangers) == 1
    assert nearest(read([29, np.nan], [0.8, np.nan]), strangers) == 0
    assert nearest(read([60], [0.9]), strangers) == 2  # five years off, of the other sex, is nearer than thirty
    with pytest.raises(UserError, match="no face was found"):
        nearest(read([np.nan], [np.nan]), strangers)


def test_strength_is_the_share_of_photos_replaced() -> None:
    references, other = np.arange(4)[:, None, None, None] * np.ones((4, 2, 2, 3), int), np.full((2, 2, 3), 9)
    for strength, count in ((0, 0), (0.5, 2), (1, 4)):
        mixed = replaced(references, other, strength)
        assert (mixed[:count] == 9).all() and (mixed[count:] == references[count:]).all() and len(mixed) == 4


def test_without_faceres_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("IDDMBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("IDDMBENCH_WEIGHTS", raising=False)
    with pytest.raises(
        UserError, match="'control-alike' reads sex and age with faceres, which needs weights: iddmbench"
    ):
        configure(DEFENSES.get("control-alike"), {}).check([Subject("s", (), ())])
