"""What a defense buys and costs over its strengths. Privacy and utility lie in [0, 1]; higher is better for both."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Point:
    """A defense at one strength.

    Attributes:
        strength: in [0, 1].
        privacy: for example the worst-case protection success rate, in [0, 1].
        utility: utility index, in [0, 1].
    """

    strength: float
    privacy: float
    utility: float

    def __post_init__(self) -> None:
        if not (0 <= self.privacy <= 1 and 0 <= self.utility <= 1):
            raise ValueError(f"privacy {self.privacy} and utility {self.utility} must lie in [0, 1]")


def hypervolumes(privacy: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """Areas of [0, 1]^2 that the points of B curves dominate, from the reference point (0, 0) (Zitzler and Thiele 1999).

    Only what was measured counts: nothing is interpolated between strengths. It grows with the number of strengths: compare
    defenses over the same number.

    Args:
        privacy, utility: float [B, strengths] in [0, 1].

    Returns: float [B] in [0, 1], higher is better.

    Raises ValueError for values outside [0, 1], or NaN.
    """
    if not all(((values >= 0) & (values <= 1)).all() for values in (privacy, utility)):
        raise ValueError("privacy and utility must lie in [0, 1]")
    order = np.lexsort((-privacy, -utility), axis=-1)
    privacy, utility = (np.take_along_axis(values, order, axis=-1) for values in (privacy, utility))
    areas, reached = np.zeros(len(privacy)), np.zeros(len(privacy))
    for p, u in zip(privacy.T, utility.T, strict=True):  # by falling utility: what is more private adds its step
        areas += np.maximum(p - reached, 0) * u
        reached = np.maximum(reached, p)
    return areas


def privacy_at_utility(points: Sequence[Point], utility: float = 0.9) -> float | None:
    """The most privacy at a utility of at least `utility`, on straight lines between neighbouring strengths.

    Returns: privacy in [0, 1], or None when the curve never reaches that utility.

    Raises ValueError for two points of one strength.
    """
    return _best(_curve(points)[:, ::-1], utility)


def utility_at_privacy(points: Sequence[Point], privacy: float = 0.9) -> float | None:
    """The most utility at a privacy of at least `privacy`; otherwise as `privacy_at_utility`."""
    return _best(_curve(points), privacy)


def _curve(points: Sequence[Point]) -> np.ndarray:
    """[S, 2] privacy and utility by rising strength."""
    ordered = sorted(points, key=lambda p: p.strength)
    if len({p.strength for p in ordered}) < len(ordered):
        raise ValueError(f"a curve has one point per strength, got {[p.strength for p in ordered]}")
    return np.array([(p.privacy, p.utility) for p in ordered]).reshape(-1, 2)


def _best(curve: np.ndarray, needed: float) -> float | None:
    """Largest second coordinate on the polyline where the first is at least `needed`: at a corner or at a crossing."""
    found = [float(gain) for have, gain in curve if have >= needed]
    for (x0, y0), (x1, y1) in pairwise(curve):
        if min(x0, x1) < needed <= max(x0, x1):
            found.append(float(y0 + (needed - x0) / (x1 - x0) * (y1 - y0)))
    return max(found, default=None)
