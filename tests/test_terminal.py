"""What a terminal shows: the same facts at every width and in every encoding, and one sentence in plain words."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from synthetic_run import write_run
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.report.terminal import print_summary
from iddmbench.results.headline import headlines
from iddmbench.results.plain_words import _who, plain_words
from iddmbench.results.run_folder import RunFolder
from iddmbench.results.summary import Summary

LONG = {"attackers": ("facenet-vggface2", "onnx-antelopev2-r100"), "defenses": ("anti-dreambooth-with-a-name",)}
PEOPLE = ("s29", "s30", "s31", "s32", "s33", "s34", "s35", "s36")


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    failed = (("anti-dreambooth-with-a-name", 1.0, "s30"),)
    path = tmp_path_factory.mktemp("long") / "run"
    return write_run(path, subjects=("s29", "s30"), per_prompt=1, strengths=(0.5, 1.0), failed=failed, **LONG)


def shown(path: Path, width: int) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), emoji=True)
    print_summary(RunFolder.open(path), console)
    return console.export_text()


def changed(path: Path, **changes: object) -> Path:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))
    return path


def facts(text: str) -> set[str]:
    """Every number of a text, intervals whole, wherever its lines break."""
    joined = re.sub(r"\s+", " ", text)
    return set(re.findall(r"[<>]?\d+(?:\.\d+)?(?: %)?|\[[^\]]*\]", joined))


@pytest.mark.parametrize("width", [40, 47, 60, 79, 80, 90, 100, 109, 110, 130, 160])
def test_the_same_facts_at_every_width(long_names: Path, width: int) -> None:
    text, wide = shown(long_names, width), shown(long_names, 300)
    assert facts(text) == facts(wide)
    assert "…" not in text
    rows = text.splitlines()
    assert all(len(row) <= width for row in rows if "/" not in row), "paths alone are not wrapped"
    for interval in re.findall(r"\[[\d.<>]+–[\d.<>]+\]", wide):
        assert interval in text, "an interval is cut"
    words = re.sub(r"\s+", " ", text)
    for name in ("facenet-vggface2", "onnx-antelopev2-r100", "anti-dreambooth-with-a-name 1.00", "by threshold"):
        assert name in words
    assert "1 failed" in words or "Failed" in words


def test_the_worst_case_stands_beside_few_attackers(long_names: Path) -> None:
    text, summary = shown(long_names, 160), Summary(RunFolder.open(long_names))
    for condition in summary.conditions:
        assert f"strongest: {summary.strongest(condition, 'worst-case')}" in text
    assert "strongest: the single attacker that links most in this condition" in text
    assert "see the report" not in text


def test_abbreviations_are_explained_in_a_line_each(long_names: Path) -> None:
    lines = shown(long_names, 160).splitlines()
    assert len([line for line in lines if line.startswith("R1-U: ")]) == 1
    assert len([line for line in lines if line.startswith("PSR @ FAR 1e-2: ")]) == 1


def test_plain_words_say_what_for_whom_and_how_sure(tmp_path: Path) -> None:
    run = RunFolder.open(write_run(tmp_path / "run", subjects=PEOPLE, per_prompt=2, strengths=(1.0,)))
    summary, table = Summary(run), run.summary
    text = plain_words(summary)
    own = table[
        (table["attacker"] == "worst-case") & (table["metric"] == "rank1_hit") & (table["policy"] == "headline")
    ]
    after, before = own[own["defense"] == "iddm"].iloc[0], own[own["defense"] == "none"].iloc[0]
    assert "the strongest of 2 face recognition systems names the right person" in text
    assert (
        f"{100 * after['value']:.0f} % with iddm at strength 1 and {100 * before['value']:.0f} % without a defense"
        in text
    )
    assert f"{int(after['subjects'])} people were tested; for others like them the share lies with a defense" in text
    assert "That iddm at strength 1 leaves fewer images recognized is not down to chance." in text
    assert shown(run.path, 400).startswith(text)


def test_plain_words_tell_systems_from_attackers_that_prepare() -> None:
    assert _who(["dlib", "sface"]) == "the strongest of 2 face recognition systems"
    assert _who(["dlib"]) == "face recognition"
    among = ["dlib", "sface", "finetune:dlib", "cross-post:sface"]  # the last links posts, not people
    assert _who(among) == "the strongest of 3 attackers (2 face recognition systems, 1 prepared for the defense)"


def test_plain_words_claim_no_more_than_there_is(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", subjects=("s29", "s30"), per_prompt=1, strengths=(1.0,))
    table = pd.read_parquet(path / "summary.parquet")
    wide = table["attacker"] == "worst-case"
    table.loc[wide, ["low", "high"]] = 0.0, 0.9
    table.to_parquet(path / "summary.parquet", index=False)
    assert "this says next to nothing about others" in plain_words(Summary(RunFolder.open(path)))
    table.loc[wide, "subjects"] = 1
    table.to_parquet(path / "summary.parquet", index=False)
    assert plain_words(Summary(RunFolder.open(path))).endswith("this says nothing about anybody else.")
    blind = table["metric"] == "rank1_hit"
    table.loc[blind, ["value", "low", "high"]] = 0.0, 0.0, 0.2
    table.to_parquet(path / "summary.parquet", index=False)
    assert plain_words(Summary(RunFolder.open(path))).endswith("so the run shows nothing.")


def test_without_anchors_sentences_name_the_attacker(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", subjects=("s29", "s30"), per_prompt=1, strengths=(1.0,))
    for name in ("cells", "images", "probes", "summary"):
        table = pd.read_parquet(path / f"{name}.parquet")
        table[~table["defense"].isin(("none", "generic"))].to_parquet(path / f"{name}.parquet", index=False)
    summary = Summary(RunFolder.open(changed(path, anchors=False)))
    by = summary.strongest(summary.curve("iddm")[-1], "worst-case")
    assert by in ("dlib", "sface")
    first = headlines(summary)[0]
    assert f"({by}" in first and "Undefended" not in first
    assert "without a defense" not in plain_words(summary)


def test_a_hint_at_the_other_people(long_names: Path, finished_run: Path, tmp_path: Path) -> None:
    import shutil

    path = changed(shutil.copytree(long_names, tmp_path / "run"), people=12)
    assert "2 of 12 people were tested: use --subjects all for all of them." in shown(path, 160)
    assert "--subjects all" not in shown(changed(path, people=2), 160)
    assert "2 of 8 people were tested" in shown(changed(path, people=12, offered=8), 160), "not those by name alone"
    assert "--subjects all" not in shown(changed(path, people=12, offered=2), 160)
    assert "--subjects all" not in shown(finished_run, 160)


def test_the_unauthorized_setting_is_said(long_names: Path, tmp_path: Path) -> None:
    import shutil

    path = changed(shutil.copytree(long_names, tmp_path / "run"), threat="unauthorized", purify="jpeg-75")
    first = shown(path, 160).splitlines()[0]
    assert first == (
        "Unauthorized setting: somebody else personalizes the model on the protected photos, purified by jpeg-75 first."
    )
    assert "Unauthorized" not in shown(long_names, 160)


def test_what_was_left_out_is_one_line_at_the_end(long_names: Path, tmp_path: Path) -> None:
    import shutil

    skipped = [{"name": "bob", "reason": "3 usable photos, 6 needed"}, {"name": "ann/1.mov", "reason": "no face found"}]
    path = changed(shutil.copytree(long_names, tmp_path / "run"), skipped=skipped)
    (line,) = [line for line in shown(path, 80).splitlines() if line.startswith("Left out")]
    assert line.startswith("Left out: 1 person (bob: 3 usable photos, 6 needed) and 1 file (1 no face found)")
    assert line.endswith(f"listed in {path / 'left-out.txt'}")


def test_a_sweep_counts_what_its_runs_left_out(tmp_path: Path) -> None:
    """Each once, though every run says it."""
    from iddmbench.cli.sweep import _left_out

    skipped = [{"name": "bob", "reason": "3 usable photos, 6 needed"}]
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text(json.dumps({"skipped": skipped}))
    expected = (
        "Left out: 1 person (bob: 3 usable photos, 6 needed); all of it is listed in left-out.txt of each run in "
    )
    assert _left_out(tmp_path) == f"{expected}{tmp_path / 'runs'}"


def test_names_are_no_emoji_and_no_markup(tmp_path: Path) -> None:
    names = (":smile:", "[bold]dlib[/bold]")
    path = write_run(
        tmp_path / "run", subjects=("s29",), per_prompt=1, strengths=(1.0,), attackers=names, defenses=(":car:",)
    )
    for width in (50, 200):
        text = shown(path, width)
        assert all(name in text for name in (*names, ":car: 1.00"))


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminals_of_any_encoding(long_names: Path, encoding: str) -> None:
    """As a child process: the encoding is the interpreter's."""
    command = [sys.executable, "-m", "iddmbench", "report", str(long_names)]
    environment = {"PYTHONIOENCODING": encoding, "COLUMNS": "160", "MPLBACKEND": "agg"}
    import os

    done = subprocess.run(command, capture_output=True, env={**os.environ, **environment}, timeout=120, check=False)
    text = done.stdout.decode(encoding)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "R1-U" in text and "anti-dreambooth-with-a-name 1.00" in text
    assert re.search(r"\[\d+(\.\d+)?-\d+", text), "an interval's dash is a plain one"


def test_names_in_other_scripts_are_escaped_where_they_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from iddmbench.cli import encoding

    for name, text in (
        ("ascii", b"Zo\\xeb, \\u674e - 13-38 -> ...\n"),
        ("latin-1", b"Zo\xeb, \\u674e - 13-38 -> ...\n"),
    ):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=name))
        encoding.any_encoding()
        print("Zoë, 李 ─ 13–38 → …", flush=True)
        assert raw.getvalue() == text


def test_home_folders_in_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--root=~/x` reaches a program as it is written; so do variables."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["run", "--dataset", "folder", "--root=~/nowhere"])
    assert f"--root {tmp_path}/nowhere is not a folder" in refused.stderr
    refused = CliRunner().invoke(app, ["report", "~/runs/x"])
    assert f"no such run folder: {tmp_path}/runs/x" in refused.stderr
    refused = CliRunner().invoke(app, ["leaderboard", "build", "--board=~/board"])
    assert f"{tmp_path}/board" in refused.stderr
    refused = CliRunner().invoke(app, ["report", "~nobody-of-this-name/runs"])
    assert refused.exit_code == 2 and "no home folder is known for it" in refused.stderr
    assert not (tmp_path / "~").exists()


def test_home_folders_in_variables_settings_and_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iddmbench.datasets.folder import Folder
    from iddmbench.models.base import base_folder
    from iddmbench.store.cache import default_cache
    from iddmbench.weights import weights_folder

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IDDMBENCH_CACHE", "~/c")
    monkeypatch.delenv("IDDMBENCH_WEIGHTS", raising=False)
    assert default_cache() == tmp_path / "c" and weights_folder() == tmp_path / "c" / "weights"
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", "~/w")
    assert weights_folder() == tmp_path / "w"
    assert Folder("~/photos").root == tmp_path / "photos"
    (tmp_path / "base").mkdir()
    assert base_folder("~/base") == tmp_path / "base"
