"""Two conditions, figure by figure over the same people: `ib.compare`, `ib.differences`, `iddmbench compare`."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_run import write_run
from typer.testing import CliRunner

import iddmbench as ib
from iddmbench.cli import app
from iddmbench.errors import UserError
from iddmbench.metrics.paired import holm, paired_difference
from iddmbench.results.per_subject import HITS, subject_values
from iddmbench.results.summary import Summary

PEOPLE = tuple(f"s{i}" for i in range(29, 37))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> ib.Result:
    return ib.open_run(write_run(tmp_path_factory.mktemp("runs") / "one", subjects=PEOPLE))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ib.Result:
    """Another defense on the same and two other people."""
    people = (*PEOPLE[2:], "s37", "s38")
    path = tmp_path_factory.mktemp("runs") / "other"
    return ib.open_run(write_run(path, defenses=("mist",), subjects=people, seed=3, vary=True))


def by_hand(result: ib.Result, condition: str, attacker: str) -> pd.Series:
    """PSR at FAR 1e-2 of each person, among the images with a face."""
    defense, _, strength = condition.rpartition("-")
    probes = result.probes
    own = probes[(probes["defense"] == defense) & (probes["strength"] == float(strength))]
    own = own[(own["attacker"] == attacker) & own["acquired"]]
    return 1 - own.groupby("subject")["match_1e-2"].mean()


def test_a_figure_is_the_paired_test_of_the_peoples_own(one: ib.Result, other: ib.Result) -> None:
    found = ib.compare(one, other, "psr@1e-2", "sface")
    a, b = by_hand(one, "iddm-1.00", "sface"), by_hand(other, "mist-1.00", "sface")
    shared = [name for name in PEOPLE if name in a.index and name in b.index]
    assert found.difference.subjects == len(shared) == 6
    expected = paired_difference(a[shared].to_numpy(), b[shared].to_numpy(), np.random.default_rng(0))
    assert found.difference == expected  # 2^6 sets of people: nothing is drawn
    assert found.difference.value == pytest.approx((a[shared] - b[shared]).mean())
    links = ib.compare(one, other, "match_rate@1e-2", "sface").difference
    assert links.value == pytest.approx(-found.difference.value) and links.p_value == found.difference.p_value


def test_every_figure_in_one_table(one: ib.Result) -> None:
    table = ib.differences(one, one.at("none"))
    names = ["r1u", "psr@1e-2", "psr@1e-3"]
    assert table.groupby("attacker", sort=False)["metric"].apply(list).to_dict() == {
        "dlib": [*names, "ism", "fta"],
        "sface": [*names, "ism", "fta"],
        "worst-case": names,
        "": ["face_detection_rate", "ser_fiq", "brisque", "closeness_efficientnet_lite2", "adherence"],
    }
    for row in table.itertuples():
        found = ib.compare(one, one.at("none"), row.metric, row.attacker or "worst-case")
        assert (row.difference, row.low, row.high) == (
            found.difference.value,
            found.difference.low,
            found.difference.high,
        )
        assert (row.by_first, row.by_second, row.p) == (*found.by, found.difference.p_value)
        assert row.difference == pytest.approx(row.first - row.second)
    assert table["p_holm"].to_list() == holm(table["p"].to_list())
    assert (table["subjects"] == len(PEOPLE)).all()
    # The person's mean of an image's figure, and the defense's direction.
    quality = one.images[one.images["strength"] == 1.0].groupby("subject")["brisque"].mean().mean()
    assert table.set_index("metric").loc["brisque", "first"] == pytest.approx(quality)
    assert (table.set_index("metric").loc["r1u", "difference"] > 0.5).all()


def test_a_figure_that_is_not_measured_is_left_out(one: ib.Result, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(one.folder.path, path)
    summary = pd.read_parquet(path / "summary.parquet")
    summary[~summary["metric"].str.contains("1e-3")].to_parquet(path / "summary.parquet", index=False)
    without = ib.open_run(path)
    assert "psr@1e-3" not in set(ib.differences(without, without.at("none"))["metric"])
    with pytest.raises(UserError, match=r"psr@1e-3 was not measured for iddm-1.00 of run"):
        ib.compare(without, without.at("none"), "psr@1e-3", "dlib")


def test_people_without_a_face_are_left_out(one: ib.Result, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(one.folder.path, path)
    probes = pd.read_parquet(path / "probes.parquet")
    lost = (probes["subject"] == "s30") & (probes["strength"] == 1.0)
    probes.loc[lost, ["acquired", "rank", "match_1e-2", "match_1e-3"]] = [False, 0, False, False]
    probes.loc[lost, "mated"] = math.nan
    probes.to_parquet(path / "probes.parquet", index=False)
    summary = Summary(ib.open_run(path).folder)
    condition = next(c for c in summary.conditions if c.label == "iddm-1.00")
    for metric in (*HITS, "r1u", "ism"):
        assert "s30" not in subject_values(summary, condition, metric, "dlib")
    assert subject_values(summary, condition, "fta", "dlib")["s30"] == 1.0
    table = ib.differences(ib.open_run(path), one.at("none")).set_index(["attacker", "metric"])
    for metric in ("r1u", "ism"):
        assert table.loc[("dlib", metric), "subjects"] == len(PEOPLE) - 1
    assert table.loc[("dlib", "fta"), "subjects"] == len(PEOPLE)


# ---- what can't be compared -----------------------------------------------------------------------------------------


def test_what_can_not_be_compared(one: ib.Result, other: ib.Result, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"both are iddm 1\.00 of one: choose two conditions, or two runs"):
        ib.differences(one, one)
    with pytest.raises(UserError, match="'fid_efficientnet_lite2' is not compared in pairs"):
        ib.compare(one, other, "fid_efficientnet_lite2")
    strangers = ib.open_run(write_run(tmp_path / "strangers", subjects=("s1", "s2")))
    with pytest.raises(UserError, match="no subject with a figure in common"):
        ib.differences(one, strangers)
    path = tmp_path / "protocol"
    shutil.copytree(one.folder.path, path)
    config = json.loads((path / "config.json").read_text())
    config["protocol"] = {"version": "1", "hash": "0" * 64}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="runs one and protocol follow different protocols"):
        ib.differences(one, ib.open_run(path))
    done = CliRunner().invoke(app, ["compare", str(one.folder.path), str(path)])
    assert done.exit_code == 2 and "follow different protocols" in done.stderr


# ---- the command line -----------------------------------------------------------------------------------------------


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command(one: ib.Result, other: ib.Result, tmp_path: Path) -> None:
    a, b = one.folder.path, other.folder.path
    text = run(a, "--csv", tmp_path / "table.csv")
    assert "A: iddm 1.00, one" in text and "B: undefended, one" in text and "Over the 8 people" in text
    table = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(table, ib.differences(one, one.at("none")), check_dtype=False)
    row = table[(table["attacker"] == "dlib") & (table["metric"] == "r1u")].iloc[0]
    (line, *_) = [line for line in text.splitlines() if "R1-U" in line]
    assert f"{100 * row['difference']:+.1f}" in line and f"{row['p']:.2g}" in line
    assert max(map(len, text.splitlines())) <= 80
    both = run(a, b)
    assert (
        "B: mist 1.00, other" in both and "Over the 6 people" in both and "warning: the runs differ in subjects" in both
    )
    halves = run(a, b, "--condition", "iddm-0.50", "--condition", "none")
    assert "A: iddm 0.50, one" in halves and "B: undefended, other" in halves
    done = CliRunner().invoke(app, ["compare", str(a), "--condition", "iddm"])
    assert done.exit_code == 2 and "run one has no condition 'iddm': did you mean" in done.stderr
    done = CliRunner().invoke(app, ["compare", str(tmp_path)])
    assert done.exit_code == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_few_people_are_said_so(finished_run: Path) -> None:
    text = run(finished_run)
    assert "can't bound a difference at 95 %" in " ".join(text.split()) and "∞" in text
    assert "utility" in text
