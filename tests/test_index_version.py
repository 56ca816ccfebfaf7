"""Runs whose utility index is of an older version: they can be read, and are mixed with no other."""

import json
from pathlib import Path

import pandas as pd
import pytest
from synthetic_run import write_run

from iddmbench.errors import UserError
from iddmbench.report.figures import tradeoff
from iddmbench.results.comparable import check_same_index, old_index
from iddmbench.results.metric_info import INDEX, INDEX_VERSION, KEPT_LOOK
from iddmbench.results.per_subject import subject_values
from iddmbench.results.run_folder import CONFIG, RunFolder, table_file
from iddmbench.results.summary import Condition, Summary


@pytest.fixture
def old(tmp_path: Path) -> RunFolder:
    """As version 1 wrote it: no version in the config, no column of today's components."""
    path = write_run(tmp_path / "old")
    config = json.loads((path / CONFIG).read_text())
    config.pop("utility_index", None)
    (path / CONFIG).write_text(json.dumps(config))
    images = pd.read_parquet(path / table_file("images"))
    images = images.drop(columns=["usable", "realism", "kept_look", "closeness_erased"], errors="ignore")
    images.to_parquet(path / table_file("images"), index=False)
    return RunFolder.open(path)


def test_an_older_run_is_read_with_its_own_index(old: RunFolder) -> None:
    assert old.index_version == 1 and "of version 1" in old_index(old)
    assert old.images["kept_look"].isna().all()
    summary = Summary(old)
    assert summary.get(Condition("iddm", 0.5), INDEX) is not None and not summary.has(KEPT_LOOK)
    assert subject_values(summary, Condition("iddm", 0.5), KEPT_LOOK) == {}
    assert tradeoff(old).axes


def test_two_versions_share_no_axis(old: RunFolder, tmp_path: Path) -> None:
    path = write_run(tmp_path / "new")
    config = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps({**config, "utility_index": INDEX_VERSION}))
    new = RunFolder.open(path)
    assert old_index(new) == ""
    with pytest.raises(UserError, match=r"indices of runs old and new are of versions 1 and 2: repeat the older run"):
        check_same_index([new, old])
    check_same_index([new, new])


def test_another_figure_across_the_trade_off(old: RunFolder) -> None:
    """Faces found: the points stand where the table says, and the axis is named."""
    figure = tradeoff(old, across="face_detection_rate")
    summary = Summary(old)
    at = {summary.get(c, "face_detection_rate").value for c in summary.curve("iddm")}
    drawn = {x for line in figure.axes[0].lines for x in line.get_xdata()}
    assert at <= drawn and "Faces found" in figure.axes[0].get_xlabel()
    x0, x1 = figure.axes[0].get_xlim()
    assert x0 < min(at) and max(at) < x1
