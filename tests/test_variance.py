"""The split of a run's variance, from its tables to the page: seeds of one run and of several."""

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
from iddmbench.metrics.variance import variance_split
from iddmbench.report.page import variance_rows
from iddmbench.results.headline import headlines
from iddmbench.results.run_folder import RunFolder
from iddmbench.results.summary import Condition, Summary, per_cent
from iddmbench.results.variance import (
    image_values,
    paired_split,
    power_table,
    roughness,
    split_of,
    strongest_rows,
    variance_table,
)

IDDM, NONE = Condition("iddm", 1.0), Condition("none", None)
TABLES = ("probes", "images", "cells")


def reseeded(path: Path, seed: int) -> Path:
    """The run as one with another training seed."""
    for name in TABLES:
        frame = pd.read_parquet(path / f"{name}.parquet").assign(seed=seed)
        frame.to_parquet(path / f"{name}.parquet", index=False)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "seeds": [seed]}))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of one protocol that differ in their seed, and one run that has both."""
    root = tmp_path_factory.mktemp("seeds")
    made = [reseeded(write_run(root / f"seed{i}", strengths=(1.0,), seed=i), i) for i in (0, 1)]
    both = Path(shutil.copytree(made[0], root / "both"))
    for name in TABLES:
        frames = [pd.read_parquet(run / f"{name}.parquet") for run in made]
        pd.concat(frames).to_parquet(both / f"{name}.parquet", index=False)
    return [*made, both]


@pytest.fixture(scope="module")
def summaries(runs: list[Path]) -> list[Summary]:
    return [Summary(RunFolder.open(run)) for run in runs]


def test_rows_are_those_of_the_run(summaries: list[Summary]) -> None:
    """R1-U and a utility figure, each worked out anew from the tables."""
    both = summaries[2]
    table = variance_table([both]).set_index(["defense", "metric", "attacker"])
    probes = both.run.probes
    seen = probes[(probes["defense"] == "iddm") & (probes["attacker"] == "dlib") & probes["acquired"]]
    expected = variance_split((seen["rank"] != 1).to_numpy(), list(seen["subject"]), list(seen["seed"]))
    row = table.loc[("iddm", "r1u", "dlib")]
    assert row[["people", "seeds", "images"]].to_numpy(float) == pytest.approx(
        np.sqrt([expected.people, expected.seeds, expected.images])
    )
    assert row["mean"] == pytest.approx((seen["rank"] != 1).mean())
    assert (row["subjects"], row["models"], row["n"]) == (4, 8, len(seen))
    assert row[["share_people", "share_seeds", "share_images"]].sum() == pytest.approx(1)
    images = both.run.images[both.run.images["defense"] == "none"]
    quality = table.loc[("none", "ser_fiq", "")]
    assert quality["mean"] == pytest.approx(images["ser_fiq"].mean()) and quality["n"] == images["ser_fiq"].count()


def test_several_runs_are_one(summaries: list[Summary]) -> None:
    """Seeds from two folders give what one folder with both gives; a run given twice counts once."""
    a, b, both = summaries
    pd.testing.assert_frame_equal(variance_table([a, b]), variance_table([both]))
    pd.testing.assert_frame_equal(variance_table([a, a]), variance_table([a]))


def test_with_one_seed_its_part_is_unknown(summaries: list[Summary]) -> None:
    table = variance_table([summaries[0]])
    assert table["seeds"].isna().all() and table["share_seeds"].isna().all() and table["people"].notna().all()
    assert variance_rows(summaries[0]).rows == []


def test_pairs_are_of_the_same_image(summaries: list[Summary]) -> None:
    both = [summaries[2]]
    found = paired_split((both, IDDM), (both, NONE), attackers=("sface", "dlib"))
    one, other = image_values(both, IDDM, "r1u", "sface"), image_values(both, NONE, "r1u", "dlib")
    shared = one.index.intersection(other.index)
    assert found.counts[2] == len(shared) and found.mean == pytest.approx((one[shared] - other[shared]).mean())
    assert paired_split((both, IDDM), (both, IDDM), attackers=("sface", "sface")).images == 0
    with pytest.raises(UserError, match="no image with r1u in common"):
        paired_split((both, IDDM), (both, Condition("mist", 1.0)))


def test_the_power_table_is_the_formula(summaries: list[Summary]) -> None:
    both = [summaries[2]]
    split = split_of(image_values(both, IDDM, "r1u", "dlib"))
    assert split is not None
    table = power_table(split, (4, 12), (1, 3))
    per_model = round(split.counts[2] / split.counts[1])
    assert table.loc[12, 3] == pytest.approx(split.half_width(12, 3, per_model))
    assert list(table.index) == [4, 12] and list(table.columns) == [1, 3]
    alone = split_of(image_values([summaries[0]], IDDM, "r1u", "dlib"))
    assert alone is not None and list(power_table(alone).columns) == [1]


def test_how_rough_an_estimate_is() -> None:
    """Of a standard deviation from 4 people, by the tables of chi-square: 3 / 9.348 and 3 / 0.2158."""
    assert roughness(4) == pytest.approx((math.sqrt(3 / 9.348), math.sqrt(3 / 0.2158)), rel=1e-3)
    assert roughness(400) == pytest.approx((0.935, 1.075), abs=0.01)


def test_on_the_page_and_in_python(runs: list[Path], summaries: list[Summary]) -> None:
    rows = variance_rows(summaries[2]).rows
    by = summaries[2].strongest(IDDM, "worst-case", "r1u")
    assert ["iddm 1.00", f"R1-U, {by}"] in [row[:2] for row in rows]
    assert len(rows) == len(strongest_rows(summaries[2], variance_table([summaries[2]])))
    pd.testing.assert_frame_equal(ib.open_run(runs[2]).variance(), variance_table([summaries[2]]))
    told = [line for line in headlines(summaries[2]) if line.startswith("Shares of the variance")]
    row = variance_table([summaries[2]]).set_index(["defense", "metric", "attacker"]).loc[("iddm", "r1u", by)]
    assert told == [
        f"Shares of the variance of R1-U with iddm 1.00 ({by}): "
        + ", ".join(f"{what} {per_cent(row[f'share_{what}'])} %" for what in ("people", "seeds", "images"))
        + "."
    ]
    assert not any("Shares of" in line for line in headlines(summaries[0]))


def test_the_command(runs: list[Path], tmp_path: Path) -> None:
    def run(*words: object) -> str:
        done = CliRunner().invoke(app, ["variance", *map(str, words)], env={"COLUMNS": "120"})
        assert done.exit_code == 0, done.output
        return done.output

    text = run(runs[0], runs[1], "--csv", tmp_path / "split.csv")
    assert "5 seeds" in text and "iddm 1.00 - undefended" in text and "Foretold from 4 people" in text
    assert len(pd.read_csv(tmp_path / "split.csv")) == len(variance_table([Summary(RunFolder.open(runs[2]))]))
    alone = run(runs[0], "--attacker", "dlib")
    assert "One seed: what it does is part of people" in alone and "2 seeds" not in alone


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--condition", "none"], "give it twice"),
        (["--condition", "none", "--condition", "idm-1.00"], "did you mean 'iddm-1.00'"),
        (["--attacker", "dlb"], "did you mean 'dlib'"),
    ],
)
def test_wrong_words_are_one_line(runs: list[Path], words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["variance", str(runs[0]), *words])
    assert done.exit_code != 0 and isinstance(done.exception, UserError | SystemExit)
    assert message in (str(done.exception) + done.output)
