"""Kept attributes: whether an output still shows the age and the sex that the person's reference photos show."""

import numpy as np

YEARS = 5.0
"""An age within this many years is kept; readings of one person's photos have a standard deviation of about three."""


def kept_age(ages: np.ndarray, references: np.ndarray) -> np.ndarray:
    """1 where the age read in an output is within YEARS of the mean over the references.

    Args:
        ages: float [N], years; NaN where no face was found. references: float [R], likewise.

    Returns float [N]: 1, 0, or 0 where no face was found; NaN where no reference shows a face. Higher is better.
    """
    return _kept(np.abs(ages - _mean(references)) <= YEARS, references)


def kept_sex(female: np.ndarray, references: np.ndarray) -> np.ndarray:
    """1 where the likelier sex of an output is that of the references' mean; a guess gets 1/2.

    Args:
        female: float [N], probability in [0, 1]; NaN where no face was found. references: float [R], likewise.

    Returns as `kept_age`.
    """
    return _kept(~np.isnan(female) & ((female > 0.5) == (_mean(references) > 0.5)), references)


def _kept(same: np.ndarray, references: np.ndarray) -> np.ndarray:
    known = bool(np.isfinite(references).any())
    return same.astype(float) if known else np.full(len(same), np.nan)


def _mean(references: np.ndarray) -> float:
    found = references[np.isfinite(references)]
    return float(found.mean()) if len(found) else np.nan
