"""From scored cells to the summary table: every figure with its 95 % interval, policy and number of images."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from iddmbench.adaptive import links_people, parse, roots
from iddmbench.attacker import same_network
from iddmbench.cells.stages import Cell, Utility
from iddmbench.linking.linker import Linkage
from iddmbench.metrics.distribution import frechet_distance, kernel_distance
from iddmbench.metrics.estimate import Estimate, bootstrap, bootstrap_mean, bootstrap_ratio, resampled_means
from iddmbench.metrics.estimate import summarize as summarize_samples
from iddmbench.metrics.identification import chance_level
from iddmbench.metrics.policies import POLICIES, Policy, hits_under, most_pessimistic_policy
from iddmbench.metrics.unlinkability import FEWEST, d_sys
from iddmbench.metrics.utility import Component, utility
from iddmbench.metrics.verification import auc, d_prime, eer
from iddmbench.results.run_folder import (
    ADAPTIVE,
    ADAPTIVE_WHITE_BOX,
    TRANSFER,
    WHITE_BOX,
    WORST_CASE,
    WORST_CASE_ADAPTIVE,
    label,
)
from iddmbench.seeds import Seeds

K = TypeVar("K")
V = TypeVar("V")
RESAMPLES = 1000
ADHERENCE_CHANCE = 1 / 3
"""Each attribute has three values."""


@dataclass(frozen=True)
class Scored:
    """A finished cell with what every attacker and the utility metrics made of it.

    change: how much each reference photo was changed, float [photos] by metric; empty if none was.
    """

    cell: Cell
    linkage: dict[str, Linkage]
    utility: Utility
    change: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """All finished cells of one defense at one strength, by subject (seeds pooled)."""

    defense: str
    strength: float
    white_box: tuple[str, ...]
    cells: dict[str, list[Scored]]
    missing: int

    @property
    def label(self) -> str:
        return label(self.defense, self.strength)

    def per_subject(self, value: Any) -> list[np.ndarray]:
        """`value(scored)` [N, ...] of each subject's cells, one array per subject."""
        return [np.concatenate([value(s) for s in scored]) for scored in self.cells.values()]


def summarize(groups: list[Group], attackers: Iterable[str], real: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """The summary table of several conditions: `summarize_group` of each, against the anchors among them."""
    attackers = list(attackers)
    judges = worst_case_attackers(groups, attackers)
    anchors = {group.defense: group for group in groups if np.isnan(group.strength)}
    rows = [row for group in groups for row in summarize_group(group, attackers, judges, anchors, real, seed)]
    return pd.DataFrame(rows)


def summarize_group(
    group: Group,
    attackers: Sequence[str],
    judges: Sequence[str],
    anchors: Mapping[str, Group],
    real: np.ndarray,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of the summary table (iddmbench.results.run_folder documents its columns) for one condition.

    Args:
        attackers: names, adaptive ones included.
        judges: those that make the worst case, see `worst_case_attackers`.
        anchors: the conditions "none" and "generic", where there are any; of them the utility is enough.
        real: float [M, D] features of the subjects' references, which FID and KID compare with.
        seed: of the bootstrap.
    """
    rows: list[dict[str, Any]] = []
    if group.cells:
        seeds = Seeds(seed).child("bootstrap", group.label)
        rows += _privacy(group, attackers, judges, seeds)
        rows += _utility(group, real, seeds)
    rows.append(_index_row(group, anchors, seed))
    return [{**_context(group), **row} for row in rows]


def _context(group: Group) -> dict[str, Any]:
    return {"defense": group.defense, "strength": group.strength, "missing": group.missing}


def _row(
    metric: str, estimate: Estimate | None, attacker: str = "", threat: str = "", policy: str = ""
) -> dict[str, Any]:
    e = estimate or Estimate(np.nan, np.nan, np.nan, 0, 0)
    return {
        "attacker": attacker,
        "threat": threat,
        "metric": metric,
        "policy": policy,
        "value": e.value,
        "low": e.low,
        "high": e.high,
        "images": e.n,
        "subjects": e.groups,
    }


class Knowing(Protocol):
    """Anything that says which attackers a defense optimized against."""

    @property
    def white_box(self) -> tuple[str, ...]: ...


def worst_case_attackers(groups: Iterable[Knowing], attackers: Sequence[str]) -> list[str]:
    """Attackers that rest on no system that a defense of the run optimized against: over them the worst case compares all
    conditions alike.

    Where the defenses leave none in common, all attackers, of which each condition's own white-box ones are then left out.
    """
    used = systems_of(name for group in groups for name in group.white_box)
    return [name for name in attackers if not used & systems_of([name])] or list(attackers)


def systems_of(attackers: Iterable[str]) -> set[str]:
    """All systems that some attackers rest on, and those that have the same network under another name."""
    return {system for name in attackers for root in roots(name) for system in (root, same_network(root))}


def threat_of(name: str, white_box: tuple[str, ...]) -> str:
    """What an attacker knows of a defense with those surrogates (docs/protocol.md)."""
    known = bool(systems_of([name]) & systems_of(white_box))
    if parse(name) is None:
        return WHITE_BOX if known else TRANSFER
    return ADAPTIVE_WHITE_BOX if known else ADAPTIVE


def _privacy(group: Group, attackers: Iterable[str], judges: Sequence[str], seeds: Seeds) -> Iterable[dict[str, Any]]:
    unknown: dict[tuple[str, str], list[Hits]] = defaultdict(list)
    seen: dict[tuple[str, str], list[list[np.ndarray]]] = defaultdict(list)
    for name in attackers:
        if any(name not in scored.linkage for cells in group.cells.values() for scored in cells):
            continue  # an adaptive attacker that had too few finished cells to learn on; the log says so
        threat = threat_of(name, group.white_box)
        acquired = group.per_subject(lambda s, n=name: s.linkage[n].acquired)
        for hits in attacker_hits(group, name):
            shown = hits.acquired or acquired
            for row in _under_policies(hits, shown, seeds.child(name, hits.metric)):
                yield {**row, "attacker": name, "threat": threat}
            if not hits.inverse:
                continue
            for worst in _worst_cases(name, threat, judges):
                unknown[worst, hits.metric].append(hits)
                seen[worst, hits.metric].append(shown)
        lost_rate = bootstrap_mean(
            [1.0 - a for a in acquired], seeds.child(name, "fta").numpy(), RESAMPLES, bounds=(0, 1)
        )
        yield _row("fta", lost_rate, name, threat)
        yield from _score_metrics(group, name, threat, seeds)
    for (worst, metric), several in unknown.items():
        # Image by image: linked if any attacker that the defense did not optimize against links it, acquired if any finds
        # a face on it.
        joint = [np.any(per_attacker, axis=0) for per_attacker in zip(*(h.values for h in several), strict=True)]
        hits = Hits(metric, joint, max(h.chance for h in several), several[0].inverse)
        found = [np.any(per_attacker, axis=0) for per_attacker in zip(*seen[worst, metric], strict=True)]
        for row in _under_policies(hits, found, seeds.child(worst, metric)):
            yield {**row, "attacker": worst, "threat": TRANSFER if worst == WORST_CASE else ADAPTIVE}


def _worst_cases(name: str, threat: str, judges: Sequence[str]) -> list[str]:
    """The worst cases that an attacker counts in: over transfer attackers, and with the adaptive ones."""
    if parse(name) is None and (threat == WHITE_BOX or name not in judges):
        return []
    if parse(name) and not links_people(name):
        return []
    return [WORST_CASE, WORST_CASE_ADAPTIVE] if threat == TRANSFER else [WORST_CASE_ADAPTIVE]


@dataclass(frozen=True)
class Hits:
    """metric: name of the hit rate; values: bool [n_s] per subject; chance: a guess's hit rate; inverse: name of 1 - rate.

    acquired: bool [n_s] per subject where they are not the images' own (feeds).
    """

    metric: str
    values: list[np.ndarray]
    chance: float
    inverse: str
    acquired: list[np.ndarray] | None = None


def attacker_hits(group: Group, name: str) -> Iterable[Hits]:
    """Every hit rate of one attacker."""
    seen = [scored.linkage[name] for cells in group.cells.values() for scored in cells]
    identities = min(one.identities for one in seen)
    for k in (1, 5):
        hits = group.per_subject(lambda s, n=name, k=k: (s.linkage[n].rank >= 1) & (s.linkage[n].rank <= k))
        yield Hits(f"rank{k}_hit", hits, chance_level(identities, k), f"r{k}u")
    for far in _in_all([one.matched for one in seen]):
        hits = group.per_subject(lambda s, n=name, f=far: s.linkage[n].matched[f].hits)
        achieved = max(one.matched[far].threshold.achieved for one in seen)
        yield Hits(f"match_rate@{far}", hits, achieved, f"psr@{far}")
    for fpir in _in_all([one.found for one in seen]):
        hits = group.per_subject(lambda s, n=name, f=fpir: s.linkage[n].found[f].hits)
        # A guess must name the right one of all identities, and pass the threshold as a stranger does.
        achieved = max(one.found[fpir].threshold.achieved for one in seen)
        yield Hits(f"tpir@{fpir}", hits, achieved * chance_level(identities), f"fnir@{fpir}")
    for posts in _in_all([one.feeds for one in seen]):
        hits = group.per_subject(lambda s, n=name, p=posts: s.linkage[n].feeds[p].rank == 1)
        acquired = group.per_subject(lambda s, n=name, p=posts: s.linkage[n].feeds[p].acquired)
        yield Hits(f"rank1_hit@{posts}posts", hits, chance_level(identities), f"r1u@{posts}posts", acquired)
    if all(one.decoy_rank is not None for one in seen):
        hits = group.per_subject(lambda s, n=name: s.linkage[n].decoy_rank == 1)
        yield Hits("r1t", hits, chance_level(identities + 1), "")


def _in_all(tables: list[dict[K, V]]) -> list[K]:
    """Keys that all have, in order: a rate that some cell's calibration could not resolve is left out for all."""
    return [key for key in tables[0] if all(key in table for table in tables)]


def _under_policies(hits: Hits, acquired: list[np.ndarray], seeds: Seeds) -> Iterable[dict[str, Any]]:
    """The hit rate and (if it has a name) its complement under each policy, then the least kind one as headline."""
    rates: dict[Policy, Estimate] = {}
    for policy in POLICIES:
        values = [hits_under(policy, h, a, hits.chance) for h, a in zip(hits.values, acquired, strict=True)]
        rng = seeds.child(policy).numpy()
        if policy == "acquired":
            seen = [a.astype(float) for a in acquired]
            known = [v[~np.isnan(v)] for v in values if not np.isnan(v).all()]
            if known and np.ptp(np.concatenate(known)) == 0:
                # No hit at all, or nothing but hits: resampling would give an interval of no width.
                rates[policy] = bootstrap_mean(known, rng, RESAMPLES, bounds=(0, 1))
            else:
                rates[policy] = bootstrap_ratio([np.nan_to_num(v) for v in values], seen, rng, RESAMPLES)
        else:
            rates[policy] = bootstrap_mean(values, rng, RESAMPLES, bounds=(0, 1))
    headline = most_pessimistic_policy({policy: 1 - e.value for policy, e in rates.items()})
    named: dict[str, Estimate] = {**{str(k): v for k, v in rates.items()}, "headline": rates[headline]}
    for name, e in named.items():
        yield _row(hits.metric, e, policy=name)
        if hits.inverse:
            yield _row(hits.inverse, Estimate(1 - e.value, 1 - e.high, 1 - e.low, e.n, e.groups, e.level), policy=name)


def _score_metrics(group: Group, name: str, threat: str, seeds: Seeds) -> Iterable[dict[str, Any]]:
    """Figures of the scores themselves, over acquired probes: ISM, EER, AUC, d', D_sys."""
    seen = [
        np.column_stack((mated, nonmated))[~np.isnan(mated)]
        for mated, nonmated in zip(
            group.per_subject(lambda s: s.linkage[name].mated),
            group.per_subject(lambda s: s.linkage[name].nonmated),
            strict=True,
        )
    ]
    seen = [rows for rows in seen if len(rows)]
    mated = [rows[:, 0] for rows in seen]
    if parse(name) is None:  # an adaptive attacker's scores need not be cosines
        ism = bootstrap_mean(mated, seeds.child(name, "ism").numpy(), RESAMPLES) if seen else None
        yield _row("ism", ism, name, threat, "acquired")
    total = sum(map(len, seen))
    smallest = len(seen) * min(map(len, seen), default=0)  # a resample may draw the subject with the fewest faces only
    statistics = {"eer": eer, "auc": auc, "d_prime": d_prime, "d_sys": d_sys}
    for metric, statistic in statistics.items():

        def of(rows: list[np.ndarray], statistic: Any = statistic) -> float:
            table = np.concatenate(rows)
            return float(statistic(table[:, 0], table[:, 1:].ravel()))

        # The value on all images; 200 resamples, as each sorts some thousands of scores.
        estimate = None
        if smallest >= FEWEST:
            estimate = bootstrap(seen, of, seeds.child(name, metric).numpy(), 200)
        elif total >= FEWEST:
            estimate = Estimate(of(seen), np.nan, np.nan, total, len(seen))
        yield _row(metric, estimate, name, threat, "acquired")


def _utility(group: Group, real: np.ndarray, seeds: Seeds) -> Iterable[dict[str, Any]]:
    for metric, values in utility_values(group).items():
        known = [v[~np.isnan(v)] for v in values]
        known = [v for v in known if len(v)]
        bounds = (0.0, 1.0) if metric == "face_detection_rate" else None
        estimate = bootstrap_mean(known, seeds.child(metric).numpy(), RESAMPLES, bounds=bounds) if known else None
        yield _row(metric, estimate)
    for metric in ("photo_linf", "photo_psnr", "photo_ssim"):
        changed = [np.concatenate([s.change[metric] for s in several]) for several in _changed(group)]
        finite = [v[np.isfinite(v)] for v in changed if np.isfinite(v).any()]
        if finite:
            yield _row(metric, bootstrap_mean(finite, seeds.child(metric).numpy(), RESAMPLES))
    features = np.concatenate(group.per_subject(lambda s: s.utility.features))
    distances = {"fid_efficientnet_lite0": frechet_distance, "kid_efficientnet_lite0": kernel_distance}
    for metric, distance in distances.items():
        # No interval: repeated images in a resample bias both distances.
        value = distance(features, real) if min(len(features), len(real)) > 1 else np.nan
        yield _row(metric, Estimate(value, np.nan, np.nan, len(features), len(group.cells)))


def _changed(group: Group) -> list[list[Scored]]:
    """The cells whose photos were changed, by subject."""
    return [changed for cells in group.cells.values() if (changed := [s for s in cells if s.change])]


def utility_values(group: Group) -> dict[str, list[np.ndarray]]:
    """Per-subject values of the utility components, float [n_s] each, NaN where undefined."""
    return {
        "face_detection_rate": group.per_subject(lambda s: s.utility.detected.astype(float)),
        "ser_fiq": group.per_subject(lambda s: s.utility.ser_fiq),
        "brisque": group.per_subject(lambda s: s.utility.brisque),
        "closeness_efficientnet_lite0": group.per_subject(lambda s: s.utility.closeness),
        "adherence": group.per_subject(lambda s: s.utility.adherence),
    }


def _index_row(group: Group, anchors: Mapping[str, Group], seed: int) -> dict[str, Any]:
    """Utility index, relative to `none` (1) and `generic` (closeness floor); NaN where those are missing.

    The bootstrap draws subjects and images of the group and of both anchors together: they share subjects and noise.
    """
    parts = [group, anchors.get("none"), anchors.get("generic")]
    subjects = set(group.cells) if all(parts) else set()
    for part in parts:
        subjects &= set(part.cells) if part else set()
    estimate = None
    if subjects:
        tables = index_tables([part for part in parts if part], sorted(subjects))
        rng = Seeds(seed).child("bootstrap", group.label, "index").numpy()
        means = np.concatenate(tables).mean(0)
        used = informative(means)
        samples = np.array([index_of(m, used) for m in resampled_means(tables, rng, RESAMPLES)])
        samples = samples[np.isfinite(samples)]
        estimate = summarize_samples(index_of(means, used), samples, sum(map(len, tables)), len(tables))
    return _row("utility_index", estimate)


INDEX = ("face_detection_rate", "ser_fiq", "closeness_efficientnet_lite0", "adherence")


def index_tables(parts: list[Group], subjects: list[str]) -> list[np.ndarray]:
    """Per subject [n, 3 * 4 * 2]: for group, none and generic, each component's value and whether it is defined."""
    tables = []
    for subject in subjects:
        columns = []
        for part in parts:
            values = utility_values(Group(part.defense, part.strength, (), {subject: part.cells[subject]}, 0))
            for name in INDEX:
                (v,) = values[name]
                columns += [np.nan_to_num(v), np.isfinite(v).astype(float)]
        shortest = min(map(len, columns))
        tables.append(np.column_stack([c[:shortest] for c in columns]))
    return tables


def _anchored(means: np.ndarray) -> list[tuple[str, float, float, float]]:
    """(name, value, floor, undefended) of each component, from a row of `index_tables`' column means."""
    sums, counts = means[0::2].reshape(3, -1), means[1::2].reshape(3, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        own, undefended, generic = np.where(counts > 0, sums / counts, np.nan)
    floors = (0.0, 0.0, generic[INDEX.index("closeness_efficientnet_lite0")], ADHERENCE_CHANCE)
    return list(zip(INDEX, own, floors, undefended, strict=True))


def informative(means: np.ndarray) -> list[str]:
    """Components in which the undefended model beats the floor. Where it does not (a personalized model that ignores the
    prompt, prompts that name no attribute), a defense has nothing to lose, and the component is left out of the index."""
    return [name for name, value, floor, undefended in _anchored(means) if np.isfinite(value) and undefended > floor]


def index_of(means: np.ndarray, used: list[str]) -> float:
    rows = [row for row in _anchored(means) if row[0] in used]
    if not rows or any(not undefended > floor for _, _, floor, undefended in rows):
        return float("nan")
    return utility([Component(*row) for row in rows]).index
