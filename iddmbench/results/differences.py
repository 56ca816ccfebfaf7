"""Two conditions, of one run or of two: the paired difference of every figure that subjects have, attacker by attacker."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from iddmbench.errors import UserError
from iddmbench.metrics.paired import PairedDifference, holm
from iddmbench.results.comparable import check_comparable
from iddmbench.results.metric_info import metric
from iddmbench.results.paired import Side, compare
from iddmbench.results.per_subject import UTILITY, subject_values
from iddmbench.results.run_folder import WORST_CASE

HEADLINE = ("r1u", "psr@1e-2", "psr@1e-3", "ism", "fta")
"""Privacy figures that are compared; the rates of links are their complements."""


@dataclass(frozen=True)
class Difference:
    """One figure of two conditions over the subjects that both have.

    Attributes:
        attacker: a name, "worst-case" (the strongest of each condition, `by`), or empty for utility.
        first, second: means over these subjects. found: the first less the second, with interval and p.
        adjusted: p after Holm, over all the differences beside it; None with one subject.
    """

    metric: str
    attacker: str
    by: tuple[str, str]
    first: float
    second: float
    found: PairedDifference
    adjusted: float | None = None


def differences(first: Side, second: Side) -> list[Difference]:
    """The HEADLINE figures of every attacker that both have and of the worst case, then the utility figures, in that order.

    A figure that was not measured on one side is left out, and so is a subject that has it on one side only.

    Raises UserError when both are one condition, follow different protocols, or have no subject with a figure in common.
    """
    check_sides(first, second)
    found = [*_privacy(first, second), *_utility(first, second)]
    if not found:
        raise UserError("compare: the two have no subject with a figure in common")
    p_values = holm([one.found.p_value for one in found])
    return [replace(one, adjusted=p) for one, p in zip(found, p_values, strict=True)]


def check_sides(first: Side, second: Side) -> list[str]:
    """What limits a comparison of the two, one line each (`check_comparable`). Raises UserError where there can be none."""
    runs = first[0].run, second[0].run
    if runs[0].path.resolve() == runs[1].path.resolve():
        if first[1] == second[1]:
            raise UserError(f"compare: both are {first[1].title} of {runs[0].name}: choose two conditions, or two runs")
        return []
    warnings = check_comparable(runs)
    prints = [dict(zip(run.calibration["attacker"], run.calibration["fingerprint"], strict=True)) for run in runs]
    for name in prints[0].keys() & prints[1].keys():
        if prints[0][name] != prints[1][name]:
            warnings.append(f"attacker {name} has another version or other weights in the two runs")
    return sorted(warnings)


def attackers_of(first: Side, second: Side) -> list[str]:
    """Those that both runs have, in the first one's order, and the worst case where these are several."""
    shared = [name for name in first[0].attackers if name in second[0].attackers]
    return [*shared, WORST_CASE] if len(shared) > 1 else shared


def table(found: list[Difference]) -> pd.DataFrame:
    """One row per difference; `iddmbench.differences` documents the columns."""
    rows = [
        {
            "metric": one.metric,
            "title": metric(one.metric).title,
            "attacker": one.attacker,
            "by_first": one.by[0],
            "by_second": one.by[1],
            "first": one.first,
            "second": one.second,
            "difference": one.found.value,
            "low": one.found.low,
            "high": one.found.high,
            "p": one.found.p_value,
            "p_holm": one.adjusted,
            "subjects": one.found.subjects,
        }
        for one in found
    ]
    return pd.DataFrame(rows)


def _privacy(first: Side, second: Side) -> Iterator[Difference]:
    for attacker in attackers_of(first, second):
        for name in HEADLINE:
            if attacker == WORST_CASE and name in ("ism", "fta"):  # only links have a strongest attacker
                continue
            if (one := _difference(first, second, name, attacker)) is not None:
                yield one


def _utility(first: Side, second: Side) -> Iterator[Difference]:
    for name in UTILITY:
        if (one := _difference(first, second, name, "")) is not None:
            yield one


def _difference(first: Side, second: Side, name: str, attacker: str) -> Difference | None:
    if any(summary.get(condition, name, attacker) is None for summary, condition in (first, second)):
        return None
    paired = compare(first, second, attacker, name)
    if paired is None:
        return None
    sides = zip((first, second), paired.by, strict=True)
    values = [subject_values(summary, condition, name, by) for (summary, condition), by in sides]
    shared = values[0].keys() & values[1].keys()
    means = [math.fsum(value[s] for s in shared) / len(shared) for value in values]
    return Difference(name, attacker, paired.by, means[0], means[1], paired.difference)
