"""A figure with its interval, and the checks that all intervals share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Groups = Sequence[np.ndarray]
"""One array per subject, its first axis the subject's images."""
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval.

    Attributes:
        value: the figure on the data as they are.
        low, high: ends of the interval; NaN where there is none.
        n: images behind the figure.
        groups: subjects behind it. 1: the interval covers other images of that subject only, not other subjects.
        level: nominal coverage.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    level: float = LEVEL

    @property
    def covers(self) -> str:
        """What the interval generalizes to: "subjects and images" or "images of one subject"."""
        return "subjects and images" if self.groups > 1 else "images of one subject"

    @property
    def complement(self) -> "Estimate":
        """One minus the figure, ends swapped."""
        return Estimate(1 - self.value, 1 - self.high, 1 - self.low, self.n, self.groups, self.level)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def unknown(n: int = 0, groups: int = 0, level: float = LEVEL) -> Estimate:
    """The estimate of a figure that has no value."""
    return Estimate(math.nan, math.nan, math.nan, n, groups, level)


def checked(groups: Groups, ndim: int | None = None) -> list[np.ndarray]:
    """The groups as float arrays. Raises ValueError for no or empty groups, other dimensions and NaN."""
    data = [np.asarray(rows, dtype=np.float64) for rows in groups]
    if not data:
        raise ValueError("no subjects")
    for s, rows in enumerate(data):
        if len(rows) == 0:
            raise ValueError(f"subject {s} has no images; leave it out explicitly or count it as failed")
        if ndim is not None and rows.ndim != ndim:
            raise ValueError(f"subject {s}: expected {ndim} dimensions, got shape {rows.shape}")
        if np.isnan(rows).any():
            raise ValueError(
                f"subject {s} has {int(np.isnan(rows).sum())} NaN values; a failed image needs a policy, not an average"
            )
    return data


def check_level(level: float) -> None:
    """Raises ValueError for a coverage outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
