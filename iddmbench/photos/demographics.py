"""Into which groups people fall in demographic tables: by sex, age and skin tone, as pictures are read, not as people are."""

from itertools import pairwise

import numpy as np

SEX, AGE, TONE = "sex", "age", "skin tone"
TRAITS = (SEX, AGE, TONE)
AGE_BANDS = (20, 30, 40, 50, 120)
TONE_BANDS = ((-90, "brown and dark"), (10, "tan"), (28, "intermediate"), (41, "light"))
"""Lower ends of the individual typology angle in degrees (Chardot et al. 1991), the darkest two classes joined."""
UNDER, OVER = f"under {AGE_BANDS[0]}", f"{AGE_BANDS[-2]} and over"
GROUPS = {
    SEX: ("female", "male"),
    AGE: (UNDER, *(f"{low}-{high - 1}" for low, high in pairwise(AGE_BANDS[:-1])), OVER),
    TONE: tuple(name for _, name in TONE_BANDS),
}
"""By trait, in the order in which tables show them."""


def age_group(years: float) -> str:
    """ "20-29", ..., "50 and over"."""
    return GROUPS[AGE][int(np.searchsorted(AGE_BANDS[:-1], years, "right"))]


def tone_group(angle: float) -> str:
    """The class of an individual typology angle, degrees in [-90, 90]."""
    return next(name for low, name in reversed(TONE_BANDS) if angle >= low)
