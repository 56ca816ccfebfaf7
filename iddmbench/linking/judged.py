"""Figures of what optional judges say (iddmbench/judges/): only those that every cell has, so that none is over a part."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from iddmbench.metrics.anti_dreambooth import by_prompt
from iddmbench.metrics.bootstrap import mean_interval
from iddmbench.metrics.distribution import frechet_distance, kernel_distance
from iddmbench.metrics.estimate import Estimate, unknown
from iddmbench.metrics.rates import rate_interval

Judged = Mapping[str, np.ndarray]
MEANS = ("photo_lpips", "clip_score", "clip_i", "dino")
SHARES = ("fdfr_anti_dreambooth",)
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
        found[metric] = _figure(
            metric,
            [
                np.concatenate([[*by_prompt(judged[metric], prompts).values()] for judged, prompts in several])
                for several in cells.values()
            ],
        )
    if "inception" in known:
        outputs = np.concatenate([judged["inception"] for judged in every])
        real = np.concatenate([several[0][0]["inception_real"] for several in cells.values()])
        for metric, distance in DISTANCES.items():
            value = distance(outputs, real) if min(len(outputs), len(real)) > 1 else np.nan
            found[metric] = Estimate(value, np.nan, np.nan, len(outputs), len(cells))
    return found


def figures_by_prompt(
    cells: Mapping[str, Sequence[tuple[Judged, Sequence[str]]]], metrics: Sequence[str]
) -> list[tuple[str, str, Estimate]]:
    """(prompt, metric, figure), prompts in order of appearance; the figure's n counts all images of the prompt.

    As in Anti-DreamBooth's tables: of each person's images of the prompt the mean of those that have a value (a face), then the
    mean over people, with the interval over them. A metric that some cell lacks has no figure.

    Args:
        cells: by subject, the values by metric of each of its cells (float [N]), and the prompts of its N images.
    """
    every = [values for several in cells.values() for values, _ in several]
    known = [metric for metric in metrics if every and all(metric in values for values in every)]
    texts = dict.fromkeys(text for several in cells.values() for _, prompts in several for text in prompts)
    found = []
    for prompt in texts:
        images = sum(list(prompts).count(prompt) for several in cells.values() for _, prompts in several)
        for metric in known:
            means = [
                np.array([by_prompt(values[metric], prompts).get(prompt, np.nan) for values, prompts in several])
                for several in cells.values()
            ]
            found.append((prompt, metric, replace(_figure(metric, means), n=images)))
    return found


def _figure(metric: str, groups: Sequence[np.ndarray]) -> Estimate:
    return rate_interval(groups) if metric in SHARES else _mean(groups)


def _mean(groups: Sequence[np.ndarray]) -> Estimate:
    """Values that are NaN (no face, no prompt) are left out; unknown where none is left."""
    finite = [values[np.isfinite(values)] for values in groups]
    finite = [values for values in finite if len(values)]
    return mean_interval(finite) if finite else unknown()
