"""Does an attacker link the undefended model at all? Of one that does not, no protection can be concluded."""

import math

FLOOR = 0.025
"""A guess among 40 people."""
TIMES = 2


def links_undefended(value: float, low: float, generic: float | None) -> bool:
    """Whether an attacker is able: it links undefended images for certain more often than a guess would, and at least twice
    as often as images of the un-personalized model.

    Args:
        value, low: rank-1 hit rate of undefended images and the lower end of its 95 % interval, in [0, 1].
        generic: that rate for the un-personalized model; None where it was not run.
    """
    if not math.isfinite(low) or low <= FLOOR:
        return False
    return generic is None or not math.isfinite(generic) or value >= TIMES * generic
