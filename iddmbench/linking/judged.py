"""Figures of what optional judges say (iddmbench/judges/): only those that every cell has, so that none is over a part."""

from collections.abc import Mapping, Sequence

import numpy as np

from iddmbench.metrics.anti_dreambooth import by_prompt
from iddmbench.metrics.bootstrap import mean_interval
from iddmbench.metrics.distribution import frechet_distance, kernel_distance
from iddmbench.metrics.estimate import Estimate, unknown

Judged = Mapping[str, np.ndarray]
MEANS = ("photo_lpips", "clip_score", "clip_i", "dino")
BY_PROMPT = ("fdfr_anti_dreambooth", "ism_anti_dreambooth")
DISTANCES = {"fid_inception": frechet_distance, "kid_inception": kernel_distance}


def judged_figures(cells: Mapping[str, Sequence[tuple[Judged, Sequence[str]]]]) -> dict[str, Estimate]:
    """Figures by metric, with intervals over subjects; FID and KID have none, as a resample repeats images.

    Args:
        cells: by subject, what the judges say of each of its cells (metric -> float [N], "inception" -> [N, 2048],
            "inception_real" -> [R, 2048], the subject's references), and the prompts of its N images.
    """
    every = [judged for several in cells.values() for judged, _ in several]
    known = set.intersection(*(set(judged) for judged in every)) if every else set()
    found = {}
    for metric in (m for m in MEANS if m in known):
        found[metric] = _mean([np.concatenate([judged[metric] for judged, _ in several]) for several in cells.values()])
    for metric in (m for m in BY_PROMPT if m in known):
        # Each prompt of each person counts once, as in the paper's tables.
        found[metric] = _mean(
            [
                np.concatenate([[*by_prompt(judged[metric], prompts).values()] for judged, prompts in several])
                for several in cells.values()
            ]
        )
    if "inception" in known:
        outputs = np.concatenate([judged["inception"] for judged in every])
        real = np.concatenate([several[0][0]["inception_real"] for several in cells.values()])
        for metric, distance in DISTANCES.items():
            value = distance(outputs, real) if min(len(outputs), len(real)) > 1 else np.nan
            found[metric] = Estimate(value, np.nan, np.nan, len(outputs), len(cells))
    return found


def _mean(groups: Sequence[np.ndarray]) -> Estimate:
    """Values that are NaN (no face, no prompt) are left out; unknown where none is left."""
    finite = [values[np.isfinite(values)] for values in groups]
    finite = [values for values in finite if len(values)]
    return mean_interval(finite) if finite else unknown()
