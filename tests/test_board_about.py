"""What the board says beside an entry's figures: whose implementation it is, and whether it gains anything."""

import pytest
from synthetic_board import entry

from iddmbench.leaderboard.about import NO_GAIN, about, gains, origin


@pytest.mark.parametrize(
    ("privacy", "utility", "gain"),
    [
        ((0.25, 0.45), (0.83, 0.55), False),  # on the line between undefended and un-personalized, or below
        ((0.62, 0.97), (0.98, 0.9), True),
    ],
)
def test_a_method_on_the_straight_line_gains_nothing(
    privacy: tuple[float, ...], utility: tuple[float, ...], gain: bool
) -> None:
    found = entry("pixelate", "Pixelation", "pixelate", privacy, utility)
    assert gains(found, "worst-case", "psr@1e-2") is gain
    assert (NO_GAIN in about(found, "worst-case", "psr@1e-2")) is not gain
    assert gains(found, "nobody", "psr@1e-2") is None


def test_other_groups_methods_are_our_reimplementation() -> None:
    assert origin(entry("mist", "Mist", "mist")) == "our re-implementation, micro preset"
    assert origin(entry("x", "X", "not-installed")) == ""
    assert origin(entry("blur", "Blur", "blur")) == "", "nobody's method"
    assert origin(entry("mist", "Mist", "mist", stated=True)) == "", "the submitter's own code"
