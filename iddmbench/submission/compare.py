"""Claims against recomputed figures: what differs by more than another machine explains is named."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from iddmbench.results.metric_info import CLOSENESS, ERASED, INDEX, INDEX_WITH_KEPT, KEPT_LOOK, KID, REALISM, metric
from iddmbench.results.run_folder import WORST_CASES
from iddmbench.submission.authenticity import title
from iddmbench.submission.schema import Claim

RATE, IMAGES = 0.02, 1.5
"""A rate may differ by two hundredths, or by one and a half of the images behind it."""
ABSOLUTE = {
    "ism": 0.01,
    "auc": 0.02,
    "d_prime": 0.15,
    "d_sys": 0.05,
    "eer": 0.03,
    "ser_fiq": 0.01,
    "brisque": 1.0,
    KID: 0.02,
    CLOSENESS: 0.01,
    REALISM: 0.02,
    KEPT_LOOK: 0.03,
    ERASED: 0.02,
    "adherence": 0.03,
    INDEX: 0.03,
    INDEX_WITH_KEPT: 0.03,
}
RELATIVE = 0.05
"""Of figures that neither are rates nor stand above: FID."""


@dataclass(frozen=True)
class ClaimDifference:
    claim: Claim
    found: float
    allowed: float

    def __str__(self) -> str:
        c = self.claim
        where = ", ".join(part for part in (c.attacker, c.policy) if part)
        name = f"{title(c.defense, c.strength)}: {c.metric}{f' ({where})' if where else ''}"
        return f"{name} is claimed as {c.value:.4g}, recomputed {self.found:.4g} (tolerance {self.allowed:.2g})"


def tolerance(name: str, value: float, images: int) -> float:
    """How far a claim of that metric may lie from the recomputed `value`, which rests on so many images."""
    if name in ABSOLUTE:
        return ABSOLUTE[name]
    if metric(name).share:
        return max(RATE, IMAGES / max(images, 1))
    return RELATIVE * max(abs(value), 1e-3)


def differences(
    claims: Sequence[Claim], summary: pd.DataFrame, same: Collection[str], names: Mapping[str, str] | None = None
) -> list[ClaimDifference]:
    """Claims that the recomputed summary table contradicts.

    Args:
        same: the worst cases that are over the same attackers on both sides; the others mean different things and are not
            compared. Figures of attackers that were not run here are passed over as well.
        names: public names of attackers in the summary table, where they differ from their own (`names.public_name`).
    """
    found, names = {}, names or {}
    for row in summary.to_dict("records"):
        strength = None if math.isnan(row["strength"]) else float(row["strength"])
        attacker = str(row["attacker"])
        key = (str(row["defense"]), strength, names.get(attacker, attacker), str(row["metric"]), str(row["policy"]))
        found[key] = (float(row["value"]), int(row["images"]))
    contradicted = []
    old = not any(claim.metric == KEPT_LOOK for claim in claims)  # another version of the index
    for claim in claims:
        if old and claim.metric in (INDEX, INDEX_WITH_KEPT):
            continue
        if claim.attacker in WORST_CASES and claim.attacker not in same:
            continue
        value, images = found.get(
            (claim.defense, claim.strength, claim.attacker, claim.metric, claim.policy), (math.nan, 0)
        )
        if not math.isfinite(value):
            continue
        allowed = tolerance(claim.metric, value, images)
        if not abs(claim.value - value) <= allowed:
            contradicted.append(ClaimDifference(claim, value, allowed))
    return contradicted
