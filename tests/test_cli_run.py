"""`iddmbench run` with input that is wrong: one line on stderr, exit status 2, nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused
from PIL import Image
from tiny_base import write_base
from typer.testing import CliRunner, Result

from iddmbench.cli import app
from iddmbench.cli.run import pairs
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.results.run_folder import SCHEMA
from iddmbench.run.config import make_config

runner = CliRunner()
pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def invoke(base: Path, *arguments: str) -> Result:
    usual = ["run", "--dataset", "tiny-orl", "--base", str(base), "--subjects", "1", "--strength", "1"]
    usual += ["--attacker", "coarse", "--images-per-prompt", "1", "--prompt", "a photo of sks person"]
    return runner.invoke(app, [*usual, *arguments])


WRONG = {
    "defense": (["--defense", "idm"], ["unknown defense 'idm': did you mean 'iddm'?"]),
    "attacker": (["--attacker", "slib"], ["unknown attacker 'slib': did you mean 'dlib'?"]),
    "dataset": (["--dataset", "orll"], ["unknown dataset 'orll': did you mean 'orl'?"]),
    "strength": (["--strength", "1.5"], ["strength", "1.5 is outside [0, 1]"]),
    "negative strength": (["--strength", "-0.1"], ["outside [0, 1]"]),
    "option": (["--defense", "iddm", "--set", "round=6"], ["'iddm' has no option 'round': did you mean 'rounds'?"]),
    "value": (["--defense", "iddm", "--set", "rounds=many"], ["'iddm': rounds='many'"]),
    "range": (["--defense", "iddm", "--set", "rounds=0"], ["rounds='0'", "greater than or equal to 1"]),
    "no value": (["--defense", "iddm", "--set", "rounds"], ["--set rounds: write it as --set KEY=VALUE"]),
    "surrogate": (["--defense", "iddm", "--set", "surrogate=sfaces"], ["unknown attacker 'sfaces'", "'sface'"]),
    "device": (["--defense", "none", "--device", "warp"], ["device 'warp' can't be used"]),
    "images": (["--images-per-prompt", "0"], ["images_per_prompt"]),
    "base": (["--base", "mikro"], ["unknown base model 'mikro'"]),
    "names": (["--subjects", "s29,s30"], ["subjects: 's29,s30' is not a number: name people with --subject NAME"]),
    "negative subjects": (["--subjects", "-3"], ["-3 is too few: give at least 1, or 'all'"]),
    "no subjects": (["--subjects", "0"], ["0 is too few"]),
    "too many": (["--subjects", "999"], ["'tiny-orl' has 3 subjects, 999 asked for: give at most 3, or 'all'"]),
    "two ways": (["--subject", "s29"], ["give either --subjects (how many) or --subject (who)"]),
    "lora": (["--defense", "none", "--lora", "stepps=3"], ["--lora has no setting 'stepps': did you mean 'steps'?"]),
    "lora value": (["--defense", "none", "--lora", "steps=0"], ["--lora steps='0'"]),
    "sampling": (["--defense", "none", "--sampling", "step=3"], ["--sampling has no setting 'step'"]),
    "no root": (["--dataset", "folder"], ["needs --root"]),
    "missing root": (["--dataset", "folder", "--root", "nowhere"], ["nowhere is not a folder"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case: str, base: Path, here: Path) -> None:
    arguments, parts = WRONG[case]
    refused(invoke(base, *arguments), *parts)
    assert list(here.iterdir()) == [], "something was written"


def test_a_dataset_without_a_root_refuses_one(base: Path, here: Path) -> None:
    refused(invoke(base, "--root", str(here)), "dataset 'tiny-orl' has no option 'root'")


def test_photos_without_faces(base: Path, here: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "ann").mkdir(parents=True)
    for k in range(6):
        Image.fromarray(np.full((80, 80, 3), 40 * k, np.uint8)).save(root / "ann" / f"{k}.png")
    refused(invoke(base, "--dataset", "folder", "--root", str(root)), "no person in", "no face found", "6 needed")
    assert list(here.iterdir()) == []


def test_too_few_photos(base: Path, here: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "ann").mkdir(parents=True)
    for k in range(1, 4):
        Image.fromarray(photo(35, k).image).save(root / "ann" / f"{k}.png")
    refused(invoke(base, "--dataset", "folder", "--root", str(root)), "ann: 3 usable photos, 6 needed")


def test_an_out_folder_that_can_not_be(base: Path, here: Path) -> None:
    (here / "file").write_text("mine")
    refused(invoke(base, "--defense", "none", "--out", "file"), "file is not a folder")
    assert (here / "file").read_text() == "mine"


def test_progress_is_lines_where_there_is_no_terminal(base: Path, here: Path) -> None:
    """One for each cell, and log.txt has them too; --quiet says nothing but results and what is wrong."""
    first = invoke(base, "--defense", "echo", "--out", "mine")
    assert first.exit_code == 0, first.output
    cells = [line for line in first.stderr.splitlines() if " of 3: " in line]
    assert [line.split()[0] for line in cells] == [str(k) for k in range(1, 4)] and "since the start" in cells[0]
    assert any(line.startswith("done: 3 of 3 cells in ") for line in first.stderr.splitlines())
    second = invoke(base, "--defense", "echo", "--out", "mine", "--quiet")
    assert second.exit_code == 0 and "R1-U" in second.stdout
    assert not [line for line in second.stderr.splitlines() if " of 3 cells" in line or " of 3: " in line]
    config = json.loads((here / "mine" / "config.json").read_text())
    assert config["people"] == 3 and "1 of 3 people were tested: use --subjects all" in " ".join(second.stdout.split())


def test_the_log_of_a_run_is_filled(base: Path, here: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="iddmbench"):
        assert invoke(base, "--defense", "echo", "--strength", "1", "--no-anchors", "--out", "mine").exit_code == 0
    told = [record.getMessage() for record in caplog.records if record.name == "iddmbench.run.pipeline"]
    assert told[0].startswith("1 cells, attackers coarse") and told[-1] == "scored: 1 of 1 cells have figures"
    assert len([line for line in told if line.startswith("cell echo-1.00")]) == 1


def test_a_run_and_what_may_follow_in_its_folder(base: Path, here: Path) -> None:
    """A run passes and prints its table; its folder takes the same run again, and no other."""
    result = invoke(base, "--defense", "echo", "--out", "mine")
    assert result.exit_code == 0, result.output
    assert "echo" in result.stdout and "undefended" in result.stdout
    for name in ("config.json", "environment.json", "summary.parquet", "report.html", "figures/tradeoff.svg"):
        assert (here / "mine" / name).is_file(), name
    again = invoke(base, "--defense", "echo", "--out", "mine", "--track", "tensorboard")
    assert again.exit_code == 0 and "tensorboard: mine/tensorboard" in again.stdout, again.output
    assert list((here / "mine" / "tensorboard").glob("events.out.*"))
    summary = (here / "mine" / "summary.parquet").read_bytes()
    refused(
        invoke(base, "--defense", "echo", "--out", "mine", "--seed", "5"), "holds another run", "give another --out"
    )
    config = here / "mine" / "config.json"
    config.write_text(config.read_text().replace(f'"schema": {SCHEMA}', '"schema": 0'))
    refused(invoke(base, "--defense", "echo", "--out", "mine"), "schema version 0", "remove that folder")
    assert (here / "mine" / "summary.parquet").read_bytes() == summary


def test_failed_cells_end_with_an_error(base: Path, here: Path) -> None:
    result = invoke(base, "--defense", "echo", "--set", "fails=s29", "--out", "mine")
    refused(result, "1 failed cell(s)", "failures.txt", "retry only them")
    assert (
        "failed: echo-1.00 s29 seed 0: defense 'echo': release failed: RuntimeError: no luck with s29" in result.stderr
    )
    assert (here / "mine" / "report.html").is_file()


def test_a_full_disk_is_one_line(base: Path, here: Path) -> None:
    result = invoke(base, "--defense", "echo", "--set", "full_disk=true", "--out", "mine")
    refused(result, "disk is full", "rerun the command to resume")
    assert not (here / "mine" / "summary.parquet").exists()


def test_as_a_process(here: Path) -> None:
    """Without the test runner: nothing but the one line, and no traceback from anywhere."""
    code = "from iddmbench.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "--defense", "idm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=here)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "did you mean 'iddm'?" in done.stderr
    assert list(here.iterdir()) == []


def test_parsing() -> None:
    for text, subjects in (
        ("all", "all"),
        ("4", 4),
        (4, 4),
        (["s29", "s31"], ("s29", "s31")),
        (["all", "7"], ("all", "7")),
    ):
        config = make_config({"subjects": text})
        assert config.subjects == subjects and make_config(config.model_dump(mode="json")) == config
    for names in (["7"], ["all"], ["a, b", " c "]):  # a name is a name, whatever it looks like
        assert make_config({"subject": names}).subjects == tuple(names)
    assert make_config({"subject": "7"}).subjects == ("7",)
    assert pairs(["a=1", "b-c=x=y"], "--set") == {"a": "1", "b_c": "x=y"}
    assert pairs(None, "--set") == {}
    with pytest.raises(UserError, match="KEY=VALUE"):
        pairs(["=3"], "--set")
