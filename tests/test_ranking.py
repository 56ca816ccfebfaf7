"""Standings: equal to the summary table's points and to a bootstrap written out by hand; what is missing is said."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import hmean, norm, t

from iddmbench.cells.cell import Cell
from iddmbench.cells.utility import Utility
from iddmbench.defense import Defense
from iddmbench.errors import UserError
from iddmbench.linking.aggregate import Group, Scored, able_attackers, summarize, utility_values
from iddmbench.linking.linker import Linkage, Matches, at_least
from iddmbench.linking.ranking import Standing, standings, strong_systems, why_unranked
from iddmbench.metrics.verification import Threshold
from iddmbench.results.metric_info import JUDGE, JUDGED
from iddmbench.results.run_folder import WHITE_BOX
from iddmbench.types import Subject

ATTACKERS = ("dlib", "sface", "third")
SUBJECTS = ("s1", "s2", "s3", "s4")
IMAGES, IDENTITIES = 12, 20
FARS = {"1e-2": Threshold(0.5, 1e-2, 0.01, 7560), "1e-3": Threshold(0.6, 1e-3, 0.001, 7560)}


class Method(Defense):
    name, title = "method", "a method"


def group(
    defense: str, strength: float, leak: dict[str, float], quality: float, rng: np.random.Generator, **more: Any
) -> Group:
    cells = {}
    for subject in SUBJECTS:
        linkage = {}
        acquired = rng.random(IMAGES) < 0.9
        for attacker, share in leak.items():
            linked = (rng.random(IMAGES) < share) & acquired
            mated = np.where(acquired, np.where(linked, 0.8, 0.2) + rng.normal(0, 0.05, IMAGES), np.nan)
            nonmated = np.where(acquired[:, None], rng.normal(0.2, 0.05, (IMAGES, IDENTITIES - 1)), np.nan)
            rank = np.where(acquired, np.where(linked, 1, 7), 0)
            matched = {far: Matches(at_least(mated, t), t) for far, t in FARS.items()}
            linkage[attacker] = Linkage(acquired, mated, nonmated, rank, matched, {}, {}, np.zeros(IMAGES, int))
        values = [np.clip(quality * level + rng.normal(0, 0.02, IMAGES), 0, 1) for level in (0.8, 50, 0.8, 0.9)]
        features, other = rng.normal(size=(IMAGES, 8)), np.random.default_rng(len(cells) + 1)
        added = [np.clip(quality * level + other.normal(0, 0.02, IMAGES), 0, 1) for level in (0.95, 0.7, 0.3, 1.1)]
        utility = Utility(acquired, *values, features, *added)
        cell = Cell(Subject(subject, (), ()), Method(strength=1.0), 0)
        cells[subject] = [Scored(cell, linkage, utility)]
    return Group(defense, strength, more.get("white_box", ()), cells, more.get("missing", 0))


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    rng = np.random.default_rng(3)
    known = {"white_box": ("sface",)}
    return [
        group("none", math.nan, {"dlib": 0.9, "sface": 0.95, "third": 0.8}, 1.0, rng),
        group("generic", math.nan, {"dlib": 0.05, "sface": 0.02, "third": 0.05}, 0.5, rng),
        group("method", 0.5, {"dlib": 0.5, "sface": 0.2, "third": 0.4}, 0.95, rng, **known),
        group("method", 1.0, {"dlib": 0.1, "sface": 0.0, "third": 0.2}, 0.8, rng, **known),
    ]


@pytest.fixture(scope="module")
def found(groups: list[Group]) -> list[Standing]:
    return standings(groups, ATTACKERS, (0.5, 1.0))


def pick(found: list[Standing], judge: str, metric: str) -> Standing:
    return next(s for s in found if (s.judge, s.metric) == (judge, metric))


@pytest.mark.parametrize("judge", ["worst-case", "dlib", "sface", "third"])
@pytest.mark.parametrize("metric", ["psr@1e-2", "psr@1e-3", "r1u"])
def test_the_area_is_that_of_the_summarys_points(
    judge: str, metric: str, found: list[Standing], groups: list[Group]
) -> None:
    real = np.random.default_rng(0).normal(size=(8, 8))
    table = summarize(groups, ATTACKERS, real)
    points = []
    for strength in (math.nan, 0.5, 1.0):
        same = table["strength"].isna() if math.isnan(strength) else table["strength"] == strength
        rows = table[same & (table["defense"] == ("none" if math.isnan(strength) else "method"))]
        p = rows[(rows["attacker"] == judge) & (rows["metric"] == metric) & (rows["policy"] == "headline")]["value"]
        u = rows[rows["metric"] == "utility_index"]["value"]
        points.append((float(p.iloc[0]), float(u.iloc[0])))
    # The area below the stairs, by counting a grid of points that are dominated.
    axis = (np.arange(2000) + 0.5) / 2000
    inside = np.zeros((2000, 2000), bool)
    for p, u in points:
        inside |= (axis[:, None] < p) & (axis[None] < u)
    standing = pick(found, judge, metric)
    assert standing.hypervolume.value == pytest.approx(inside.mean(), abs=1e-3)
    assert standing.hypervolume.low <= standing.hypervolume.value <= standing.hypervolume.high
    assert standing.hypervolume.groups == len(SUBJECTS) and standing.strengths == (0.0, 0.5, 1.0)


def test_the_worst_case_is_the_strongest_single_attacker(found: list[Standing]) -> None:
    """White-box ones included: sface, a surrogate, links most undefended images, dlib most at 0.5."""
    worst, transfer = pick(found, "worst-case", "r1u"), pick(found, "worst-case-transfer", "r1u")
    assert worst.hypervolume.value <= min(pick(found, judge, "r1u").hypervolume.value for judge in ATTACKERS)
    assert worst.by[:2] == ("sface", "dlib") and "sface" not in transfer.by
    assert worst.hypervolume.value < transfer.hypervolume.value


def test_subjects_shares_tell_defenses_apart_from_json_alone(found: list[Standing], groups: list[Group]) -> None:
    """Jackknife: the shares' mean is near the area; without a subject the area is what its share says."""
    one = pick(found, "dlib", "r1u")
    content = json.loads(json.dumps(one.per_subject_json()))
    assert list(content) == list(SUBJECTS)
    assert np.mean([share["area"] for share in content.values()]) == pytest.approx(one.hypervolume.value, abs=0.05)
    rest = [
        Group(g.defense, g.strength, g.white_box, {s: c for s, c in g.cells.items() if s != "s2"}, 0) for g in groups
    ]
    without = pick(standings(rest, ["dlib"], (0.5, 1.0)), "dlib", "r1u").hypervolume.value
    assert content["s2"]["area"] == pytest.approx(4 * one.hypervolume.value - 3 * without, abs=1e-5)
    for i, g in enumerate((groups[0], groups[2], groups[3])):
        seen = g.cells["s2"][0].linkage["dlib"]
        assert content["s2"]["hits"][i] == (seen.rank == 1).sum() and content["s2"]["images"][i] == seen.acquired.sum()


def test_nobody_linked_is_no_proof() -> None:
    """Four subjects, none of whom is linked: the area's interval reaches as low as the rate's, it is not [1, 1]."""
    rng = np.random.default_rng(9)
    none = group("none", math.nan, {"dlib": 0.9}, 1.0, rng)
    generic, safe = group("generic", math.nan, {"dlib": 0.0}, 0.5, rng), group("method", 1.0, {"dlib": 0.0}, 1.0, rng)
    found = pick(standings([none, generic, safe], ["dlib"], (1.0,)), "dlib", "r1u").hypervolume
    assert found.value > 0.9 and found.low < 0.45


def test_weak_attackers_are_in_no_worst_case_and_rank_nothing(groups: list[Group]) -> None:
    rng = np.random.default_rng(10)
    leak = {"dlib": 0.9, "sface": 0.9, "third": 0.9, "memento": 0.0, "guess": 0.06}
    none = group("none", math.nan, leak, 1.0, rng)
    generic = group("generic", math.nan, dict.fromkeys(leak, 0.03), 0.5, rng)
    method = group("method", 1.0, dict.fromkeys(leak, 0.1) | {"memento": 0.9}, 0.9, rng, white_box=("sface",))
    everybody = [none, generic, method]
    assert able_attackers(everybody, list(leak)) == ["dlib", "sface", "third"]
    assert "memento" not in pick(standings(everybody, list(leak), (1.0,)), "worst-case", "r1u").by
    assert strong_systems(everybody, list(leak)) == ["dlib", "third"] and why_unranked(everybody, list(leak)) == ""
    assert why_unranked(everybody, ["dlib", "sface", "memento"]) == (
        "1 strong attackers that were not surrogates (dlib); a rank needs 2"
    )
    assert able_attackers([generic, method], list(leak)) == list(leak), "without undefended cells nothing is known"


def test_the_interval_is_that_of_the_two_stage_bootstrap(groups: list[Group]) -> None:
    """A subject at a time, image by image, with other draws: the ends agree within Monte Carlo error."""
    standing = pick(standings(groups, ["dlib"], (0.5, 1.0)), "dlib", "r1u").hypervolume
    rng = np.random.default_rng(11)
    anchors, curve = groups[:2], [groups[0], *groups[2:]]
    areas = []
    for _ in range(600):
        who = rng.choice(SUBJECTS, len(SUBJECTS))
        rows = [(s, rng.integers(IMAGES, size=IMAGES)) for s in who]

        def mean(g: Group, value: Any, rows: list = rows) -> float:
            return float(np.mean(np.concatenate([value(g.cells[s][0])[i] for s, i in rows])))

        reached, area = 0.0, 0.0
        points = []
        for g in curve:
            seen = mean(g, lambda s: s.linkage["dlib"].acquired.astype(float))
            hit = mean(g, lambda s: (s.linkage["dlib"].rank == 1).astype(float))
            parts = []
            for name, floor in (("usable", 0.0), ("realism", 0.5), ("kept_look", None), ("adherence", 1 / 3)):
                own, full, low = (
                    mean(x, lambda s, n=name, f=floor: np.where(s.utility.usable, getattr(s.utility, n), f or 0))
                    for x in (g, *anchors)
                )
                floor = low if floor is None else floor
                parts.append(min(max((own - floor) / (full - floor), 0), 1))
            points.append((1 - hit / seen, hmean(parts)))
        for p, u in sorted(points, key=lambda x: (-x[1], -x[0])):
            if p > reached:
                area, reached = area + (p - reached) * u, p
        areas.append(area)
    low, high = np.quantile(areas, [0.025, 0.975])
    # Widened for four subjects, and joined with the areas at the ends of the rates' intervals.
    stretch = math.sqrt(4 / 3) * t.ppf(0.975, 3) / norm.ppf(0.975)
    low, high = standing.value - stretch * (standing.value - low), standing.value + stretch * (high - standing.value)
    assert standing.low <= max(low, 0.0) + 0.03 and standing.high >= min(high, 1.0) - 0.03


def test_it_says_what_is_missing(groups: list[Group]) -> None:
    none, generic, half, full = groups
    cases = [
        ([generic, half, full], "anchor 'none'"),
        ([none, half, full], "anchor 'generic'"),
        ([none, generic, half], "strength 1 is missing"),
        ([none, generic, half, Group("method", 1.0, (), full.cells, 2)], "some cells failed"),
        ([none, generic, half, Group("method", 1.0, (), {"s1": full.cells["s1"]}, 0)], "same subjects"),
    ]
    for some, hint in cases:
        with pytest.raises(UserError, match=hint):
            standings(some, ATTACKERS, (0.5, 1.0))


def test_surrogates_alone_are_the_worst_case_but_no_transfer(groups: list[Group]) -> None:
    found = standings(groups, ["sface"], (0.5, 1.0))
    assert {s.judge for s in found} == {"sface", "worst-case", "worst-case-adaptive"}
    assert why_unranked(groups, ["sface"]).startswith("0 strong attackers")


def test_adaptive_judges(groups: list[Group]) -> None:
    """The adaptive worst case is over the plain one and all adaptive ones that link people; a rate that one could not
    calibrate in some condition is none of its metrics, as in the summary."""
    rng, names = np.random.default_rng(7), ["dlib", "sface", "finetune:sface", "cross-post:dlib"]
    leak = {"dlib": 0.5, "sface": 0.2, "finetune:sface": 0.6, "cross-post:dlib": 0.9}
    none = group("none", math.nan, dict.fromkeys(names, 0.9), 1.0, rng)
    generic = group("generic", math.nan, dict.fromkeys(names, 0.02), 0.5, rng)
    one = group("method", 1.0, leak, 0.9, rng, white_box=("sface",))
    for cells in one.cells.values():
        del cells[0].linkage["finetune:sface"].matched["1e-3"]
    found = standings([none, generic, one], names, (1.0,))
    judged = {(s.judge, s.metric): s.hypervolume.value for s in found}
    assert ("finetune:sface", "psr@1e-3") not in judged and ("finetune:sface", "psr@1e-2") in judged
    table = summarize([none, generic, one], names, np.random.default_rng(0).normal(size=(8, 8)))
    for judge in ("worst-case", "worst-case-adaptive"):
        points = []
        for defense in ("none", "method"):
            rows = table[table["defense"] == defense]
            p = rows[(rows["attacker"] == judge) & (rows["metric"] == "r1u") & (rows["policy"] == "headline")]["value"]
            points.append((float(p.iloc[0]), float(rows[rows["metric"] == "utility_index"]["value"].iloc[0])))
        (p0, u0), (p1, u1) = points
        assert judged[judge, "r1u"] == pytest.approx(p0 * u0 + max(0.0, p1 - p0) * u1, abs=1e-9)
    assert judged["worst-case", "r1u"] <= min(judged["dlib", "r1u"], judged["sface", "r1u"])
    assert judged["worst-case-adaptive", "r1u"] <= min(judged["worst-case", "r1u"], judged["finetune:sface", "r1u"])


def test_faces_destroyed_do_not_help() -> None:
    """With no face anywhere the protection is a guess's, and the utility index is 0: nothing is gained over strength 0."""
    rng = np.random.default_rng(5)
    leak = {"dlib": 0.9}
    none, generic = group("none", math.nan, leak, 1.0, rng), group("generic", math.nan, {"dlib": 0.0}, 0.5, rng)
    lost = group("method", 1.0, leak, 0.9, rng)
    for cells in lost.cells.values():
        blind = cells[0].linkage["dlib"]
        blind.acquired[:], blind.mated[:], blind.nonmated[:], blind.rank[:] = False, np.nan, np.nan, 0
        for matches in blind.matched.values():
            matches.hits[:] = False
        cells[0].utility.detected[:] = False
    found = pick(standings([none, generic, lost], ["dlib"], (1.0,)), "dlib", "r1u")
    alone = 1 - np.mean([(c[0].linkage["dlib"].rank == 1).sum() for c in none.cells.values()]) / np.mean(
        [c[0].linkage["dlib"].acquired.sum() for c in none.cells.values()]
    )
    assert found.hypervolume.value == pytest.approx(alone, abs=1e-9)


def mean_counted(group: Group, name: str, floor: float) -> float:
    """The mean over images, those that are not usable at the floor."""
    values = utility_values(group)
    usable = np.concatenate(values["usable"]) > 0
    return float(np.where(usable, np.concatenate(values[name]), floor).mean())


def test_a_judge_that_the_defense_optimizes_is_white_box_and_out_of_the_index() -> None:
    """As an attacker is that it optimizes; the index is then that of the other three components."""
    rng = np.random.default_rng(12)
    none, generic = (group(n, math.nan, {"dlib": p}, q, rng) for n, p, q in (("none", 0.9, 1.0), ("generic", 0.0, 0.5)))
    fair = group("method", 1.0, {"dlib": 0.1}, 0.8, rng)
    knows, knows_another = (replace(fair, judges=(judge,)) for judge in (JUDGE, "efficientnet_lite0"))
    real = rng.normal(size=(8, 8))

    def table(own: Group) -> dict[str, tuple[str, float]]:
        rows = summarize([none, generic, own], ["dlib"], real).query("defense == 'method' and attacker == ''")
        return {row.metric: (row.threat, row.value) for row in rows.itertuples() if math.isfinite(row.value)}

    before, after = table(fair), table(knows)
    assert {name for name, (threat, _) in after.items() if threat} == {*JUDGED}
    assert all(threat == WHITE_BOX for threat, _ in (after[name] for name in JUDGED))
    assert table(knows_another) == before and not any(threat for threat, _ in before.values())
    component = {}
    for name, floor in (("usable", 0), ("kept_look", mean_counted(generic, "kept_look", 0)), ("adherence", 1 / 3)):
        value, whole = (mean_counted(g, name, 0 if name == "kept_look" else floor) for g in (fair, none))
        component[name] = min((value - floor) / (whole - floor), 1)
    assert after["utility_index"][1] == pytest.approx(hmean(list(component.values())))
    assert after["utility_index"][1] != before["utility_index"][1]
    areas = [
        pick(standings([none, generic, g], ["dlib"], (1.0,)), "dlib", "r1u").hypervolume.value for g in (fair, knows)
    ]
    assert areas[0] != areas[1], "the ranking leaves it out too"
