"""Kept age and sex, and figures by sex, age and skin tone: equal to those of the group's people alone."""

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hmean
from synthetic_run import write_run
from test_ranking import ATTACKERS, SUBJECTS, group

import iddmbench as ib
from iddmbench.attacker import ATTACKERS as REGISTERED
from iddmbench.datasets.orl import photo
from iddmbench.datasets.synthetic import Synthetic
from iddmbench.linking.aggregate import Group, able_attackers, summarize_group
from iddmbench.linking.demographics import HITS, SHARES, demographic_rows
from iddmbench.metrics.kept import kept_age, kept_sex
from iddmbench.photos.demographics import AGE, GROUPS, SEX, TONE, age_group, tone_group
from iddmbench.report.page import demographic_table
from iddmbench.report.terminal import group_lines
from iddmbench.results.metric_info import INDEX_WITH_KEPT, KEPT, KEPT_UNMEASURED
from iddmbench.results.run_folder import WHITE_BOX, WORST_CASE, RunFolder
from iddmbench.results.summary import Summary

REAL = REGISTERED.get("faceres").file.problem() or ""
needs_file = pytest.mark.skipif(bool(REAL), reason=REAL)
FOLDER = os.environ.get("IDDMBENCH_WEIGHTS")
TRAITS = {"s1": {SEX: "female", AGE: "20-29"}, "s2": {SEX: "male", AGE: "20-29"}, "s3": {SEX: "female"}, "s4": {}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDDMBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "demographics-cache"))
        yield


# ---- what is kept -----------------------------------------------------------------------------------------------------


def test_kept_age_and_sex_by_hand() -> None:
    """References read 28 to 32 years and mostly female; one of them shows no face."""
    ages, female = np.array([30.0, 35.0, 35.1, 24.9, np.nan]), np.array([0.9, 0.51, 0.5, 0.1, np.nan])
    before = np.array([28.0, 32.0, np.nan])
    assert kept_age(ages, before).tolist() == [1, 1, 0, 0, 0]
    assert kept_sex(female, np.array([0.4, 0.9, np.nan])).tolist() == [1, 1, 0, 0, 0]
    assert kept_sex(female, np.array([0.3, 0.4])).tolist() == [0, 0, 1, 1, 0]
    for kept in (kept_age, kept_sex):
        assert np.isnan(kept(ages, np.array([np.nan]))).all() and np.isnan(kept(ages, np.zeros(0))).all()


def with_kept(one: Group, share: float) -> Group:
    rng = np.random.default_rng(5)

    def kept(scored):
        values = [(rng.random(len(scored.utility.detected)) < share).astype(float) for _ in KEPT]
        return replace(scored, utility=replace(scored.utility, **dict(zip(KEPT, values, strict=True))))

    return replace(one, cells={s: [kept(x) for x in several] for s, several in one.cells.items()})


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    rng = np.random.default_rng(3)
    plain = [
        group("none", math.nan, {"dlib": 0.9, "sface": 0.95, "third": 0.8}, 1.0, rng),
        group("generic", math.nan, {"dlib": 0.05, "sface": 0.02, "third": 0.05}, 0.5, rng),
        group("method", 1.0, {"dlib": 0.4, "sface": 0.1, "third": 0.3}, 0.9, rng),
    ]
    return [with_kept(one, share) for one, share in zip(plain, (1.0, 0.5, 0.7), strict=True)]


def test_the_index_with_age_and_sex_needs_them_measured(groups: list[Group]) -> None:
    real = np.random.default_rng(0).normal(size=(8, 8))

    def rows(groups: list[Group]) -> dict[str, tuple[str, float]]:
        anchors = {g.defense: g for g in groups[:2]}
        found = summarize_group(groups[2], ATTACKERS, ATTACKERS, anchors, real)
        return {row["metric"]: (row["threat"], row["value"]) for row in found if not row["attacker"]}

    own = rows(groups)
    without = rows([replace(g, cells={s: [bare(x) for x in c] for s, c in g.cells.items()}) for g in groups])
    assert INDEX_WITH_KEPT not in without and math.isnan(without["kept_age"][1])
    assert own["utility_index"] == without["utility_index"], "one name means one thing, with the file and without"
    values = {
        name: np.concatenate([s.utility.__dict__[name] for c in groups[2].cells.values() for s in c]) for name in KEPT
    }
    assert own["kept_age"][1] == values["kept_age"].mean() and own["kept_sex"][1] == values["kept_sex"].mean()
    usable = [np.concatenate([s.utility.usable for c in g.cells.values() for s in c]) for g in (groups[2], groups[0])]
    whole = usable[1].mean()  # undefended, every usable image keeps both
    age = np.where(usable[0], values["kept_age"], 0).mean() / whole
    sex = np.where(usable[0], values["kept_sex"] - 0.5, 0).mean() / (0.5 * whole)
    assert own[INDEX_WITH_KEPT][1] == pytest.approx(hmean([*[own["utility_index"][1]] * 4, age, sex]))
    known = rows([*groups[:2], replace(groups[2], white_box=("faceres",))])
    assert {name for name, (threat, _) in known.items() if threat == WHITE_BOX} == {*KEPT}
    assert known[INDEX_WITH_KEPT][1] == pytest.approx(own["utility_index"][1])


def bare(scored):
    return replace(scored, utility=replace(scored.utility, kept_age=None, kept_sex=None))


# ---- by group -----------------------------------------------------------------------------------------------------------


def test_a_groups_figures_are_those_of_its_people_alone(groups: list[Group]) -> None:
    """The summary of a run of those people alone holds the same figures and intervals; who has no trait is in no group."""
    able = able_attackers(groups, ATTACKERS)
    method = groups[2]
    found = demographic_rows(method, ATTACKERS, able, TRAITS)
    people = {(SEX, "female"): ("s1", "s3"), (SEX, "male"): ("s2",), (AGE, "20-29"): ("s1", "s2")}
    assert {(row["trait"], row["group"]) for row in found} == {*people}
    inverse = {"r1u": "rank1_hit", "psr@1e-2": "match_rate@1e-2"}
    for (trait, name), members in people.items():
        part = replace(method, cells={s: method.cells[s] for s in members})
        real = np.random.default_rng(0).normal(size=(8, 8))
        expected = {
            (row["attacker"], row["metric"]): row
            for row in summarize_group(part, ATTACKERS, able, {}, real)
            if row["policy"] in ("headline", "") and inverse.get(row["metric"], row["metric"]) in (*HITS, *SHARES)
        }
        own = [row for row in found if (row["trait"], row["group"]) == (trait, name)]
        assert len(own) == len({(r["attacker"], r["metric"]) for r in own}) > 10
        assert {WORST_CASE, *ATTACKERS, ""} <= {row["attacker"] for row in own}
        for row in own:
            whole = expected[row["attacker"], row["metric"]]
            assert all(row[k] == whole[k] for k in ("value", "low", "high", "images", "subjects", "by", "threat"))
            assert row["subjects"] == len(members)


def test_nobodys_traits_known(groups: list[Group]) -> None:
    assert demographic_rows(groups[0], ATTACKERS, ATTACKERS, {s: {} for s in SUBJECTS}) == []
    assert demographic_rows(replace(groups[0], cells={}), ATTACKERS, ATTACKERS, TRAITS) == []


def test_the_datasets_own_groups_are_its_cards() -> None:
    """As many of each group as the table of its card says."""
    subjects = Synthetic().load().subjects
    card = (Path(ib.__path__[0]) / "synthetic" / "data" / "README.md").read_text(encoding="utf-8")
    head = next(line for line in card.splitlines() if line.startswith("| role | sex |")).strip("| ").split(" | ")
    for sex in GROUPS[SEX]:
        line = next(line for line in card.splitlines() if line.startswith(f"| subject | {sex} |"))
        counts = dict(zip(head, line.strip("| ").split(" | "), strict=True))
        own = [s.traits for s in subjects if s.traits[SEX] == sex]
        assert len(own) == int(counts["people"])
        for name in GROUPS[TONE]:
            assert sum(t[TONE] == name for t in own) == int(counts[name])
        for name in ("20-29", "30-39", "40-49"):
            assert sum(t[AGE] == name for t in own) == int(counts[f"{name} years"])


def test_groups_at_their_ends() -> None:
    assert [age_group(a) for a in (19.9, 20, 29.9, 30, 50, 99)] == [
        *("under 20", "20-29", "20-29", "30-39", "50 and over", "50 and over")
    ]
    assert [tone_group(a) for a in (-90, 9.9, 10, 28, 41, 90)] == [
        *("brown and dark", "brown and dark", "tan", "intermediate", "light", "light")
    ]


# ---- where it is shown ----------------------------------------------------------------------------------------------------


def test_report_terminal_and_result_show_the_groups(tmp_path: Path) -> None:
    people = tuple(f"s{k}" for k in range(29, 36))
    run = RunFolder.open(write_run(tmp_path / "run", subjects=people, per_prompt=1))
    table = demographic_table(Summary(run))
    assert table.columns[:5] == ["Condition", "By", "Group", "People", "Strongest attacker"]
    assert [row[1:4] for row in table.rows[:2]] == [["sex", "female", "3"], ["sex", "male", "3"]]
    (line,) = group_lines(Summary(run))
    assert line.startswith("iddm 1.00, R1-U by sex: female ") and line.count("of 3 people") == 2
    few = RunFolder.open(write_run(tmp_path / "few", subjects=people[:4], per_prompt=1))
    assert group_lines(Summary(few)) == [], "two people are no group to speak of"
    result = ib.open_run(run.path)
    assert set(result.demographics["group"]) == {"female", "male"} and "by sex" in str(result)


def evaluate(**options):
    people = {"s32": 32, "s35": 35, "s29": 29}  # two of ORL's women and a man
    pictures = {k: {name: [photo(p, i).image for i in k] for name, p in people.items()} for k in ((1, 2), (3,), (5, 6))}
    return ib.evaluate(pictures[1, 2], pictures[5, 6], references=pictures[3,], attackers="eigenfaces", **options)


@pytest.mark.slow
def test_without_the_file_one_line_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(tmp_path))
    found = evaluate()
    (note,) = (note for note in found.notes if note.startswith(KEPT_UNMEASURED))
    assert note.endswith("needs weights: iddmbench fetch faceres") and note in str(found)
    assert not found.utility.kept_age.known and found.images["kept_sex"].isna().all() and len(found.demographics) == 0


@needs_file
def test_with_the_file_age_and_sex_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of people whose dataset says nothing, the groups are what is read too. What was computed before stays."""
    if FOLDER:
        monkeypatch.setenv("IDDMBENCH_WEIGHTS", FOLDER)
    found = evaluate()
    assert not any(note.startswith(KEPT_UNMEASURED) for note in found.notes)
    assert found.utility.kept_sex.value == 1 and found.utility.kept_age.value > 0.3
    table = found.demographics
    assert set(table[table["trait"] == SEX]["group"]) == {"female", "male"} and TONE not in set(table["trait"])
    female = table[(table["group"] == "female") & (table["metric"] == "kept_sex")].iloc[0]
    assert female["subjects"] == 2 and female["images"] == 4 and female["value"] == 1
