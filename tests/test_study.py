"""The study: its tables are the runs', its page is its tables', and what did not run is said to be missing."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from synthetic_run import write_run

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import study_page  # noqa: E402
import study_tables  # noqa: E402

from iddmbench.errors import UserError  # noqa: E402
from iddmbench.metrics.paired import holm  # noqa: E402
from iddmbench.results.paired import compare  # noqa: E402
from iddmbench.results.run_folder import RunFolder  # noqa: E402
from iddmbench.results.summary import Condition, Summary  # noqa: E402

ATTACKERS = ("dlib", "sface", "hog", "finetune:sface", "resimulate:candidates=2,keys=1:sface", "cross-post:sface")
KNOWN = ("inverse:sface", "probe:sface", "probe:known=2:sface")
SUBJECTS = tuple(f"s{n}" for n in range(29, 36))
IDDM, NONE = Condition("iddm", 1.0), Condition("none", None)


def planned_as(path: Path, options: dict[str, dict]) -> RunFolder:
    """The run with the plan that a real one has. options: settings by defense."""
    old = json.loads((path / "config.json").read_text())
    plan = [{"name": d, "strength": s, **options.get(d, {})} for d in old["defenses"] for s in old["strengths"]]
    (path / "config.json").write_text(json.dumps({**old, "plan": plan, "people": 12, "lora": {}, "sampling": {}}))
    return RunFolder.open(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """IDDM and the keyed defense in one run; a preset in another, with fewer attackers; a smaller copy of the first."""
    root = tmp_path_factory.mktemp("study")
    common = {"strengths": (1.0,), "subjects": SUBJECTS, "per_prompt": 3, "prompts": ("a photo",)}
    first = write_run(root / "first", defenses=("iddm", "iddm-keyed"), attackers=ATTACKERS, vary=True, **common)
    second = write_run(root / "second", attackers=ATTACKERS[:2], seed=1, **common)
    small = write_run(root / "small", strengths=(1.0,), attackers=("eigenfaces",), seed=2, per_prompt=1)
    preset = {"iddm": {"surrogate": ["sface"], "margin": -0.6}}
    return [planned_as(first, {}), planned_as(second, preset), planned_as(small, {})]


@pytest.fixture(scope="module")
def folder(runs: list[RunFolder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables")
    study_tables.write(runs, out, ("study", "orl-core"))
    return out


@pytest.fixture(scope="module")
def study(folder: Path) -> study_page.Study:
    return study_page.Study(folder)


def test_the_committed_page_is_what_its_data_say() -> None:
    """Nobody typed a figure into it, and nobody forgot to write it again."""
    assert (ROOT / "docs" / "study.md").read_text(encoding="utf-8") == study_page.page()
    assert sum(file.stat().st_size for file in study_page.DATA.iterdir()) < 5_000_000


def test_the_committed_differences_are_those_of_the_committed_figures() -> None:
    """Where both rest on as many people, seeds and attackers; other ways to average over images without a face aside."""
    table = pd.read_csv(study_page.DATA / "pairs.csv").fillna({"variant": "", "attacker": ""})
    study = study_page.Study()
    table = table[(table["metric"] == "rank1_hit") & table["attacker"].isin(study_tables.JUDGES)]
    checked = 0
    for row in table.to_dict("records"):
        key = {column: row[column] for column in study_page.WHERE}
        none = row["reference"] == "undefended"
        other = {"defense": "none", "variant": "", "strength": math.nan}
        sides = [key, key | (other if none else {"defense": "iddm", "variant": "two-surrogates"})]
        found = [study.find(side, row["attacker"]) for side in sides]
        counts = [[side[name] for name in ("people", "seeds", "of")] for side in found if side]
        if counts != [[row["people"], row["seeds"], row["of"]]] * 2:
            continue
        checked += 1
        faces = study.find(key, "", study_page.FACES)
        assert faces
        # A figure counts images and a difference people, so they part where most of some people's images have no face.
        bound = 0.03 if faces["value"] >= 0.6 else 0.05
        assert row["value"] == pytest.approx(found[0]["value"] - found[1]["value"], abs=bound), row
    assert checked >= 10


def test_the_words_hold_no_figure() -> None:
    """Shares, intervals and p values come out of expressions; what is left is the interval's level."""
    text = (ROOT / "benchmarks" / study_page.TEMPLATE).read_text(encoding="utf-8")
    plain = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    assert set(re.findall(r"[\d.]+ ?%", plain)) <= {"95 %"}
    assert not re.findall(r"\bp ?[=<]|\[\d(?!5 %\])", plain)


@pytest.mark.parametrize(
    ("defense", "settings", "name"),
    [
        ("iddm", {}, "two-surrogates"),
        ("iddm", {"surrogate": ["sface"], "margin": -0.6}, "sface-overshoot"),
        ("iddm", {"surrogate": ["sface", "dlib"], "margin": -0.1, "jitter": 0.06}, "two-surrogates"),
        ("iddm", {"surrogate": ["sface", "dlib"], "margin": -0.6, "aim": "strangers"}, "strangers"),
        ("iddm", {"eps": 0.5, "surrogate": ["dlib"]}, "surrogate=dlib, eps=0.5"),
        ("iddm-keyed", {}, ""),
        ("mist", {}, ""),
        ("my-own", {"x": 1}, ""),
    ],
)
def test_variants_are_named_by_preset_or_options(defense: str, settings: dict, name: str) -> None:
    found = study_tables.variant_of(defense, {"name": defense, "strength": 1.0, **settings})
    assert found == name


def test_attackers_have_families() -> None:
    families = ["plain", "plain", "appearance", "prepared", "re-simulation", "cross-post"]
    assert [study_tables.family(name) for name in ATTACKERS] == families
    assert [study_tables.family(name) for name in KNOWN] == ["prepared", "known posts", "known posts"]
    assert {*families, "known posts"} == {*study_page.FAMILIES}
    assert [study_tables.family(name) for name in ("", "worst-case", "hog:part=edge")] == [
        "utility",
        "worst-case",
        "appearance",
    ]


def test_settings_that_differ_are_told_apart() -> None:
    usual = {"dataset": "synthetic", "threat": "authorized", "lora": {}}
    assert (study_tables.dataset_of(usual), study_tables.setting_of(usual)) == ("synthetic", "authorized")
    assert study_tables.dataset_of({**usual, "dataset_options": {"part": "tuning"}}) == "synthetic/tuning"
    other = {**usual, "threat": "unauthorized", "purify": "jpeg-75", "lora": {"steps": 10}}
    assert study_tables.setting_of(other) == "unauthorized, jpeg-75, steps=10"


def test_figures_are_the_runs(runs: list[RunFolder], study: study_page.Study) -> None:
    """The fullest run's value; an attacker that only the smaller run has keeps its own."""
    summary = Summary(runs[0])
    key = study.key("orl", "iddm", "two-surrogates", 1.0)
    for attacker in ("sface", "finetune:sface", "worst-case", "hog"):
        row, value = study.find(key, attacker), summary.get(IDDM, "rank1_hit", attacker)
        assert row and value and row["run"] == "first"
        assert (row["value"], row["low"], row["images"]) == pytest.approx(
            (value.value, value.low, value.images), rel=1e-4
        )
    only = study.find(key, "eigenfaces")
    assert only is not None and only["run"] == "small"
    again = study.resimulated(key)
    assert again is not None and again["chance"] == pytest.approx(1 / 2)
    assert study.find(study.key("orl", "iddm", "sface-overshoot", 1.0), "dlib") is not None


def test_pairs_are_paired_and_adjusted(runs: list[RunFolder], folder: Path) -> None:
    table = pd.read_csv(folder / "pairs.csv")
    summary = Summary(runs[0])
    own = table[(table["reference"] == "undefended") & (table["metric"] == "rank1_hit") & (table["attacker"] == "dlib")]
    row = own[(own["defense"] == "iddm") & (own["variant"] == "two-surrogates")].iloc[0]
    expected = compare((summary, IDDM), (summary, NONE), "dlib")
    assert expected is not None
    d = expected.difference
    assert (row["value"], row["low"], row["high"], row["p"]) == pytest.approx(
        (d.value, d.low, d.high, d.p_value), rel=1e-4
    )
    assert len(own) == 3 and list(own["p_holm"]) == pytest.approx(holm(list(own["p"])), rel=1e-4)
    keyed = table[(table["defense"] == "iddm-keyed") & (table["reference"] != "undefended")]
    assert set(keyed["reference"]) == {"iddm (two-surrogates)"} and {"hog", "worst-case"} <= set(keyed["attacker"])


def test_the_strongest_are_compared_among_shared_attackers(folder: Path) -> None:
    """A run with two attackers beside one with more: the others' attackers count for neither."""
    table = pd.read_csv(folder / "pairs.csv")
    row = table[
        (table["variant"] == "sface-overshoot")
        & (table["reference"] != "undefended")
        & (table["attacker"] == "worst-case-adaptive")
    ]
    assert len(row) == 1 and {*row["by"], *row["by_other"]} <= {"dlib", "sface"}


def test_a_worst_case_of_few_attackers_takes_no_place(runs: list[RunFolder], tmp_path: Path) -> None:
    """More images judged by one attacker alone: the strongest of all attackers stay compared, also where tables are added."""
    few = write_run(tmp_path / "few", strengths=(1.0,), subjects=SUBJECTS, attackers=("sface",), per_prompt=6)
    few_run = planned_as(few, {})
    study_tables.write([runs[0], few_run], tmp_path / "once", ("study",))
    study_tables.write([runs[0]], tmp_path / "added", ("study",))
    study_tables.write([few_run], tmp_path / "added", ("study",), add=True)
    for folder in ("once", "added"):
        table = pd.read_csv(tmp_path / folder / "pairs.csv")
        own = table[
            (table["defense"] == "iddm") & (table["attacker"] == "worst-case") & (table["metric"] == "rank1_hit")
        ]
        assert list(own["of"]) == [2], folder


def test_re_simulation_is_by_most_people(folder: Path) -> None:
    """A larger share of fewer people does not take its place."""
    study = study_page.Study(folder)
    key = study.key("orl", "none")
    row = key | {
        "family": "re-simulation",
        "metric": "rank1_hit",
        "attacker": "resimulate:sface",
        "value": 0.4,
        "people": 8,
    }
    fewer = row | {"attacker": "resimulate:candidates=6:sface", "value": 0.9, "people": 4}
    study.figures = [row, fewer, row | {"attacker": "resimulate:dlib", "value": 0.3}]
    assert study.resimulated(key) == row


def test_orders_are_compared_by_kendalls_tau(folder: Path) -> None:
    """As scipy has it; a control and a defense without faces are left out."""
    study = study_page.Study(folder)
    where = {"dataset": "orl", "base": "micro", "setting": "authorized", "variant": "", "strength": 1.0}
    defenses, values = [f"defense{i}" for i in range(6)], np.random.default_rng(0).random((8, len(study_page.ORDERING)))
    study.figures = []
    for i, defense in enumerate([*defenses, "control-person", "blur"]):
        faces = {"attacker": "", "metric": study_page.FACES, "value": 0.1 if defense == "blur" else 1.0}
        hits = [
            {"attacker": a, "metric": study_page.HIT, "value": v}
            for a, v in zip(study_page.ORDERING, values[i], strict=True)
        ]
        study.figures += [where | {"defense": defense} | row for row in (faces, *hits)]
    text = study.agreement("orl")
    first = next(line for line in text.splitlines() if line.startswith("| `dlib`"))
    expected = [kendalltau(values[:6, 0], values[:6, k])[0] for k in range(1, values.shape[1])]
    assert [float(cell) for cell in first.split("|")[3:-1]] == pytest.approx(expected, abs=0.006)
    assert text.endswith("Over 6 defenses on `orl`.")
    study.figures = study.figures[: 4 * (1 + len(study_page.ORDERING))]
    assert "not run" in study.agreement("orl")


def test_who_reaches_the_goal_is_told(folder: Path) -> None:
    study = study_page.Study(folder)
    assert study.goal_told() == "**No setting reaches the whole goal**."
    key = study.key("orl", "iddm", "two-surrogates", 1.0)
    good = {("", study_page.FACES): 1.0, ("", study_page.INDEX): 0.95, ("worst-case-adaptive", "rank1_hit"): 0.1}
    study.figures = [key | {"attacker": a, "metric": m, "value": v, "family": ""} for (a, m), v in good.items()]
    assert study.goal_told().endswith(
        "All but re-simulation: IDDM, two-surrogates, strength 1 on `orl`, by point values."
    )
    again = {"attacker": "resimulate:sface", "metric": "rank1_hit", "family": "re-simulation", "people": 8}
    study.figures.append(key | again | {"value": 0.17, "chance": 0.125})
    assert study.goal_told() == "**Reached by** IDDM, two-surrogates, strength 1 on `orl`."
    study.figures[2]["value"] = 0.11
    assert study.goal_told() == "**No setting reaches the whole goal**."


def test_a_stranger_and_purified_photos_stand_beside_what_is_planned(folder: Path) -> None:
    """And a column without any figure does not stand in the tables of full strength."""
    study = study_page.Study(folder)
    assert study_page.STRANGER not in {k["defense"] for k in study.full("orl")}
    stranger = study.key("orl", study_page.STRANGER, strength=1.0)
    purified = study.key("orl", "mist", strength=1.0) | {"setting": "unauthorized, jpeg-75"}
    faces = {"attacker": "", "metric": study_page.FACES, "value": 1.0, "people": 6, "family": ""}
    study.figures += [key | faces for key in (stranger, purified)]
    (shown,) = [k for k in study.full("orl") if k["defense"] == study_page.STRANGER]
    assert shown == stranger and stranger not in study.aimed()
    assert "| `mist`, strength 1 | unauthorized, jpeg-75 |" in study.core("orl-core")
    assert "jpeg-75" not in study.core("synthetic-core")


def test_the_bases_error_stands_beside_the_index(folder: Path) -> None:
    study = study_page.Study(folder)
    assert study.strangeness("orl") == "On `orl`: not run."
    where = {"dataset": "orl", "base": "micro", "setting": "authorized", "variant": ""}
    rng, people = np.random.default_rng(0), range(6)
    for defense, strength, mean in (("mist", 1.0, 1.4), ("none", math.nan, 1.0), ("aspl", 0.5, 9.0), ("apl", 1.0, 1.3)):
        row = where | {"defense": defense, "strength": strength}
        study.strange += [row | {"person": f"s{i}", "value": mean + 0.01 * rng.random()} for i in people]
    lines = study.strangeness("orl").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| undefended",
        "| `mist`, strength 1",
        "| `apl`, strength 1",
    ]
    assert lines[2].endswith("| – | – |") and "| 6 | 1.4" in lines[3]
    assert re.search(r"\| 0\.40 \[0\.\d+, 0\.\d+\], p 0\.062 \| – \|$", lines[3])  # 2 / 2^6, of two


def test_what_did_not_run_is_missing(folder: Path, study: study_page.Study) -> None:
    table = pd.read_csv(folder / "missing.csv").fillna({"variant": "", "lacking": ""})
    own = table[table["plan"] == "orl-two-surrogates"]
    full = own[own["strength"] == 1].iloc[0]
    assert (full["people"], full["planned_people"], full["planned_seeds"]) == (
        4,
        12,
        3,
    )  # as synthetic_run counts people
    assert "faceres" in full["lacking"].split() and "dlib" not in full["lacking"].split()
    assert (own[own["strength"] == 0.5]["people"] == 0).all()
    assert study.value("orl", "iddm", "sface", "two-surrogates", 0.5) == "not run"
    assert study.headline("synthetic").startswith("Not run: undefended; ") and "|" not in study.headline("synthetic")
    text = study_page.page(folder)
    assert (
        "not run" in text
        and "IDDM, strangers, strength 0.25" in text
        and "nan" not in text.lower().replace("nanmean", "")
    )
    assert study.total("planned") == len(table) and study.total("complete") == 0


def test_seeds_are_split_once_there_are_two(runs: list[RunFolder], study: study_page.Study, tmp_path: Path) -> None:
    assert "not run" in study.split() and "not run" in study.widths()
    path = write_run(tmp_path / "seeds", strengths=(1.0,), subjects=SUBJECTS, attackers=ATTACKERS[:2], per_prompt=2)
    for name in ("probes", "images", "cells"):
        table = pd.read_parquet(path / f"{name}.parquet")
        pd.concat([table, table.assign(seed=1)]).to_parquet(path / f"{name}.parquet", index=False)
    study_tables.write([planned_as(path, {})], tmp_path / "out", ("study",))
    both = study_page.Study(tmp_path / "out")
    assert "7 × 2" in both.split() and "| 12 |" in both.widths() and "3 seeds" in both.widths()


def test_differences_are_written_in_points() -> None:
    row = {"value": -0.4, "low": -0.6, "high": math.inf, "p_holm": 0.0004}
    plain = row | {"attacker": "dlib", "of": 1}
    assert study_page.difference(plain, "rank1_hit") == "\u221240 [\u221260, +∞], p < 0.001"
    worst = row | {"attacker": "worst-case", "of": 7}
    assert study_page.difference(worst, "rank1_hit") == "\u221240 [\u221260, +∞], p < 0.001, of 7"
    assert study_page.difference(None, "rank1_hit") == "not run"


def test_figures_of_other_runs_stay(runs: list[RunFolder], folder: Path, tmp_path: Path) -> None:
    """`--add`: adding the runs one after the other gives the figures of all of them at once."""
    for i, run in enumerate((runs[2], runs[0], runs[1])):
        study_tables.write([run], tmp_path, ("study", "orl-core"), add=i > 0)
    for name in ("figures", "missing", "runs"):
        one, other = (pd.read_csv(path / f"{name}.csv") for path in (folder, tmp_path))
        names = list(one.columns)
        one, other = (table.sort_values(names).reset_index(drop=True) for table in (one, other))
        pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-4)
    again = pd.read_csv(tmp_path / "pairs.csv")
    own = again[(again["reference"] == "undefended") & (again["metric"] == "rank1_hit") & (again["attacker"] == "dlib")]
    assert len(own) == 3 and list(own["p_holm"]) == pytest.approx(holm(list(own["p"])), rel=1e-4)
    with pytest.raises(UserError, match="runs of these names: first"):
        study_tables.write([runs[0]], tmp_path, ("study",), add=True)


def test_a_figure_of_fewer_images_takes_nobodys_place() -> None:
    old = pd.DataFrame({"variant": [math.nan, "x"], "models": [8, 4], "value": [1.0, 2.0]})
    new = pd.DataFrame({"variant": ["", "x", "y"], "models": [4, 4, 1], "value": [3.0, 4.0, 5.0]})
    found = study_tables.larger(old, new, ["variant"], ["models"])
    assert dict(zip(found["variant"], found["value"], strict=True)) == {"": 1.0, "x": 4.0, "y": 5.0}
