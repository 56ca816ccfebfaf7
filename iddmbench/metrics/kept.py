"""Kept attributes: whether an output still shows the look, the age and the sex that the person's reference photos show."""

import numpy as np

YEARS = 5.0
"""An age within this many years is kept; readings of one person's photos have a standard deviation of about three."""


FARTHEST = 3.0
"""Standard deviations from the public people's mean beyond which a reading counts as that far."""
FEWEST_PUBLIC = 3
"""Photos of public people with a face that standardizing takes."""


def kept_look(own: np.ndarray, references: np.ndarray, public: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Cosine of an output's and the references' looks, as they differ from the public people's.

    Readings are standardized by the public people's mean and standard deviation, and cut at FARTHEST; those that all public
    photos share (colour, in gray photos) are left out. So a stranger's pictures, and those of an average face, get 0 on
    average, and a person's other photos 0.7 on ORL.

    Args:
        own: float [N, K], readings of iddmbench/faces/look.py, NaN where no face was found. references: float [R, K],
            public: float [M, K], likewise.
        compared: bool [N, K], what each image is judged by.

    Returns: float [N] in [-1, 1]; 0 where no face was found, or nothing is compared; NaN where no reference, or fewer than
        FEWEST_PUBLIC public photos, show a face. Higher is better.
    """
    before, others = (x[np.isfinite(x).all(1)] for x in (references, public))
    if not len(before) or len(others) < FEWEST_PUBLIC:
        return np.full(len(own), np.nan)
    mean, spread = others.mean(0), others.std(0)
    varied = spread > 1e-6

    def standard(x: np.ndarray) -> np.ndarray:
        return np.clip((x[..., varied] - mean[varied]) / spread[varied], -FARTHEST, FARTHEST)

    seen = np.where(compared[:, varied], np.nan_to_num(standard(own)), 0.0)
    known = np.where(compared[:, varied], standard(before).mean(0), 0.0)
    sizes = np.linalg.norm(seen, axis=1) * np.linalg.norm(known, axis=1)
    return np.where(sizes > 0, (seen * known).sum(1) / np.where(sizes > 0, sizes, 1.0), 0.0)


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
