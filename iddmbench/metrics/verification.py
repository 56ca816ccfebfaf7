"""One-to-one comparison: is this image the claimed person? A comparison is a match when its score is >= the threshold.

Names follow ISO/IEC 19795-1: FAR, the share of impostor comparisons that match; FRR, the share of genuine ones that do
not; TAR = 1 - FRR. Scores are similarities (cosine): higher is more alike.
"""

import math
from dataclasses import dataclass

import numpy as np

from iddmbench.errors import UserError


@dataclass(frozen=True)
class Threshold:
    """A calibrated operating point.

    Attributes:
        value: the threshold; a score >= value is a match.
        far: the false-accept rate asked for.
        achieved: the one that the calibration pairs have at `value`; never above `far`.
        pairs: number of impostor pairs.
    """

    value: float
    far: float
    achieved: float
    pairs: int


def finest_far(pairs: int) -> float:
    """3 / pairs: by the rule of three, no error in N pairs says no more than that the rate is below 3 / N (95 %)."""
    return 3 / pairs


def threshold_at_far(impostors: np.ndarray, far: float) -> Threshold:
    """The lowest threshold whose share of matching impostor pairs is at most `far`.

    The lowest one is the kindest to the attacker. Tied scores are accepted or refused together, so that `achieved` may
    lie well below `far`.

    Args:
        impostors: scores [N] of pairs of different people.
        far: in (0, 1).

    Raises UserError when N pairs can't resolve `far` (finer than 3 / N), ValueError for NaN or a rate out of range.
    """
    scores = _scores(impostors, "impostor")
    if not 0 < far < 1:
        raise ValueError(f"far must lie between 0 and 1, got {far}")
    if far < finest_far(scores.size):
        raise UserError(
            f"FAR {far:g} is finer than {scores.size} impostor pairs resolve: "
            f"ask for at least {finest_far(scores.size):.2g}, or calibrate on {math.ceil(3 / far)} pairs"
        )
    allowed = math.floor(far * scores.size + 1e-9)
    first_refused = np.partition(scores, scores.size - 1 - allowed)[scores.size - 1 - allowed]
    # The next float of the scores' own precision: a comparison in float32 would round a finer one down to the score.
    kind = np.float32 if np.asarray(impostors).dtype == np.float32 else np.float64
    value = float(np.nextafter(kind(first_refused), kind(np.inf)))
    return Threshold(value, far, float((scores >= value).mean()), scores.size)


@dataclass(frozen=True)
class Roc:
    """Empirical operating points, one per distinct score and one that accepts nothing; by falling threshold.

    Attributes:
        thresholds: [K], the first is +inf.
        far, tar: [K], both rising from 0 to 1.
    """

    thresholds: np.ndarray
    far: np.ndarray
    tar: np.ndarray

    @property
    def frr(self) -> np.ndarray:
        """[K] false-reject rate: (far, frr) is the DET curve."""
        return 1 - self.tar


def roc(genuine: np.ndarray, impostors: np.ndarray) -> Roc:
    """All operating points of two sets of scores. Raises ValueError when either is empty or holds NaN."""
    genuine, impostors = _scores(genuine, "genuine"), _scores(impostors, "impostor")
    levels = np.unique(np.concatenate([genuine, impostors]))[::-1]
    far, tar = (1 - np.searchsorted(np.sort(s), levels, side="left") / s.size for s in (impostors, genuine))
    return Roc(np.concatenate([[np.inf], levels]), np.concatenate([[0.0], far]), np.concatenate([[0.0], tar]))


def eer(genuine: np.ndarray, impostors: np.ndarray) -> float:
    """Equal error rate: FAR = FRR on the ROC curve, linear between its points. Higher is more private.

    0: told apart; 0.5: no better than chance; above 0.5: impostors score higher.
    """
    return eer_point(genuine, impostors)[0]


def eer_point(genuine: np.ndarray, impostors: np.ndarray) -> tuple[float, float]:
    """The equal error rate and the first threshold, from above, at which FAR is no longer below FRR."""
    points = roc(genuine, impostors)
    gap = points.far - points.frr  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    step = gap[after] - gap[after - 1]
    share = -gap[after - 1] / step
    value = points.far[after - 1] + share * (points.far[after] - points.far[after - 1])
    return float(value), float(points.thresholds[after])


def auc(genuine: np.ndarray, impostors: np.ndarray) -> float:
    """Area under the ROC curve, in [0, 1]: P(genuine > impostor) + P(equal) / 2 (Mann-Whitney). Higher is more leakage.

    0.5 is chance.
    """
    return float(placements(genuine, impostors).mean())


def placements(genuine: np.ndarray, impostors: np.ndarray) -> np.ndarray:
    """Share of impostor scores below each genuine one, equal ones by half: float [G] in [0, 1]. Their mean is the AUC."""
    genuine, impostors = _scores(genuine, "genuine"), np.sort(_scores(impostors, "impostor"))
    below, upto = (np.searchsorted(impostors, genuine, side=side) for side in ("left", "right"))
    return (below + upto) / (2 * impostors.size)


def d_prime(genuine: np.ndarray, impostors: np.ndarray) -> float:
    """(mean_g - mean_i) / sqrt((var_g + var_i) / 2), sample variances (Daugman 2000); higher is more leakage.

    NaN when neither set varies. Raises ValueError with fewer than two scores in a set.
    """
    genuine, impostors = _scores(genuine, "genuine"), _scores(impostors, "impostor")
    if min(genuine.size, impostors.size) < 2:
        raise ValueError("d' needs two scores of each kind")
    spread = math.sqrt((genuine.var(ddof=1) + impostors.var(ddof=1)) / 2)
    return float((genuine.mean() - impostors.mean()) / spread) if spread > 0 else math.nan


def _scores(values: np.ndarray, kind: str) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0 or np.isnan(scores).any():
        raise ValueError(f"{kind} scores must be a non-empty vector without NaN, got shape {scores.shape}".strip())
    return scores
