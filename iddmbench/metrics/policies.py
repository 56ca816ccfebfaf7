"""What a probe in which no face was found counts for.

A defense that destroys faces leaves the linker nothing to compare. Counting such probes as protected would reward it;
dropping them would hide it. So every privacy figure is given under three policies, beside the share of lost probes:

- "acquired": only probes with a face count. Undefined (NaN) when there is none.
- "miss": a lost probe is not linked: hit 0, protection 1. What a linker who needs a face gets.
- "chance": a lost probe is linked as often as a guess would be. What a linker who must answer gets.

The headline is the policy most pessimistic for the defense. With no face at all "acquired" has no value, and the headline
falls back to the other two: protection is then nearly total, and only the detection rate in the utility index shows
that the images are worthless. A privacy figure is therefore never read without the utility beside it.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

Policy = Literal["acquired", "miss", "chance"]
POLICIES: tuple[Policy, ...] = ("acquired", "miss", "chance")


def hits_under(policy: Policy, hits: np.ndarray, acquired: np.ndarray, chance: float) -> np.ndarray:
    """Per-probe hits once lost probes have been given their value.

    Args:
        hits: bool or float [P] in [0, 1]; ignored where not acquired.
        acquired: bool [P].
        chance: hit probability of a guess, in [0, 1]: k / I at rank k among I identities, the achieved FAR for a
            match at a threshold.

    Returns: float [P]; "acquired" gives NaN for lost probes, which `iddmbench.metrics.rates.rate_interval` takes as lost.

    Raises ValueError for unequal lengths, hits or chance outside [0, 1], or an unknown policy.
    """
    acquired = np.asarray(acquired, dtype=bool)
    values = np.where(acquired, np.asarray(hits, dtype=np.float64), 0.0) if np.shape(hits) == acquired.shape else None
    if values is None or acquired.ndim != 1:
        raise ValueError(f"hits {np.shape(hits)} and acquired {acquired.shape} must be vectors of one length")
    if not ((values >= 0) & (values <= 1)).all() or not 0 <= chance <= 1:
        raise ValueError("hits and chance must lie in [0, 1]")
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    lost = {"acquired": math.nan, "miss": 0.0, "chance": chance}[policy]
    return np.where(acquired, values, lost)


def most_pessimistic_policy(protection: Mapping[Policy, float]) -> Policy:
    """The policy under which the protection rate is lowest; undefined (NaN) ones are passed over, ties go to the first.

    Raises ValueError when none is defined.
    """
    defined = {policy: value for policy, value in protection.items() if not math.isnan(value)}
    if not defined:
        raise ValueError("no policy has a value")
    return min(defined, key=lambda policy: defined[policy])
