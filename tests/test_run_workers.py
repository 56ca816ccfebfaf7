"""`iddmbench run --workers`: cells in other processes, the same bits as in this one."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tiny_base import write_base
from typer.testing import CliRunner

from iddmbench.attackers.lbph import LBPH
from iddmbench.cli import app
from iddmbench.datasets.orl import ORL
from iddmbench.errors import UserError
from iddmbench.linking.score import Scoring
from iddmbench.results.run_folder import table_file
from iddmbench.run.config import RunConfig
from iddmbench.run.photos import look, open_parts
from iddmbench.run.plan import RunPlan, choose, with_enough_people
from iddmbench.sweep import beside
from iddmbench.sweep.beside import processes
from iddmbench.sweep.executors.base import Function, Resources, attempt
from iddmbench.sweep.executors.local import LocalExecutor, _context
from iddmbench.sweep.task import WorkerSetting
from iddmbench.sweep.worker import work


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    command = ["run", "--dataset", "orl", "--base", str(base), "--subjects", "2", "--defense", "random-noise"]
    command += [
        "--strength",
        "1",
        "--attacker",
        "lbph",
        "--images-per-prompt",
        "1",
        "--prompt",
        "a photo of sks person",
    ]
    command += ["--lora", "steps=2", "--lora", "class_images=2", "--sampling", "steps=2", "--threads", "1"]
    for workers in ("1", "2"):
        place = ["--out", str(tmp_path / workers), "--cache", str(tmp_path / f"cache-{workers}"), "--workers", workers]
        done = CliRunner().invoke(app, [*command, *place])
        assert done.exit_code == 0, done.output
    images = [sorted((tmp_path / workers / "images").rglob("*.png")) for workers in ("1", "2")]
    assert len(images[0]) == 3 * 2  # none, generic and random-noise, of two people
    assert [path.read_bytes() for path in images[0]] == [path.read_bytes() for path in images[1]]
    one, two = (pd.read_parquet(tmp_path / workers / table_file("summary")) for workers in ("1", "2"))
    pd.testing.assert_frame_equal(one, two)


def test_photos_are_looked_at_in_parts_that_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(
        dataset="orl", base=str(write_base(tmp_path / "base")), subjects=1, defenses=("none",), attackers=("lbph",)
    )
    plan = RunPlan.of(config, tmp_path / "cache")
    scoring = Scoring.of(plan.stages, config.attackers, plan.cells)
    parts = open_parts(scoring)
    assert parts[0] == 0 and len(parts) > 3, "what utility knows of public people takes longest"
    assert not any(look(scoring, part) for part in parts[1:])
    assert open_parts(scoring) == [0] and look(scoring, parts[1])

    def unseen(*_: object) -> None:
        raise AssertionError("a photo that was in no part")

    monkeypatch.setattr(LBPH, "_embed", unseen)
    assert len(scoring.linkers["lbph"].public) == len(plan.stages.data.public)
    scoring.premise()
    monkeypatch.setattr(LBPH, "refusal", lambda self, dataset: "no")
    assert open_parts(scoring) == [], "nothing is computed for a run that will be refused"


def test_workers_are_forked_from_a_loaded_process_only_where_that_is_safe(tmp_path: Path) -> None:
    def start(threads: int = 1, devices: tuple[str, ...] = ("cpu",), function: Function = work) -> str:
        setting = WorkerSetting({}, "", threads, devices)
        return _context(Resources(setting, 1, tmp_path, function=function)).get_start_method()

    assert start() == ("forkserver" if sys.platform == "linux" else "spawn")
    assert start(threads=2) == start(devices=("cuda:0",)) == start(function=attempt) == "spawn"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forked on Linux alone")
def test_forked_workers_have_the_drivers_environment_and_had_no_thread_to_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("first", "second"):
        monkeypatch.setenv("WORD", value)
        with LocalExecutor(Resources(WorkerSetting({}, ""), 1, tmp_path)) as executor:
            assert executor._pool.schedule(os.getenv, args=("WORD",)).result() == value
            server = executor._pool.schedule(os.getppid).result()
            loaded = executor._pool.schedule(_is_loaded, args=("diffusers",)).result()
        assert loaded and len(list(Path(f"/proc/{server}/task").iterdir())) == 1


def _is_loaded(module: str) -> bool:
    return module in sys.modules


def test_by_default_each_idle_core_has_a_process_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "free_threads", lambda: 3)
    assert processes(0, 0, "cpu") == (3, 1)
    assert processes(0, 4, "cpu") == (1, 4), "who gives threads wants them in one process"
    assert processes(2, 4, "cpu") == (2, 4)
    assert processes(1, 0, "cpu") == (1, 0), "0 threads: the idle cores, as set_up_torch has it"
    assert processes(0, 0, "cuda") == (1, 0)
    monkeypatch.setattr(beside, "free_threads", lambda: 64)
    assert processes(0, 0, "cpu") == (8, 1)


def test_numbers_of_workers_that_make_no_sense() -> None:
    with pytest.raises(UserError, match="workers -1"):
        processes(-1, 0, "cpu")
    with pytest.raises(UserError, match=r"2 workers on device 'cuda:0': `iddmbench sweep`"):
        processes(2, 0, "cuda:0")


def test_by_default_four_people_and_of_fewer_all() -> None:
    config = RunConfig(dataset="orl")
    data = ORL().load()
    assert [s.name for s in choose(data, config.subjects)] == ["s29", "s30", "s31", "s32"]
    two = replace(data, subjects=data.subjects[:2])
    assert [s.name for s in choose(two, config.subjects)] == ["s29", "s30"]
    plain = ("dlib", "sface", "faceres", "lbph:part=inner", "gabor")
    assert with_enough_people(config, 3).attackers == (*plain, "finetune:sface")
    assert with_enough_people(config, 2).attackers == plain, "two are too few to learn on"
    asked = RunConfig(attackers=("finetune:sface",))
    assert with_enough_people(asked, 2) == asked, "what was asked for is not left out in silence"


def test_the_base_follows_the_dataset() -> None:
    assert RunConfig(dataset="orl").base == RunConfig(dataset="orl", base="").base == "micro"
    assert RunConfig(dataset="synthetic").base == "micro-rgb"
    assert RunConfig(dataset="synthetic", base="sd15").base == "sd15"
