"""Reading of run folders, and the messages of those that can't be read."""

import json
import math
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from synthetic_run import write_run

from iddmbench.errors import UserError
from iddmbench.results.run_folder import SCHEMA, TABLES, RunFolder, label, latest, make_table
from iddmbench.results.summary import Condition, Summary, Value, written
from iddmbench.run.environment import environment, git_commit


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        RunFolder.open(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_opens_what_was_written(finished_run: Path) -> None:
    run = RunFolder.open(finished_run)
    assert run.config["dataset"] == "orl"
    assert run.environment["python"]
    for name, columns in TABLES.items():
        assert list(getattr(run, name).columns) == list(columns)
    assert len(run.failed) == 1
    assert run.probes["acquired"].dtype == bool


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no such run folder" in message(tmp_path / "nothing")


def test_not_a_run(tmp_path: Path) -> None:
    assert "not a run folder" in message(tmp_path)


@pytest.mark.parametrize(
    ("schema", "fix"), [(SCHEMA + 1, "upgrade iddmbench"), (1, "repeat the run"), (None, "repeat the run")]
)
def test_other_schema(copy: Path, schema: int | None, fix: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"schema": schema, "iddmbench": "9.9"}))
    text = message(copy)
    assert f"schema version {schema}" in text
    assert "9.9" in text
    assert fix in text


def test_unfinished(copy: Path) -> None:
    (copy / "summary.parquet").unlink()
    assert "not finished: run the same command again" in message(copy)


def test_missing_table(copy: Path) -> None:
    (copy / "probes.parquet").unlink()
    assert "probes.parquet missing" in message(copy)


def test_truncated_table(copy: Path) -> None:
    path = copy / "images.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    assert "images.parquet can't be read" in message(copy)


def test_a_run_of_an_older_version_is_not_called_damaged(copy: Path) -> None:
    for name in ("premise", "demographics"):
        (copy / f"{name}.parquet").unlink()
        text = message(copy)
        assert "was written by an older version without " in text and f"{name}.parquet: run the same" in text
        assert "damaged" not in text


def test_missing_column(copy: Path) -> None:
    path = copy / "images.parquet"
    pd.read_parquet(path).drop(columns=["adherence"]).to_parquet(path)
    assert "images.parquet lacks the columns adherence" in message(copy)


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_broken_config(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    assert "config.json" in message(copy)


def test_damage_inside_a_table_is_a_user_error(copy: Path) -> None:
    path = copy / "images.parquet"
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"images\.parquet can't be read"):
        _ = RunFolder.open(copy).images


def test_latest_is_the_newest_with_a_config(tmp_path: Path) -> None:
    for age, name in enumerate(("b", "a", "c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        os.utime(tmp_path / name / "config.json", (1000 - age, 1000 - age))
    (tmp_path / "z").mkdir()
    assert latest(tmp_path).name == "b"


def test_latest_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="iddmbench run"):
        latest(tmp_path / "runs")


def test_pictures_stay_inside_the_run(copy: Path) -> None:
    run = RunFolder.open(copy)
    own = "images/none/s29/00.png"
    assert run.picture(own).shape == (64, 64, 3)
    shutil.copy(copy / own, copy.parent / "secret.png")
    (copy / "link.png").symlink_to(copy.parent / "secret.png")
    (copy / "broken.png").write_bytes(b"\x89PNG not really")
    for path in (
        "../secret.png",
        str(copy.parent / "secret.png"),
        "link.png",
        "broken.png",
        "absent.png",
        "images",
        "\0",
    ):
        assert run.picture(path) is None, path
    assert run.pictures("..") == []
    assert len(run.pictures("references", "s29")) == 4


def test_make_table_keeps_types_without_rows() -> None:
    table = make_table("probes", [])
    assert list(table.columns) == list(TABLES["probes"])
    assert table["acquired"].dtype == bool
    assert table["mated"].dtype == float


def test_make_table_fills_floats_only() -> None:
    row = dict.fromkeys(TABLES["cells"], "") | {"seed": 0, "cached": False, "strength": math.nan}
    for key in [k for k in row if k.startswith(("seconds", "photo", "peak"))]:
        del row[key]
    assert make_table("cells", [row])["seconds"].isna().all()
    with pytest.raises(ValueError, match=r"missing.*error"):
        make_table("cells", [{k: v for k, v in row.items() if k != "error"}])
    with pytest.raises(ValueError, match=r"extra.*colour"):
        make_table("cells", [row | {"colour": "red"}])


def test_labels() -> None:
    assert label("none", math.nan) == label("none", None) == "none"
    assert label("iddm", 0.5) == "iddm-0.50"
    assert label("iddm", 1.0, seed=3) == "iddm-1.00-seed3"


def test_conditions_are_in_reading_order(finished_run: Path) -> None:
    summary = Summary(RunFolder.open(finished_run))
    assert [c.label for c in summary.conditions] == ["none", "iddm-0.25", "iddm-0.50", "iddm-1.00", "generic"]
    assert summary.attackers == ["dlib", "sface"]
    strongest = Condition("iddm", 1.0)
    assert summary.white_box(strongest, "sface") and not summary.white_box(strongest, "dlib")
    assert summary.able == ["dlib", "sface"] and summary.strongest(strongest, "worst-case-transfer") == "dlib"
    assert summary.failed(strongest) == 1
    assert summary.get(strongest, "r1u", "nobody") is None


def test_headline_value_is_the_tables_row(finished_run: Path) -> None:
    run = RunFolder.open(finished_run)
    table = run.summary
    row = table[
        (table["defense"] == "iddm")
        & (table["strength"] == 0.5)
        & (table["attacker"] == "dlib")
        & (table["metric"] == "r1u")
        & (table["policy"] == "headline")
    ].iloc[0]
    value = Summary(run).get(Condition("iddm", 0.5), "r1u", "dlib")
    assert (value.value, value.low, value.high, value.images) == (row["value"], row["low"], row["high"], row["images"])


def test_a_condition_that_failed_as_a_whole_is_kept(tmp_path: Path) -> None:
    failed = tuple(("iddm", 0.5, s) for s in ("s29", "s30"))
    path = write_run(tmp_path / "run", subjects=("s29", "s30"), per_prompt=1, strengths=(0.5,), failed=failed)
    summary = Summary(RunFolder.open(path))
    assert Condition("iddm", 0.5) in summary.conditions
    assert summary.get(Condition("iddm", 0.5), "utility_index") is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("r1u", (0.5, 0.25, 0.75), "50 % [25, 75]"),
        ("r1u", (0.9996, math.nan, math.nan), ">99.9 %"),
        ("r1u", (1.0, 0.996, 1.0), "100 % [99.6, 100]"),
        ("r1u", (0.0, 0.0, 0.0001), "0 % [0, <0.1]"),
        ("ism", (0.314, 0.3, 0.329), "0.31 [0.30, 0.33]"),
        ("brisque", (31.44, 30.0, 33.0), "31.4 [30.0, 33.0]"),
    ],
)
def test_numbers_in_words(name: str, value: tuple[float, float, float], text: str) -> None:
    assert written(name, Value(*value, 10, 2, 0)) == text


def test_no_number_is_made_up() -> None:
    assert written("r1u", None) == "–"


def test_environment_is_json_and_names_no_machine() -> None:
    import platform

    text = json.dumps(environment())
    assert "torch" in text
    assert json.dumps(platform.node()) not in text


def test_no_commit_outside_a_checkout(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
