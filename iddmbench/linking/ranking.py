"""One number for a defense's whole curve, with its interval: the area of (privacy, utility) that its strengths dominate.

The points are those of the summary table: privacy is 1 - hit rate of the strongest attacker under the policy most pessimistic
for the defense, utility is the utility index. Its interval combines two: that of the two-stage bootstrap, widened for few
subjects, in which all strengths, all attackers and both anchors share the drawn subjects and images; and the areas at the ends
of the privacy rates' own intervals, without which a defense that nobody links would have an interval of no width.

Defenses are compared subject by subject. As the area is not a mean over subjects, a subject's share of it is the jackknife's
pseudo-value (Tukey 1958): K times the area, less K - 1 times the area without the subject.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from iddmbench.adaptive import about_faces, parse
from iddmbench.errors import UserError
from iddmbench.linking.aggregate import (
    RESAMPLES,
    Group,
    Hits,
    able_attackers,
    attacker_hits,
    counted,
    has_figures,
    index_of,
    index_tables,
    members,
    systems_of,
)
from iddmbench.metrics.bootstrap import resampled_means, summarize
from iddmbench.metrics.estimate import LEVEL, Estimate
from iddmbench.metrics.policies import POLICIES, Policy, most_pessimistic_policy
from iddmbench.metrics.rates import Rate, rate_intervals
from iddmbench.metrics.tradeoff import Point, hypervolumes, privacy_at_utility, utility_at_privacy
from iddmbench.results.run_folder import UNION, UNION_ADAPTIVE
from iddmbench.seeds import Seeds

METRICS = ("psr@1e-2", "psr@1e-3", "r1u")
"""Privacy figures that can stand on the vertical axis; the first one ranks."""
ENOUGH = 0.9
STRONG = 2
"""Fewest able attackers, none of them a surrogate, that a ranking needs."""


@dataclass(frozen=True)
class SubjectShare:
    """What one subject contributes to a standing; sequences go by strength, as the standing's `strengths`.

    Attributes:
        area: its pseudo-value of the hypervolume; their mean is the hypervolume, but for the jackknife's bias.
        hits, images: linked images and images with a face, for the strongest attacker at that strength.
        utility: the subject's own utility index; None where it has none.
    """

    area: float
    hits: tuple[int, ...]
    images: tuple[int, ...]
    utility: tuple[float | None, ...]


@dataclass(frozen=True)
class Standing:
    """A defense's curve against one judge.

    Attributes:
        judge: an attacker; or the strongest single one: "worst-case" of the plain attackers, white-box ones included,
            "worst-case-adaptive" of these and of the adaptive ones that link people, "worst-case-transfer" of the plain ones
            that are not white-box. Attackers that do not link the undefended model do not count in these.
        metric: one of METRICS.
        strengths: the grid that the curve is taken on; strength 0, the undefended model, always belongs to it.
        hypervolume: area in [0, 1] that the points dominate, from (0, 0).
        privacy_at, utility_at: privacy at utility >= 0.9 and the reverse, on straight lines between strengths; None where the
            curve never gets there.
        by: the strongest attacker at each strength.
        per_subject: by subject.
    """

    judge: str
    metric: str
    strengths: tuple[float, ...]
    hypervolume: Estimate
    privacy_at: float | None
    utility_at: float | None
    by: tuple[str, ...]
    per_subject: dict[str, SubjectShare]

    def per_subject_json(self) -> dict[str, dict[str, Any]]:
        """`per_subject` as a leaderboard entry holds it: subject -> area, hits, images, utility."""
        return {
            subject: {
                "area": round(share.area, 6),
                "hits": list(share.hits),
                "images": list(share.images),
                "utility": [None if u is None else round(u, 6) for u in share.utility],
            }
            for subject, share in self.per_subject.items()
        }


def strong_systems(groups: Sequence[Group], attackers: Sequence[str]) -> list[str]:
    """Plain attackers that link the undefended model and that no defense among `groups` optimized against."""
    known = systems_of(name for group in groups for name in group.white_box)
    able = [n for n in able_attackers(groups, attackers) if parse(n) is None and about_faces(n)]
    return [n for n in able if not known & systems_of([n])]


def why_unranked(groups: Sequence[Group], attackers: Sequence[str]) -> str:
    """Why these attackers can't rank a defense; empty if they can. Whoever declares every strong system a surrogate would
    otherwise be judged by the weak rest."""
    found = strong_systems(groups, attackers)
    if len(found) >= STRONG:
        return ""
    names = f" ({', '.join(found)})" if found else ""
    return f"{len(found)} strong attackers that were not surrogates{names}; a rank needs {STRONG}"


def standings(
    groups: Sequence[Group], attackers: Sequence[str], grid: Sequence[float], seed: int = 0
) -> list[Standing]:
    """The standings of the one defense among `groups` against the strongest attackers and each attacker.

    An attacker has no standing, and is no strongest one, in a metric that its calibration could not resolve in some condition.

    Args:
        groups: the defense's conditions and both anchors.
        attackers: names, adaptive ones included.
        grid: strengths in (0, 1] that count; the defense needs all of them.

    Raises UserError that says what is missing: an anchor, a strength of the grid, a cell.
    """
    curve = _curve(groups, grid)
    white_box = tuple(dict.fromkeys(name for g in curve.conditions for name in g.white_box))
    worst = members(able_attackers(groups, attackers), white_box)
    judges = {judge: names for judge, names in worst.items() if judge not in (UNION, UNION_ADAPTIVE)}
    judges |= {name: [name] for name in attackers}
    data = _measured(curve, attackers, seed)
    found = []
    for judge, metric in ((j, m) for j in judges for m in METRICS):
        sides = {name: data.sides[name, metric] for name in judges[judge] if (name, metric) in data.sides}
        if sides:
            found.append(_standing(data, judge, metric, sides))
    return found


# ---- the data ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Curve:
    """conditions: the undefended one and the defense's, by strength; all hold the same subjects, as the generic one does."""

    strengths: tuple[float, ...]
    conditions: list[Group]
    generic: Group
    subjects: list[str]


def _curve(groups: Sequence[Group], grid: Sequence[float]) -> _Curve:
    """Raises UserError that says what is missing."""
    anchors = {g.defense: g for g in groups if np.isnan(g.strength)}
    for name in ("none", "generic"):
        if name not in anchors or not anchors[name].cells:
            raise UserError(f"the anchor '{name}' is missing")
    own = {g.strength: g for g in groups if not np.isnan(g.strength)}
    if absent := [s for s in grid if s not in own]:
        raise UserError(f"strength {', '.join(f'{s:g}' for s in absent)} is missing")
    every = [anchors["none"], *(own[s] for s in grid), anchors["generic"]]
    if any(g.missing for g in every):
        raise UserError("some cells failed")
    subjects = sorted(every[0].cells)
    if any(sorted(g.cells) != subjects for g in every):
        raise UserError("the conditions do not hold the same subjects")
    *conditions, generic = [_only(g, subjects) for g in every]
    return _Curve((0.0, *(float(s) for s in grid)), conditions, generic, subjects)


@dataclass(frozen=True)
class _Table:
    """Per subject float [n, 2 * conditions]: is the image linked, is a face found; and what a guess hits, [conditions]."""

    rows: list[np.ndarray]
    chance: np.ndarray


@dataclass(frozen=True)
class _Side:
    """One attacker's columns among those of all, and the policy of each condition."""

    part: slice
    chance: np.ndarray
    policies: list[Policy]

    def protection(self, means: np.ndarray) -> np.ndarray:
        """[B, conditions] from column means [B, all]."""
        return _protection(means[:, self.part], self.policies, self.chance)


@dataclass(frozen=True)
class _Means:
    """Means [B, columns] over images, and the utility indices [B, conditions] that they make."""

    columns: np.ndarray
    index: np.ndarray


@dataclass(frozen=True)
class _Data:
    """What the standings are computed from: a row per image, a column per thing known of it under each condition.

    Attributes:
        images: int [K], of each subject. sums: float [K, columns] over them.
        sides: by attacker and metric.
        whole: of all images, B = 1; drawn: of the bootstrap's resamples; without: of all subjects but one, B = K.
        alone: utility indices [K, conditions] of each subject by itself.
    """

    curve: _Curve
    images: np.ndarray
    sums: np.ndarray
    sides: dict[tuple[str, str], _Side]
    whole: _Means
    drawn: _Means
    without: _Means
    alone: np.ndarray


def _measured(curve: _Curve, attackers: Sequence[str], seed: int) -> _Data:
    """Raises UserError when the utility index has no value."""
    conditions = curve.conditions
    looked_up = {(name, metric): _hit_tables(conditions, name, metric) for name in attackers for metric in METRICS}
    tables = {key: table for key, table in looked_up.items() if table is not None}
    utility = [index_tables([g, conditions[0], curve.generic], curve.subjects) for g in conditions]
    rows = _joined([*utility, *(table.rows for table in tables.values())])
    images, sums = np.array([len(r) for r in rows]), np.stack([r.sum(0) for r in rows])
    width, means = utility[0][0].shape[1], np.concatenate(rows).mean(0)
    used = [counted(g, means[i * width : (i + 1) * width]) for i, g in enumerate(conditions)]
    whole = _Means(means[None], _indices(means[None], used, width))
    if not np.isfinite(whole.index).all():
        raise UserError("the utility index has no value")
    samples = resampled_means(rows, Seeds(seed).child("bootstrap", "standing").numpy(), RESAMPLES)
    index = _indices(samples, used, width)
    defined = np.isfinite(index).all(1)  # as for the index itself: a resample in which it has no value is left out
    return _Data(
        curve,
        images,
        sums,
        _sides(tables, means, width * len(conditions)),
        whole,
        _Means(samples[defined], index[defined]),
        _without_each(sums, images, whole, lambda means: _indices(means, used, width)),
        _indices(sums / images[:, None], used, width),
    )


def _joined(tables: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Tables of [n, columns] per subject side by side, each subject's cut to the fewest images that one of them has."""
    shortest = [min(map(len, several)) for several in zip(*tables, strict=True)]
    return [np.concatenate([t[s][:n] for t in tables], axis=1) for s, n in enumerate(shortest)]


def _sides(tables: dict[tuple[str, str], _Table], means: np.ndarray, start: int) -> dict[tuple[str, str], _Side]:
    """start: the first column behind those of the utility."""
    sides = {}
    for key, table in tables.items():
        part = slice(start, start := start + table.rows[0].shape[1])
        sides[key] = _Side(part, table.chance, _policies(means[part], table.chance))
    return sides


def _without_each(
    sums: np.ndarray, images: np.ndarray, whole: _Means, indices: Callable[[np.ndarray], np.ndarray]
) -> _Means:
    """Means without each subject in turn; an index that then has no value is that of all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (sums.sum(0) - sums) / (images.sum() - images)[:, None]
    index = indices(means) if len(sums) > 1 else np.repeat(whole.index, len(sums), 0)
    return _Means(means, np.where(np.isfinite(index), index, whole.index))


# ---- a standing -------------------------------------------------------------------------------------------------------


def _standing(data: _Data, judge: str, metric: str, sides: dict[str, _Side]) -> Standing:
    """sides: of the attackers that the judge is the strongest of."""
    strengths = data.curve.strengths
    privacy = np.stack([side.protection(data.whole.columns) for side in sides.values()])[:, 0]
    points = [
        Point(s, float(p), float(u)) for s, p, u in zip(strengths, privacy.min(0), data.whole.index[0], strict=True)
    ]
    names = list(sides)
    by = tuple(names[i] for i in privacy.argmin(0))
    return Standing(
        judge,
        metric,
        strengths,
        _area(data, list(sides.values()), privacy.min(0)),
        privacy_at_utility(points, ENOUGH),
        utility_at_privacy(points, ENOUGH),
        by,
        _shares(data, sides, by),
    )


def _area(data: _Data, sides: Sequence[_Side], privacy: np.ndarray) -> Estimate:
    """The hypervolume with its interval: the bootstrap's, and the areas at the ends of the privacy rates' own."""
    count = len(data.images)
    area = float(hypervolumes(privacy[None], data.whole.index)[0])
    spread = summarize(area, _areas(sides, data.drawn), int(data.images.sum()), count, bounds=(0.0, 1.0))
    low, high = hypervolumes(np.stack(_rate_ends(data, sides)), np.repeat(data.whole.index, 2, 0))
    return Estimate(area, min(spread.low, float(low)), max(spread.high, float(high)), spread.n, count, LEVEL)


def _shares(data: _Data, sides: dict[str, _Side], by: Sequence[str]) -> dict[str, SubjectShare]:
    """by: the attacker that is counted at each strength."""
    count = len(data.images)
    shares = _areas(list(sides.values()), data.whole)
    if count > 1:
        shares = count * shares - (count - 1) * _areas(list(sides.values()), data.without)
    shares = np.broadcast_to(shares, count)
    counts = [data.sums[:, sides[name].part].reshape(count, -1, 2)[:, i] for i, name in enumerate(by)]
    return {
        subject: SubjectShare(
            float(shares[s]),
            tuple(round(c[s, 0]) for c in counts),
            tuple(round(c[s, 1]) for c in counts),
            tuple(float(u) if np.isfinite(u) else None for u in data.alone[s]),
        )
        for s, subject in enumerate(data.curve.subjects)
    }


def _areas(sides: Sequence[_Side], means: _Means) -> np.ndarray:
    """Hypervolumes [B] against the strongest of the attackers."""
    return hypervolumes(np.stack([side.protection(means.columns) for side in sides]).min(0), means.index)


def _rate_ends(data: _Data, sides: Sequence[_Side]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends [conditions] of the protection against the strongest attacker, simultaneous over attackers."""
    rates, images = [], data.images
    for side in sides:
        hits, seen = data.sums[:, side.part][:, 0::2], data.sums[:, side.part][:, 1::2]
        for i, policy in enumerate(side.policies):
            counted = seen[:, i] if policy == "acquired" else images.astype(float)
            extra = (images - seen[:, i]) * side.chance[i] if policy == "chance" else 0.0
            rates.append(Rate(np.minimum(hits[:, i] + extra, counted), counted, float(images.max())))
    found = rate_intervals(rates, 1 - (1 - LEVEL) / len(sides))
    low, high = (np.array([getattr(e, k) for e in found]).reshape(len(sides), -1) for k in ("low", "high"))
    return 1 - high.max(0), 1 - low.max(0)


def _only(group: Group, subjects: list[str]) -> Group:
    return replace(group, cells={s: group.cells[s] for s in subjects})


def _hit_tables(curve: list[Group], name: str, metric: str) -> _Table | None:
    """None where the attacker does not have the metric in some condition."""
    parts, chance = [], []
    for group in curve:
        found = _of(group, name, metric)
        if found is None:
            return None
        chance.append(found.chance)
        acquired = group.per_subject(lambda s: s.linkage[name].acquired)
        parts.append([np.column_stack((a & b, b)).astype(float) for a, b in zip(found.values, acquired, strict=True)])
    lengths = [min(len(p[s]) for p in parts) for s in range(len(parts[0]))]
    return _Table([np.concatenate([p[s][:n] for p in parts], axis=1) for s, n in enumerate(lengths)], np.array(chance))


def _of(group: Group, name: str, metric: str) -> Hits | None:
    if not has_figures(group, name):
        return None
    return next((hits for hits in attacker_hits(group, name) if hits.inverse == metric), None)


def _rates(means: np.ndarray, chance: np.ndarray) -> dict[Policy, np.ndarray]:
    """Hit rates [B, conditions] under each policy, from means [B, 2 * conditions]; NaN where no face was acquired."""
    hits, seen = means[:, 0::2], means[:, 1::2]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"acquired": hits / seen, "miss": hits, "chance": hits + (1 - seen) * chance}


def _policies(means: np.ndarray, chance: np.ndarray) -> list[Policy]:
    """For each condition the policy most pessimistic for the defense, chosen on the data as they are."""
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
