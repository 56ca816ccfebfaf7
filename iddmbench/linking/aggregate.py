"""From scored cells to the summary table: every figure with its 95 % interval, policy and number of images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from iddmbench.adaptive import about_faces, links_people, parse, roots
from iddmbench.attacker import same_network
from iddmbench.cells.ages import AGE_READER
from iddmbench.cells.cell import Cell
from iddmbench.cells.utility import USABLE as LEAST_REALISM
from iddmbench.cells.utility import Utility
from iddmbench.linking.judged import judged_figures
from iddmbench.linking.linker import Linkage
from iddmbench.metrics.bootstrap import bootstrap, mean_interval, resampled_means
from iddmbench.metrics.bootstrap import summarize as summarize_samples
from iddmbench.metrics.distribution import frechet_distance, kernel_distance
from iddmbench.metrics.estimate import LEVEL, Estimate
from iddmbench.metrics.identification import chance_level
from iddmbench.metrics.policies import POLICIES, hits_under, most_pessimistic_policy
from iddmbench.metrics.rates import Rate, rate_interval, rate_intervals
from iddmbench.metrics.unlinkability import FEWEST, local_linkability
from iddmbench.metrics.utility import Component, counted_images, utility
from iddmbench.metrics.verification import d_prime, eer_point, placements
from iddmbench.results.ability import links_undefended
from iddmbench.results.metric_info import (
    CLOSENESS,
    COMPONENTS,
    ERASED,
    FID,
    INDEX,
    INDEX_WITH_KEPT,
    JUDGE,
    JUDGED,
    KEPT,
    KEPT_LOOK,
    KID,
    REALISM,
    USABLE,
)
from iddmbench.results.run_folder import (
    ADAPTIVE,
    ADAPTIVE_WHITE_BOX,
    TRANSFER,
    UNION,
    UNION_ADAPTIVE,
    WHITE_BOX,
    WORST_CASE,
    WORST_CASE_ADAPTIVE,
    WORST_CASE_TRANSFER,
    label,
)
from iddmbench.seeds import Seeds

K = TypeVar("K")
V = TypeVar("V")
RESAMPLES = 1000
ADHERENCE_CHANCE = 1 / 3
"""Each attribute has three values."""
WITH_KEPT = (*COMPONENTS, *KEPT)
"""Components of the index that holds kept age and sex too: that needs the file of faceres, and one name must not mean two
things on two machines."""
FLOORS = {"adherence": ADHERENCE_CHANCE, REALISM: LEAST_REALISM, "kept_sex": 1 / 2}
"""What is worth nothing, where it is neither 0 nor the un-personalized model's: a guess, or a picture that is not usable."""
ANCHORED = ("none", "generic")


@dataclass(frozen=True)
class Scored:
    """A finished cell with what every attacker and the utility metrics made of it.

    change: how much each reference photo was changed, float [photos] by metric; empty if none was. prompts: of its images.
    costs: columns of the table of cells.
    """

    cell: Cell
    linkage: dict[str, Linkage]
    utility: Utility
    change: dict[str, np.ndarray] = field(default_factory=dict)
    prompts: Sequence[str] = ()
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """All finished cells of one defense at one strength, by subject (seeds pooled).

    white_box: attackers that the defense optimized against.
    judges: networks whose features it, or the base's training, optimized.
    """

    defense: str
    strength: float
    white_box: tuple[str, ...]
    cells: dict[str, list[Scored]]
    missing: int
    judges: tuple[str, ...] = ()

    @property
    def known_judged(self) -> tuple[str, ...]:
        """Utility figures whose judge the defense, or the base's training, optimized."""
        known = JUDGED if JUDGE in self.judges else ()
        return known + (KEPT if systems_of([AGE_READER]) & systems_of(self.white_box) else ())

    @property
    def label(self) -> str:
        return label(self.defense, self.strength)

    def per_subject(self, value: Any) -> list[np.ndarray]:
        """`value(scored)` [N, ...] of each subject's cells, one array per subject."""
        return [np.concatenate([value(s) for s in scored]) for scored in self.cells.values()]


def summarize(groups: list[Group], attackers: Iterable[str], real: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """The summary table of several conditions: `summarize_group` of each, against the anchors among them."""
    attackers = list(attackers)
    able = able_attackers(groups, attackers)
    anchors = {group.defense: group for group in groups if np.isnan(group.strength)}
    rows = [row for group in groups for row in summarize_group(group, attackers, able, anchors, real, seed)]
    return pd.DataFrame(rows)


def summarize_group(
    group: Group,
    attackers: Sequence[str],
    able: Sequence[str],
    anchors: Mapping[str, Group],
    real: np.ndarray,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of the summary table (iddmbench.results.run_folder documents its columns) for one condition.

    Args:
        attackers: names, adaptive ones included.
        able: those that count in the worst cases, see `able_attackers`.
        anchors: the conditions "none" and "generic", where there are any; of them the utility is enough.
        real: float [M, D] features of the subjects' references, which FID and KID compare with.
        seed: of the bootstrap.
    """
    rows: list[dict[str, Any]] = []
    if group.cells:
        seeds = Seeds(seed).child("bootstrap", group.label)
        rows += _privacy(group, attackers, able, seeds)
        rows += [judged(row, group) for row in _utility(group, real)]
    rows.append(_index_row(group, anchors, seed))
    if rows[-1]["images"] and all(g is None or _has_kept(g) for g in (group, *map(anchors.get, ANCHORED))):
        rows.append(_index_row(group, anchors, seed, INDEX_WITH_KEPT, WITH_KEPT))
    return [{**_context(group), **row} for row in rows]


def judged(row: dict[str, Any], group: Group) -> dict[str, Any]:
    """The utility row, marked as a white-box attacker's is where the defense optimized what judges it."""
    return {**row, "threat": WHITE_BOX} if row["metric"] in group.known_judged else row


def _context(group: Group) -> dict[str, Any]:
    return {"defense": group.defense, "strength": group.strength, "missing": group.missing}


def _row(
    metric: str,
    estimate: Estimate | None,
    attacker: str = "",
    threat: str = "",
    policy: str = "",
    by: str = "",
    ends: tuple[float, float] = (np.nan, np.nan),
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
        "by": by,
        "threshold_low": ends[0],
        "threshold_high": ends[1],
    }


def able_attackers(groups: Iterable[Group], attackers: Sequence[str]) -> list[str]:
    """Attackers that link the undefended model (`iddmbench.results.ability`): nothing can be concluded from the others.

    Without undefended cells, all. An adaptive attacker that had too few of them to learn on is kept.
    """
    anchors = {group.defense: group for group in groups if np.isnan(group.strength) and group.cells}
    if "none" not in anchors:
        return list(attackers)
    found = []
    for name in attackers:
        undefended = _rank1(anchors["none"], name)
        generic = _rank1(anchors["generic"], name) if "generic" in anchors else None
        if undefended is None or links_undefended(undefended.value, undefended.low, generic.value if generic else None):
            found.append(name)
    return found


def _rank1(group: Group, name: str) -> Estimate | None:
    """Rank-1 hit rate under the policy most pessimistic for a defense; None for an attacker without figures."""
    if not has_figures(group, name):
        return None
    hits = next(iter(attacker_hits(group, name)))
    acquired = group.per_subject(lambda s: s.linkage[name].acquired)
    known = [e for e in rate_intervals(list(rates_under(hits, acquired).values())) if np.isfinite(e.value)]
    return max(known, key=lambda e: e.value)


def has_figures(group: Group, name: str) -> bool:
    """False for an adaptive attacker that had too few finished cells to learn on; the log says so."""
    return all(name in scored.linkage for cells in group.cells.values() for scored in cells)


def systems_of(attackers: Iterable[str]) -> set[str]:
    """All systems that some attackers rest on, and those that have the same network under another name."""
    return {system for name in attackers for root in roots(name) for system in (root, same_network(root))}


def threat_of(name: str, white_box: tuple[str, ...]) -> str:
    """What an attacker knows of a defense with those surrogates (docs/protocol.md)."""
    known = bool(systems_of([name]) & systems_of(white_box))
    if parse(name) is None:
        return WHITE_BOX if known else TRANSFER
    return ADAPTIVE_WHITE_BOX if known else ADAPTIVE


def _privacy(group: Group, attackers: Sequence[str], able: Sequence[str], seeds: Seeds) -> Iterable[dict[str, Any]]:
    seen: dict[str, list[HitRates]] = {}
    for name in (name for name in attackers if has_figures(group, name)):
        threat = threat_of(name, group.white_box)
        acquired = group.per_subject(lambda s, n=name: s.linkage[n].acquired)
        seen[name] = [HitRates.of(hits, hits.acquired or acquired) for hits in attacker_hits(group, name)]
        for one, found in zip(seen[name], estimates(seen[name]), strict=True):
            for policy in one.policies:
                yield from hit_rows(one, policy, found[policy], name, threat)
        yield _row("fta", rate_interval([1.0 - a for a in acquired]), name, threat)
        yield from _score_metrics(group, name, threat, seeds)
    for judge, names in members(able, group.white_box).items():
        names = [name for name in names if name in seen]
        if judge in (UNION, UNION_ADAPTIVE):
            yield from _union({name: seen[name] for name in names}, judge)
        else:
            threats = {name: threat_of(name, group.white_box) for name in names}
            yield from strongest({name: seen[name] for name in names}, judge, threats)


def members(able: Sequence[str], white_box: tuple[str, ...]) -> dict[str, list[str]]:
    """Worst case or union -> the attackers that it is over; those over nobody are left out.

    Attackers that look beyond the face are in none.

    Args:
        able: as `able_attackers` gives them. white_box: systems that the defense optimized against.
    """
    able = [name for name in able if about_faces(name)]
    plain = [name for name in able if parse(name) is None]
    both = [name for name in able if parse(name) is None or links_people(name)]
    transfer = [name for name in plain if threat_of(name, white_box) == TRANSFER]
    found = {WORST_CASE: plain, WORST_CASE_ADAPTIVE: both, WORST_CASE_TRANSFER: transfer}
    found |= {UNION: plain, UNION_ADAPTIVE: both}
    return {judge: names for judge, names in found.items() if names}


def strongest(
    seen: Mapping[str, Sequence["HitRates"]], judge: str, threats: Mapping[str, str]
) -> Iterable[dict[str, Any]]:
    """The single attacker with the highest hit rate, by metric and policy.

    The interval is simultaneous over the attackers (Bonferroni): each has its ends at 1 - 5 % / attackers, and the highest
    of their rates lies between the highest lower and the highest upper end.
    """
    level = 1 - (1 - LEVEL) / max(1, len(seen))
    found: dict[str, list[tuple[str, HitRates, dict[str, Estimate]]]] = {}
    for name, rates in seen.items():
        inverted = [one for one in rates if one.hits.inverse]
        for one, by_policy in zip(inverted, estimates(inverted, level), strict=True):
            found.setdefault(one.hits.metric, []).append((name, one, by_policy))
    for several in found.values():
        for policy in several[0][1].policies:
            known = [(n, one, e[policy]) for n, one, e in several if np.isfinite(e[policy].value)]
            if not known:
                continue
            name, one, top = max(known, key=lambda item: item[2].value)
            low, high = max(e.low for _, _, e in known), max(e.high for _, _, e in known)
            estimate = Estimate(top.value, low, high, top.n, top.groups, LEVEL)
            yield from hit_rows(one, policy, estimate, judge, threats[name], name)


def _union(seen: Mapping[str, Sequence["HitRates"]], judge: str) -> Iterable[dict[str, Any]]:
    """Image by image: linked if any attacker links it, acquired if any finds a face on it."""
    by_metric: dict[str, list[HitRates]] = {}
    for rates in seen.values():
        for one in rates:
            if one.hits.inverse:
                by_metric.setdefault(one.hits.metric, []).append(one)
    joint = []
    for metric, several in by_metric.items():
        linked = [np.any(v, axis=0) for v in zip(*(one.hits.values for one in several), strict=True)]
        found = [np.any(v, axis=0) for v in zip(*(one.acquired for one in several), strict=True)]
        chance = max(one.hits.chance for one in several)
        joint.append(HitRates.of(Hits(metric, linked, chance, several[0].hits.inverse), found))
    for one, by_policy in zip(joint, estimates(joint), strict=True):
        for policy in one.policies:
            yield from hit_rows(one, policy, by_policy[policy], judge, "")


def hit_rows(
    one: "HitRates", policy: str, estimate: Estimate, attacker: str, threat: str, by: str = ""
) -> Iterable[dict[str, Any]]:
    """The hit rate and, if it has a name, its complement."""
    low, high = one.threshold_ends.get(policy, (np.nan, np.nan))
    yield _row(one.hits.metric, estimate, attacker, threat, policy, by, (low, high))
    if one.hits.inverse:
        yield _row(one.hits.inverse, estimate.complement, attacker, threat, policy, by, (1 - high, 1 - low))


@dataclass(frozen=True)
class Hits:
    """metric: name of the hit rate; values: bool [n_s] per subject; chance: a guess's hit rate; inverse: name of 1 - rate.

    acquired: bool [n_s] per subject where they are not the images' own (feeds).
    ends: the values at the higher and at the lower end of the threshold's interval, where it is known.
    """

    metric: str
    values: list[np.ndarray]
    chance: float
    inverse: str
    acquired: list[np.ndarray] | None = None
    ends: tuple[list[np.ndarray], list[np.ndarray]] | None = None


@dataclass(frozen=True)
class HitRates:
    """A hit rate of one attacker under each policy; "headline" is the most pessimistic for the defense.

    threshold_ends: by policy, the rate at the ends of the threshold's interval, low and high.
    """

    hits: Hits
    acquired: list[np.ndarray]
    rates: dict[str, Rate]
    headline: str
    threshold_ends: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, hits: Hits, acquired: list[np.ndarray]) -> "HitRates":
        rates = rates_under(hits, acquired)
        headline = most_pessimistic_policy({policy: 1 - rates[policy].value for policy in POLICIES})
        ends = {}
        if hits.ends is not None:
            low, high = (rates_under(replace(hits, values=values), acquired) for values in hits.ends)
            ends = {policy: (low[policy].value, high[policy].value) for policy in rates}
            ends["headline"] = ends[headline]
        return cls(hits, acquired, rates, headline, ends)

    @property
    def policies(self) -> tuple[str, ...]:
        return (*self.rates, "headline")


def rates_under(hits: Hits, acquired: list[np.ndarray]) -> dict[str, Rate]:
    """The hit rate under each policy."""
    pairs = list(zip(hits.values, acquired, strict=True))
    return {policy: Rate.of([hits_under(policy, h, a, hits.chance) for h, a in pairs]) for policy in POLICIES}


def estimates(several: Sequence[HitRates], level: float = LEVEL) -> list[dict[str, Estimate]]:
    """The estimates of each by policy, all computed together."""
    every = iter(rate_intervals([rate for one in several for rate in one.rates.values()], level))
    found = []
    for one in several:
        own: dict[str, Estimate] = {policy: next(every) for policy in one.rates}
        found.append({**own, "headline": own[one.headline]})
    return found


def attacker_hits(group: Group, name: str) -> Iterable[Hits]:
    """Every hit rate of one attacker."""
    seen = [scored.linkage[name] for cells in group.cells.values() for scored in cells]
    identities = min(one.identities for one in seen)
    for k in (1, 5):
        if k > 1 and identities <= k:  # everybody is among so few: no figure
            continue
        hits = group.per_subject(lambda s, n=name, k=k: (s.linkage[n].rank >= 1) & (s.linkage[n].rank <= k))
        yield Hits(f"rank{k}_hit", hits, chance_level(identities, k), f"r{k}u")
    for far in _in_all([one.matched for one in seen]):
        hits = group.per_subject(lambda s, n=name, f=far: s.linkage[n].matched[f].hits)
        achieved = max(one.matched[far].threshold.achieved for one in seen)
        ends = None
        if all(one.matched[far].ends is not None for one in seen):
            # A higher threshold matches less.
            high = group.per_subject(lambda s, n=name, f=far: s.linkage[n].matched[f].ends[1])
            low = group.per_subject(lambda s, n=name, f=far: s.linkage[n].matched[f].ends[0])
            ends = high, low
        yield Hits(f"match_rate@{far}", hits, achieved, f"psr@{far}", ends=ends)
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
    every, seen = seen, [rows for rows in seen if len(rows)]
    mated = [rows[:, 0] for rows in seen]
    if parse(name) is None:  # an adaptive attacker's scores need not be cosines
        yield _row("ism", mean_interval(mated) if seen else None, name, threat, "acquired")
    total = sum(map(len, seen))
    bounded: dict[str, Estimate | None] = {"eer": None, "auc": None, "d_sys": None}
    if total >= FEWEST:
        # Each is a mean over the images of a value in [0, 1]: of false rejects, of the share of strangers' scores below, of
        # local linkability. So they have the interval of a rate; what the strangers' far more numerous scores add to it is
        # left out.
        own, others = np.concatenate(mated), np.concatenate([rows[:, 1:].ravel() for rows in seen])
        cuts, most = np.cumsum([len(rows) for rows in every])[:-1], _planned(group)
        value, threshold = eer_point(own, others)
        each = {
            "eer": (own < threshold).astype(float),
            "auc": placements(own, others),
            "d_sys": local_linkability(own, others),
        }
        split = {metric: _with_lost(np.split(values, cuts), most) for metric, values in each.items()}
        found = dict(zip(split, rate_intervals([Rate.of(values) for values in split.values()]), strict=True))
        e = found["eer"]
        bounded = {**found, "eer": replace(e, value=value, low=min(value, e.low), high=max(value, e.high))}
    for metric, estimate in bounded.items():
        yield _row(metric, estimate, name, threat, "acquired")
    smallest = len(seen) * min(map(len, seen), default=0)  # a resample may draw the subject with the fewest faces only
    prime = None
    if smallest >= FEWEST:
        prime = bootstrap(seen, _d_prime, seeds.child(name, "d_prime").numpy(), 200)  # each takes thousands of scores
    elif total >= FEWEST:
        prime = Estimate(_d_prime(seen), np.nan, np.nan, total, len(seen))
    yield _row("d_prime", prime, name, threat, "acquired")


def _d_prime(rows: list[np.ndarray]) -> float:
    table = np.concatenate(rows)
    return d_prime(table[:, 0], table[:, 1:].ravel())


def _planned(group: Group) -> int:
    """Images of the subject with most, lost ones included."""
    return max(len(values) for values in group.per_subject(lambda s: s.utility.detected))


def _with_lost(values: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """The values of found faces, filled up with NaN for lost ones."""
    return [np.concatenate([v, np.full(max(0, most - len(v)), np.nan)]) for v in values]


SHARES = ("face_detection_rate", USABLE, "adherence", *KEPT)
"""Utility figures whose images have values in [0, 1]."""


def utility_row(metric: str, values: list[np.ndarray]) -> dict[str, Any]:
    """values: as `utility_values` gives them for the metric."""
    if metric in SHARES:
        return _row(metric, rate_interval(values))
    known = [v[~np.isnan(v)] for v in values]
    known = [v for v in known if len(v)]
    return _row(metric, mean_interval(known) if known else None)


def _utility(group: Group, real: np.ndarray) -> Iterable[dict[str, Any]]:
    for metric, values in utility_values(group).items():
        yield utility_row(metric, values)
    for metric in ("photo_linf", "photo_psnr", "photo_ssim"):
        changed = [np.concatenate([s.change[metric] for s in several]) for several in _changed(group)]
        finite = [v[np.isfinite(v)] for v in changed if np.isfinite(v).any()]
        if finite:
            yield _row(metric, mean_interval(finite))
    features = np.concatenate(group.per_subject(lambda s: s.utility.features))
    distances = {FID: frechet_distance, KID: kernel_distance}
    for metric, distance in distances.items():
        # No interval: repeated images in a resample bias both distances.
        value = distance(features, real) if min(len(features), len(real)) > 1 else np.nan
        yield _row(metric, Estimate(value, np.nan, np.nan, len(features), len(group.cells)))
    seen = {name: [(s.utility.judged, s.prompts) for s in several] for name, several in group.cells.items()}
    for metric, estimate in judged_figures(seen).items():
        yield _row(metric, estimate)


def _changed(group: Group) -> list[list[Scored]]:
    """The cells whose photos were changed, by subject."""
    return [changed for cells in group.cells.values() if (changed := [s for s in cells if s.change])]


def utility_values(group: Group) -> dict[str, list[np.ndarray]]:
    """Per-subject values of the utility components, float [n_s] each, NaN where undefined."""
    return {
        "face_detection_rate": group.per_subject(lambda s: s.utility.detected.astype(float)),
        USABLE: group.per_subject(lambda s: s.utility.usable.astype(float)),
        REALISM: group.per_subject(lambda s: s.utility.realism),
        KEPT_LOOK: group.per_subject(lambda s: s.utility.kept_look),
        "ser_fiq": group.per_subject(lambda s: s.utility.ser_fiq),
        "brisque": group.per_subject(lambda s: s.utility.brisque),
        "denoising_error": group.per_subject(lambda s: s.utility.denoising_error),
        CLOSENESS: group.per_subject(lambda s: s.utility.closeness),
        ERASED: group.per_subject(lambda s: s.utility.closeness_erased),
        "adherence": group.per_subject(lambda s: s.utility.adherence),
        **{name: group.per_subject(lambda s, n=name: _kept(s.utility, n)) for name in KEPT},
    }


def _kept(utility: Utility, name: str) -> np.ndarray:
    found = getattr(utility, name)
    return np.full(len(utility.detected), np.nan) if found is None else found


def _has_kept(group: Group) -> bool:
    values = utility_values(group)
    return all(np.isfinite(np.concatenate(values[name])).any() for name in KEPT)


def _index_row(
    group: Group,
    anchors: Mapping[str, Group],
    seed: int,
    name: str = INDEX,
    components: Sequence[str] = COMPONENTS,
) -> dict[str, Any]:
    """Utility index, relative to `none` (1) and `generic` (floor of the kept look); NaN where those are missing.

    The bootstrap draws subjects and images of the group and of both anchors together: they share subjects and noise.
    """
    parts = [group, *map(anchors.get, ANCHORED)]
    subjects = set(group.cells) if all(parts) else set()
    for part in parts:
        subjects &= set(part.cells) if part else set()
    estimate = None
    if subjects:
        tables = index_tables([part for part in parts if part], sorted(subjects), components)
        rng = Seeds(seed).child("bootstrap", group.label, "index").numpy()
        means = np.concatenate(tables).mean(0)
        used = counted(group, means, components)
        samples = np.array([index_of(m, used, components) for m in resampled_means(tables, rng, RESAMPLES)])
        samples = samples[np.isfinite(samples)]
        n = sum(map(len, tables))
        estimate = summarize_samples(index_of(means, used, components), samples, n, len(tables), bounds=(0.0, 1.0))
    return _row(name, estimate)


def index_tables(parts: list[Group], subjects: list[str], components: Sequence[str] = COMPONENTS) -> list[np.ndarray]:
    """Per subject [n, 3 * C * 2]: for group, none and generic, each component's value and whether it is defined; an image that
    is not usable has the fixed floor of each component, or 0."""
    tables = []
    for subject in subjects:
        columns = []
        for part in parts:
            values = utility_values(Group(part.defense, part.strength, (), {subject: part.cells[subject]}, 0))
            (usable,) = values[USABLE]
            for name in components:
                (v,) = values[name]
                v = counted_images(v, usable > 0, FLOORS.get(name, 0.0))
                columns += [np.nan_to_num(v), np.isfinite(v).astype(float)]
        shortest = min(map(len, columns))
        tables.append(np.column_stack([c[:shortest] for c in columns]))
    return tables


def _anchored(means: np.ndarray, components: Sequence[str]) -> list[tuple[str, float, float, float]]:
    """(name, value, floor, undefended) of each component, from a row of `index_tables`' column means."""
    sums, counts = means[0::2].reshape(3, -1), means[1::2].reshape(3, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        own, undefended, generic = np.where(counts > 0, sums / counts, np.nan)
    floors = [generic[i] if name == KEPT_LOOK else FLOORS.get(name, 0.0) for i, name in enumerate(components)]
    return list(zip(components, own, floors, undefended, strict=True))


def informative(means: np.ndarray, components: Sequence[str] = COMPONENTS) -> list[str]:
    """Components in which the undefended model beats the floor. Where it does not (a personalized model that ignores the
    prompt, prompts that name no attribute), a defense has nothing to lose, and the component is left out of the index.

    None where the look can't be measured (no references, too few public people): the rest says nothing of the person."""
    rows = _anchored(means, components)
    if not all(np.isfinite(value) for name, value, _, _ in rows if name == KEPT_LOOK):
        return []
    return [name for name, value, floor, undefended in rows if np.isfinite(value) and undefended > floor]


def counted(group: Group, means: np.ndarray, components: Sequence[str] = COMPONENTS) -> list[str]:
    """The components of `informative` that make the group's index: without those that the defense optimized the judge of."""
    return [name for name in informative(means, components) if name not in group.known_judged]


def index_of(means: np.ndarray, used: Sequence[str], components: Sequence[str] = COMPONENTS) -> float:
    """used: the components that count, of those that the columns of `index_tables` are."""
    rows = [row for row in _anchored(means, components) if row[0] in used]
    if not rows or any(not undefended > floor for _, _, floor, undefended in rows):
        return float("nan")
    return utility([Component(*row) for row in rows]).index
