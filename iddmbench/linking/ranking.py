"""One number for a defense's whole curve, with its interval: the area of (privacy, utility) that its strengths dominate.

The points are those of the summary table: privacy is 1 - hit rate under the policy least kind to the defense, utility is the
utility index. Intervals come from the same two-stage bootstrap, in which all strengths, all judges and both anchors share the
drawn subjects and images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iddmbench.adaptive import links_people, parse
from iddmbench.errors import UserError
from iddmbench.linking.aggregate import (
    RESAMPLES,
    Group,
    Hits,
    attacker_hits,
    index_of,
    index_tables,
    informative,
    systems_of,
    worst_case_attackers,
)
from iddmbench.metrics.estimate import Estimate, resampled_means, summarize
from iddmbench.metrics.policies import POLICIES, Policy, most_pessimistic_policy
from iddmbench.metrics.tradeoff import Point, hypervolume, privacy_at_utility, utility_at_privacy
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE
from iddmbench.seeds import Seeds

METRICS = ("psr@1e-2", "psr@1e-3", "r1u")
"""Privacy figures that can stand on the vertical axis; the first one ranks."""
ENOUGH = 0.9


@dataclass(frozen=True)
class Standing:
    """A defense's curve against one judge.

    Attributes:
        judge: an attacker; "worst-case": any plain attacker that is not white-box; or "worst-case-adaptive": any of these and
            of the adaptive ones that link people.
        metric: one of METRICS.
        strengths: the grid that the curve is taken on; strength 0, the undefended model, always belongs to it.
        hypervolume: area in [0, 1] that the points dominate, from (0, 0).
        privacy_at, utility_at: privacy at utility >= 0.9 and the reverse, on straight lines between strengths; None where the
            curve never gets there.
    """

    judge: str
    metric: str
    strengths: tuple[float, ...]
    hypervolume: Estimate
    privacy_at: float | None
    utility_at: float | None


def standings(
    groups: Sequence[Group], attackers: Sequence[str], grid: Sequence[float], seed: int = 0
) -> list[Standing]:
    """The standings of the one defense among `groups` against the worst cases and each attacker.

    The worst case with adaptive attackers stands there if there are any. An attacker has no standing in a metric that its
    calibration could not resolve in some condition.

    Args:
        groups: the defense's conditions and both anchors.
        attackers: names, adaptive ones included.
        grid: strengths in (0, 1] that count; the defense needs all of them.

    Raises UserError that says what is missing: an anchor, a strength of the grid, a cell.
    """
    anchors = {g.defense: g for g in groups if np.isnan(g.strength)}
    for name in ("none", "generic"):
        if name not in anchors or not anchors[name].cells:
            raise UserError(f"the anchor '{name}' is missing")
    own = {g.strength: g for g in groups if not np.isnan(g.strength)}
    if absent := [s for s in grid if s not in own]:
        raise UserError(f"strength {', '.join(f'{s:g}' for s in absent)} is missing")
    curve = [anchors["none"], *(own[s] for s in grid)]
    if any(g.missing for g in (*curve, anchors["generic"])):
        raise UserError("some cells failed")
    subjects = sorted(curve[0].cells)
    if any(sorted(g.cells) != subjects for g in (*curve, anchors["generic"])):
        raise UserError("the conditions do not hold the same subjects")
    ordered = [_only(g, subjects) for g in (*curve, anchors["generic"])]
    curve, generic = ordered[:-1], ordered[-1]
    white_box = systems_of(name for g in curve for name in g.white_box)
    unknown = worst_case_attackers(curve, list(attackers))
    judges = {WORST_CASE: [n for n in unknown if not white_box & systems_of([n]) and parse(n) is None]}
    if prepared := [n for n in attackers if links_people(n)]:
        judges[WORST_CASE_ADAPTIVE] = [*judges[WORST_CASE], *prepared]
    judges |= {name: [name] for name in attackers}
    looked_up = [(j, m, _hit_tables(curve, names, m)) for j, names in judges.items() for m in METRICS]
    privacy = [(j, m, table) for j, m, table in looked_up if table is not None]
    utility = [index_tables([g, curve[0], generic], subjects) for g in curve]
    shortest = [min(len(t[s]) for t in (*utility, *(x for _, _, (x, _) in privacy))) for s in range(len(subjects))]
    columns = [*utility, *(tables for _, _, (tables, _) in privacy)]
    rows = [np.concatenate([t[s][:n] for t in columns], axis=1) for s, n in enumerate(shortest)]
    means = np.concatenate(rows).mean(0)
    samples = resampled_means(rows, Seeds(seed).child("bootstrap", "standing").numpy(), RESAMPLES)
    width = utility[0][0].shape[1]
    used = [informative(means[i * width : (i + 1) * width]) for i in range(len(curve))]
    index = _indices(samples, used, width)
    defined = np.isfinite(index).all(1)  # as for the index itself: a resample in which it has no value is left out
    samples, index, own_index = samples[defined], index[defined], _indices(means[None], used, width)
    if not np.isfinite(own_index).all():
        raise UserError("the utility index has no value")
    strengths = (0.0, *(float(s) for s in grid))
    found, start = [], width * len(curve)
    for judge, metric, (tables, chance) in privacy:
        part = slice(start, start := start + tables[0].shape[1])
        policies = _policies(means[part], chance)
        value = _points(strengths, _protection(means[None, part], policies, chance), own_index)[0]
        drawn = _points(strengths, _protection(samples[:, part], policies, chance), index)
        area = summarize(hypervolume(value), np.array([hypervolume(p) for p in drawn]), sum(map(len, rows)), len(rows))
        at = privacy_at_utility(value, ENOUGH), utility_at_privacy(value, ENOUGH)
        found.append(Standing(judge, metric, strengths, area, *at))
    return found


def _only(group: Group, subjects: list[str]) -> Group:
    return Group(group.defense, group.strength, group.white_box, {s: group.cells[s] for s in subjects}, group.missing)


def _hit_tables(curve: list[Group], attackers: list[str], metric: str) -> tuple[list[np.ndarray], np.ndarray] | None:
    """Per subject float [n, 2 * conditions]: is the image linked by any of the attackers, does any find a face; and what a
    guess hits, float [conditions]. None where no attacker has the metric in some condition."""
    parts, chance = [], []
    for group in curve:
        have = [(name, hits) for name in attackers for hits in _of(group, name, metric)]
        if not have:
            return None
        several = [hits for _, hits in have]
        chance.append(max(hits.chance for hits in several))
        linked = [np.any(v, axis=0) for v in zip(*(h.values for h in several), strict=True)]
        found = [group.per_subject(lambda s, n=name: s.linkage[n].acquired) for name, _ in have]
        seen = [np.any(v, axis=0) for v in zip(*found, strict=True)]
        parts.append([np.column_stack((a & b, b)).astype(float) for a, b in zip(linked, seen, strict=True)])
    lengths = [min(len(p[s]) for p in parts) for s in range(len(parts[0]))]
    return [np.concatenate([p[s][:n] for p in parts], axis=1) for s, n in enumerate(lengths)], np.array(chance)


def _of(group: Group, name: str, metric: str) -> list[Hits]:
    if any(name not in scored.linkage for cells in group.cells.values() for scored in cells):
        return []  # an adaptive attacker that had too few finished cells to learn on
    return [hits for hits in attacker_hits(group, name) if hits.inverse == metric]


def _rates(means: np.ndarray, chance: np.ndarray) -> dict[Policy, np.ndarray]:
    """Hit rates [B, conditions] under each policy, from means [B, 2 * conditions]; NaN where no face was acquired."""
    hits, seen = means[:, 0::2], means[:, 1::2]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"acquired": hits / seen, "miss": hits, "chance": hits + (1 - seen) * chance}


def _policies(means: np.ndarray, chance: np.ndarray) -> list[Policy]:
    """For each condition the policy least kind to the defense, chosen on the data as they are."""
    rates = _rates(means[None], chance)
    return [most_pessimistic_policy({p: 1 - rates[p][0, i] for p in POLICIES}) for i in range(len(means) // 2)]


def _protection(means: np.ndarray, policies: list[Policy], chance: np.ndarray) -> np.ndarray:
    """Protection rates [B, conditions]; a resample without any acquired face is as under "chance"."""
    rates = _rates(means, chance)
    columns = [
        np.where(np.isnan(rates[p][:, i]), rates["chance"][:, i], rates[p][:, i]) for i, p in enumerate(policies)
    ]
    return np.clip(1 - np.column_stack(columns), 0, 1)


def _indices(means: np.ndarray, used: list[list[str]], width: int) -> np.ndarray:
    """Utility indices [B, conditions], NaN where there is none."""
    values = [[index_of(row[i * width : (i + 1) * width], names) for i, names in enumerate(used)] for row in means]
    return np.array(values)


def _points(strengths: tuple[float, ...], privacy: np.ndarray, utility: np.ndarray) -> list[list[Point]]:
    return [
        [Point(s, float(p), float(u)) for s, p, u in zip(strengths, *row, strict=True)]
        for row in zip(privacy, utility, strict=True)
    ]
