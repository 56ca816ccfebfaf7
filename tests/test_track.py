"""`--track`: what trackers are told of a finished run, read back from what they wrote."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import refused
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.report.write import write_outputs
from iddmbench.results.run_folder import CONFIG, SWEEP_RUNS, RunFolder
from iddmbench.results.summary import Condition, Summary
from iddmbench.track import TRACKERS
from iddmbench.track.base import Tracker
from iddmbench.track.record import Record
from iddmbench.track.tensorboard import FOLDER

runner = CliRunner()
UNDEFENDED, IDDM = Condition("none", None), Condition("iddm", 0.5)


@pytest.fixture(scope="module")
def drawn(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_outputs(shutil.copytree(finished_run, tmp_path_factory.mktemp("drawn") / "orl-iddm")).path


@pytest.fixture
def run(drawn: Path, tmp_path: Path) -> RunFolder:
    return RunFolder.open(shutil.copytree(drawn, tmp_path / "runs" / "orl-iddm"))


def test_a_record_holds_each_headline_figure_once(run: RunFolder) -> None:
    record, summary = Record.of(run), Summary(run)
    named = record.named()
    assert len(named) == len(record.figures)
    assert named["none/worst-case/r1u"] == summary.get(UNDEFENDED, "r1u", "worst-case").value
    assert named["iddm-0.50/dlib/psr@1e-2"] == summary.get(IDDM, "psr@1e-2", "dlib").value
    assert named["iddm-0.50/utility/utility_index"] == summary.get(IDDM, "utility_index").value
    assert named["iddm-0.50/dlib/ism"] == summary.get(IDDM, "ism", "dlib").value  # known under one policy only
    assert record.settings["lora.rank"] == 16 and record.settings["subjects"] == "s29, s30"
    assert set(record.pictures) == {"tradeoff", "contact_sheet"}
    assert set(record.chosen) == {"worst-case/r1u", "worst-case/psr@1e-2", "utility/utility_index"}
    table = record.table()
    row = table[(table.condition == "iddm-0.50") & (table.attacker == "dlib") & (table.metric == "r1u")].iloc[0]
    assert (row.low, row.high) == (summary.get(IDDM, "r1u", "dlib").low, summary.get(IDDM, "r1u", "dlib").high)


def test_no_path_is_told_and_photos_of_ones_own_stay_here(run: RunFolder) -> None:
    config = json.loads((run.path / CONFIG).read_text())
    config |= {"dataset": "folder", "dataset_options": {"root": "/home/ann/photos", "references": 3}}
    config |= {"base": "/home/ann/my-sd", "attackers": ["onnx:/home/ann/net.onnx", "dlib"], "personalizer": "own/name"}
    (run.path / CONFIG).write_text(json.dumps(config))
    record = Record.of(RunFolder.open(run.path))
    assert record.private and "/home" not in repr(record.settings)
    assert record.settings["dataset_options.references"] == 3 and record.settings["personalizer"] == "own/name"
    assert (record.settings["base"], record.settings["attackers"]) == ("my-sd", "onnx:net.onnx, dlib")
    sent = record.without_people()
    assert set(sent.pictures) == {"tradeoff"} and "s29" not in repr(sent.settings) and sent.figures == record.figures


def test_tensorboard_shows_settings_figures_and_pictures(run: RunFolder) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = runner.invoke(app, ["report", str(run.path), "--track", "tensorboard"])
    assert done.exit_code == 0 and f"tensorboard: {run.path / FOLDER}" in done.stdout, done.output
    TRACKERS["tensorboard"]().log(Record.of(run))  # logged again, it takes the place of the old one
    read = reader.EventAccumulator(str(run.path / FOLDER), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    read.Reload()
    tags, summary = read.Tags(), Summary(run)
    curve = {event.step: event.value for event in read.Scalars("iddm/worst-case/r1u")}
    assert curve == {
        round(100 * c.strength): pytest.approx(summary.get(c, "r1u", "worst-case").value)
        for c in summary.curve("iddm")
        if summary.get(c, "r1u", "worst-case")
    }
    assert [e.step for e in read.Scalars("none/dlib/psr_at_1e-2")] == [0]
    assert set(tags["images"]) == {"tradeoff", "contact_sheet"}
    sheet = read.Images("contact_sheet")[0]
    assert sheet.encoded_image_string.startswith(b"\x89PNG") and sheet.width > 100
    text = read.Tensors("figures/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| none | worst-case |" in text and "%" in text
    settings = read.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| lora.rank | 16 |" in settings
    assert "_hparams_/session_start_info" in read.summary_metadata  # the table of runs


def test_the_runs_of_a_sweep_are_one_group(drawn: Path, tmp_path: Path) -> None:
    from iddmbench.cli.sweep import _reports

    logged = []

    class Notebook(Tracker):
        name = package = "json"

        def _log(self, record: Record) -> str:
            logged.append((record.group, record.name))
            return ""

    for name in ("first", "second"):
        shutil.copytree(drawn, tmp_path / "orl-core" / SWEEP_RUNS / name)
    _reports(tmp_path / "orl-core", [Notebook()])
    assert logged == [("orl-core", "first"), ("orl-core", "second")]


def test_wandb_offline_keeps_the_run_in_its_folder(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": "", "WANDB_PROJECT": ""}.items():
        monkeypatch.setenv(name, value)
    assert "offline-run-" in TRACKERS["wandb"]().log(Record.of(run))
    wandb.teardown()  # as at the end of a process: its file is whole then
    (made,) = (run.path / "wandb").glob("offline-run-*")
    (file,) = made.glob("*.wandb")
    content = file.read_bytes()
    for part in (b"none/worst-case/r1u", b"lora.rank", b"contact_sheet"):
        assert part in content
    assert len(list((made / "files" / "media" / "images").glob("*.png"))) == 2


def test_wandb_without_a_login_is_one_line(run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    refused(runner.invoke(app, ["report", str(run.path), "--track", "wandb"]), "wandb login", "WANDB_MODE=offline")


def test_trackio_keeps_the_run_in_its_project(run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when the package is imported
    api = pytest.importorskip("trackio").Api()
    from trackio.sqlite_storage import SQLiteStorage

    record = Record.of(run)
    assert "trackio show" in TRACKERS["trackio"]().log(record)
    (found,) = api.runs("iddmbench")
    rows = SQLiteStorage.get_logs("iddmbench", "orl-iddm", run_id=found.id)
    logged = {name: value for row in rows for name, value in row.items() if name in record.named()}
    assert found.name == "orl-iddm" and found.config["lora.rank"] == 16 and logged == record.named()
    assert {"tradeoff", "contact_sheet", "figures"} <= {name for row in rows for name in row}


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize("command", [["run"], ["sweep", "smoke"], ["report"]])
def test_an_absent_package_is_one_line(
    name: str, command: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is computed. A package that `sys.modules` holds as None can't be found nor imported."""
    monkeypatch.setitem(sys.modules, TRACKERS[name].package, None)
    result = runner.invoke(app, [*command, "--track", name])
    refused(result, f"--track {name} needs the package {name}", f"pip install 'iddmbench[{name}]'")
    assert not list(here.iterdir())


def test_an_unknown_tracker_is_named(here: Path) -> None:
    refused(runner.invoke(app, ["run", "--track", "tensorbord"]), "did you mean 'tensorboard'?")
