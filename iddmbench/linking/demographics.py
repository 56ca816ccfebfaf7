"""Protection by sex, age and skin tone: the figures of a condition over the people of each group alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from iddmbench.linking.aggregate import (
    Group,
    HitRates,
    attacker_hits,
    estimates,
    has_figures,
    hit_rows,
    judged,
    members,
    strongest,
    threat_of,
    utility_row,
    utility_values,
)
from iddmbench.photos.demographics import GROUPS, TRAITS
from iddmbench.results.metric_info import KEPT
from iddmbench.results.run_folder import UNION, UNION_ADAPTIVE

HITS = ("rank1_hit", "match_rate@1e-2")
SHARES = ("face_detection_rate", *KEPT)
POLICY = "headline"


def demographic_rows(
    group: Group, attackers: Sequence[str], able: Sequence[str], traits: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Rows of the table `demographics` (iddmbench.results.run_folder) of one condition.

    Each figure is that of the summary, over the people of one group, with the interval over them: what is linked by each
    attacker and by the strongest one of the group, faces found, kept age and sex. Groups that nobody is in have no row.

    Args:
        traits: by subject, then by trait: the group.
        attackers, able: as for `summarize_group`.
    """
    rows: list[dict[str, Any]] = []
    for trait in TRAITS:
        for name in _groups(trait, traits):
            people = {s: cells for s, cells in group.cells.items() if traits.get(s, {}).get(trait) == name}
            if people:
                context = {"defense": group.defense, "strength": group.strength, "trait": trait, "group": name}
                rows += [_row(context, row) for row in _figures(replace(group, cells=people), attackers, able)]
    return rows


def _groups(trait: str, traits: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Known ones in their order, then what a dataset calls otherwise."""
    found = {own[trait] for own in traits.values() if own.get(trait)}
    known = GROUPS[trait]
    return [name for name in known if name in found] + sorted(found - {*known})


def _row(context: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("attacker", "threat", "metric", "value", "low", "high", "images", "subjects", "by")
    return {**context, **{column: row[column] for column in kept}}


def _figures(group: Group, attackers: Sequence[str], able: Sequence[str]) -> Iterable[dict[str, Any]]:
    seen: dict[str, list[HitRates]] = {}
    threats = {name: threat_of(name, group.white_box) for name in attackers}
    for name in (name for name in attackers if has_figures(group, name)):
        acquired = group.per_subject(lambda s, n=name: s.linkage[n].acquired)
        seen[name] = [HitRates.of(hits, acquired) for hits in attacker_hits(group, name) if hits.metric in HITS]
        for one, found in zip(seen[name], estimates(seen[name]), strict=True):
            yield from hit_rows(one, POLICY, found[POLICY], name, threats[name])
    for judge, names in members(able, group.white_box).items():
        if judge not in (UNION, UNION_ADAPTIVE):
            own = {name: seen[name] for name in names if name in seen}
            yield from (row for row in strongest(own, judge, threats) if row["policy"] == POLICY)
    values = utility_values(group)
    for metric in SHARES:
        if np.isfinite(np.concatenate(values[metric])).any():
            yield judged(utility_row(metric, values[metric]), group)
