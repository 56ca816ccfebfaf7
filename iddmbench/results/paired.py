"""Which conditions can be told apart: paired tests over the same subjects, adjusted for how many are shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from iddmbench.metrics.estimate import LEVEL
from iddmbench.metrics.paired import PairedDifference, holm, paired_difference
from iddmbench.results.per_subject import subject_values
from iddmbench.results.run_folder import WORST_CASE
from iddmbench.results.summary import UNDEFENDED, Condition, Summary
from iddmbench.seeds import Seeds

FEW = 4
"""Most defenses that are compared each with each; of more, each with the one that links the fewest images."""
Side = tuple[Summary, Condition]


@dataclass(frozen=True)
class Comparison:
    """One figure of two conditions, by default rank-1 hits against their strongest attackers: the first less the second.

    Attributes:
        first, second: conditions. by: the attackers; empty for utility.
        difference: of the figure, over `difference.subjects` subjects.
        adjusted: its p value after Holm, over the comparisons that it is shown with; None with one subject.
    """

    first: Condition
    second: Condition
    by: tuple[str, str]
    difference: PairedDifference
    adjusted: float | None

    @property
    def apart(self) -> bool:
        """Whether the two are told apart; if not, they tie."""
        return self.adjusted is not None and self.adjusted <= 1 - LEVEL


def compare(first: Side, second: Side, judge: str = WORST_CASE, metric: str = "rank1_hit") -> Comparison | None:
    """Two conditions, of one run or of two, over the subjects that both have a figure of; None where there are none.

    Args:
        judge: a worst case, for the strongest attacker of each, an attacker's name, or "" for utility.
        metric: one of `iddmbench.results.per_subject`.
    """
    names = [s.strongest(c, judge, metric) or judge for s, c in (first, second)]
    values = [subject_values(s, c, metric, name) for (s, c), name in zip((first, second), names, strict=True)]
    shared = [subject for subject in values[0] if subject in values[1]]
    if not shared:
        return None
    a, b = (np.array([value[subject] for subject in shared]) for value in values)
    rng = Seeds(0).child("paired", first[1].label, second[1].label).numpy()
    found = paired_difference(a, b, rng)
    return Comparison(first[1], second[1], (names[0], names[1]), found, found.p_value)


def comparisons(summary: Summary, judge: str = WORST_CASE) -> list[Comparison]:
    """Each defense at its highest strength with the undefended model, neighbouring strengths, and defenses with each other;
    the p values are adjusted for all of them."""
    pairs = [*against_undefended(summary), *_strengths(summary), *_defenses(summary, judge)]
    return adjusted(compare((summary, a), (summary, b), judge) for a, b in pairs)


def adjusted(found: Iterable[Comparison | None]) -> list[Comparison]:
    """The comparisons that there are, with p values after Holm over them."""
    known = [one for one in found if one is not None]
    p_values = holm([one.difference.p_value for one in known])
    return [replace(one, adjusted=p) for one, p in zip(known, p_values, strict=True)]


def against_undefended(summary: Summary) -> list[tuple[Condition, Condition]]:
    undefended = [c for c in summary.conditions if c.defense == UNDEFENDED]
    return [(summary.curve(d)[-1], undefended[0]) for d in summary.defenses if undefended]


def _strengths(summary: Summary) -> list[tuple[Condition, Condition]]:
    if len(summary.defenses) > FEW:
        return []
    return [(b, a) for d in summary.defenses for a, b in pairwise(summary.curve(d))]


def _defenses(summary: Summary, judge: str) -> Sequence[tuple[Condition, Condition]]:
    strongest = [summary.curve(d)[-1] for d in summary.defenses]
    if len(strongest) <= FEW:
        return list(combinations(strongest, 2))
    linked = {c: v.value for c in strongest if (v := summary.get(c, "rank1_hit", judge))}
    best = min(linked, key=lambda c: linked[c], default=None)
    return [(best, c) for c in strongest if c != best] if best else []
