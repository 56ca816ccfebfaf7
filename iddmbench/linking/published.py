"""Impersonation by published thresholds: how many images a system takes for one target person. Nothing here is calibrated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iddmbench.metrics.estimate import Estimate
from iddmbench.metrics.rates import rate_interval
from iddmbench.types import Person


@dataclass(frozen=True)
class PublishedTarget:
    """What a protocol fixes: its name, the thresholds (cosine) by attacker, the FAR that is stated for them, and whom images
    should be taken for, by the first of their photos."""

    protocol: str
    far: float
    thresholds: Mapping[str, float]
    person: Person


def taken_for(target: np.ndarray, subjects: Sequence[np.ndarray], threshold: float) -> Estimate:
    """The share of images above the threshold, over all images.

    Args:
        target: float [D], the unit vector of the target's picture.
        subjects: float [n_s, D] for each subject, unit vectors of their images, zero where no face was found.
    """
    return rate_interval([(vectors @ target > threshold).astype(float) for vectors in subjects])
