"""Figures of each subject, from a run's tables: what paired comparisons are made of.

Figures that only exist of a whole condition (FID, KID, EER, AUC, d', D_sys, feeds, the utility index) have none.
"""

from collections.abc import Callable

import pandas as pd

from iddmbench.results.metric_info import CLOSENESS, ERASED, KEPT_LOOK, REALISM, USABLE
from iddmbench.results.summary import Condition, Summary

Rows = pd.DataFrame


def _far(far: str) -> Callable[[Rows], pd.Series]:
    return lambda probes: probes[f"match_{far}"]


HITS: dict[str, Callable[[Rows], pd.Series]] = {
    "rank1_hit": lambda probes: probes["rank"] == 1,
    "rank5_hit": lambda probes: (probes["rank"] >= 1) & (probes["rank"] <= 5),
    "match_rate@1e-2": _far("1e-2"),
    "match_rate@1e-3": _far("1e-3"),
}
"""Which rows of `probes` are linked."""
COMPLEMENTS = {"r1u": "rank1_hit", "r5u": "rank5_hit", "psr@1e-2": "match_rate@1e-2", "psr@1e-3": "match_rate@1e-3"}
IMAGES = {
    "face_detection_rate": "detected",
    USABLE: "usable",
    REALISM: "realism",
    KEPT_LOOK: "kept_look",
    "ser_fiq": "ser_fiq",
    "brisque": "brisque",
    "denoising_error": "denoising_error",
    CLOSENESS: "closeness",
    ERASED: "closeness_erased",
    "adherence": "adherence",
    "kept_age": "kept_age",
    "kept_sex": "kept_sex",
}
"""Columns of `images`."""
CELLS = ("photo_linf", "photo_psnr", "photo_ssim")
"""Columns of `cells`."""
PRIVACY = (*HITS, *COMPLEMENTS, "ism", "fta")
UTILITY = (*IMAGES, *CELLS)


def subject_values(summary: Summary, condition: Condition, metric: str, attacker: str = "") -> dict[str, float]:
    """Subject -> its figure, seeds pooled; a subject that has none is left out.

    Linked images are a share of those with a face, as in the headline. A subject without any has no share: 0 would count
    destroyed faces as protected ones.

    Args:
        attacker: of PRIVACY figures.

    Raises KeyError for a figure that is of the whole condition.
    """
    if metric in COMPLEMENTS:
        return {s: 1 - hit for s, hit in subject_values(summary, condition, COMPLEMENTS[metric], attacker).items()}
    if metric in IMAGES:
        return _means(condition.rows(summary.run.images), IMAGES[metric])
    if metric in CELLS:
        return _means(condition.rows(summary.run.cells), metric)
    probes = condition.rows(summary.run.probes)
    own = probes[probes["attacker"] == attacker]
    if metric == "ism":
        return _means(own[own["acquired"]], "mated")
    if metric == "fta":
        return _means(own.assign(lost=~own["acquired"]), "lost")
    seen = own[own["acquired"]]
    return _means(seen.assign(linked=HITS[metric](seen)), "linked")


def _means(rows: Rows, column: str) -> dict[str, float]:
    means = rows[column].astype(float).groupby(rows["subject"]).mean().dropna()
    return {str(subject): float(value) for subject, value in means.items()}
