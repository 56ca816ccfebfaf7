"""A real Slurm: what becomes of jobs that are cancelled, and of those whose driver was killed. tests/slurm starts one."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from executor_tasks import act, alive, await_end, calls, processes, slurm_answers, tasks

from iddmbench.errors import UserError
from iddmbench.sweep.executors import slurm
from iddmbench.sweep.executors.base import Resources
from iddmbench.sweep.executors.slurm import SlurmExecutor
from iddmbench.sweep.task import TaskResult, WorkerSetting

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(not slurm_answers(), reason="no Slurm: eval $(tests/slurm/start-local.sh)")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    monkeypatch.setattr(slurm, "LOOK", 1.0)
    monkeypatch.setattr(slurm, "PATIENCE", 1.0)


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """Where tasks note their calls."""
    folder = tmp_path / "calls"
    folder.mkdir()
    return folder


def executor(noted: Path, workers: int = 2, **options: str) -> SlurmExecutor:
    return SlurmExecutor(Resources(WorkerSetting({}, str(noted)), workers, noted.parent, None, options, act))


def queue(name: str) -> dict[str, str]:
    """State of the jobs of that name that have not ended."""
    command = ["squeue", "--noheader", "--array", f"--name={name}", "--format=%i %T"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {job: state for job, state in map(str.split, lines) if state != "COMPLETING"}


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 180
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)


def collect(engine: SlurmExecutor, count: int) -> list[TaskResult]:
    results: list[TaskResult] = []
    end = time.monotonic() + 180
    while len(results) < count:
        assert time.monotonic() < end
        results += engine.wait(1.0)
    return sorted(results, key=lambda result: result.task.index)


def test_tasks_of_a_cancelled_job_are_tried_again_each_alone(noted: Path) -> None:
    wanted = tasks("ok", "hang-once", "ok", "ok")
    with executor(noted, workers=1) as engine:
        engine.submit(wanted)
        assert len(queue(engine.name)) == 1
        until(lambda: len(calls(noted)) == 2)
        subprocess.run(["scancel", *queue(engine.name)], check=True)
        lost = collect(engine, 4)
        assert [result.status for result in lost] == ["crashed"] * 4
        assert all("CANCELLED" in result.error for result in lost)
        engine.submit(wanted)
        assert len(queue(engine.name)) == 4
        assert [result.status for result in collect(engine, 4)] == ["ok"] * 4
    assert calls(noted) == {0: 2, 1: 2, 2: 1, 3: 1}
    # The log of the job that was cancelled is kept, and no other.
    assert len(list((noted.parent / "slurm").glob("*/*_log.err"))) == 1


def test_a_killed_drivers_jobs_go_on_until_the_next_driver(noted: Path) -> None:
    names = ["sleep 300", "sleep 300", "ok"]
    first = subprocess.Popen(
        [sys.executable, str(HERE / "executor_driver.py"), "slurm", str(noted.parent), "2", *names],
        env={**os.environ, "OPTIONS": "chunk=1"},
    )
    until(lambda: len(calls(noted)) == 2)
    first.kill()
    first.wait()
    before = processes(noted)
    time.sleep(2)
    assert all(map(alive, before))
    with executor(noted, chunk="1") as engine:
        assert len(queue(engine.name)) <= 1  # the third, until Slurm has noticed
        assert await_end(before, 30) == set()
        engine.submit(tasks("ok", "ok", "ok"))
        assert [result.status for result in collect(engine, 3)] == ["ok"] * 3
    until(lambda: queue(engine.name) == {})
    assert calls(noted) == {0: 2, 1: 2, 2: 1}


def test_results_are_found_while_slurm_does_not_answer(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with executor(noted) as engine:
        engine.submit(tasks("sleep 5", "sleep 5"))
        with monkeypatch.context() as patch:
            patch.setenv("PATH", "/nonexistent")
            assert engine._queue() is None
            assert [result.status for result in collect(engine, 2)] == ["ok"] * 2


def test_a_refusal_is_one_line(noted: Path) -> None:
    with (
        executor(noted, partition="nosuch") as engine,
        pytest.raises(UserError, match=r"^sbatch: .*artition") as caught,
    ):
        engine.submit(tasks("ok"))
    assert "\n" not in str(caught.value)


def test_a_job_that_can_not_even_start_says_why(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (noted.parent / "submitit.py").write_text("raise ImportError('not installed on this node')\n")
    with executor(noted) as engine:
        monkeypatch.setenv("PYTHONPATH", str(noted.parent))
        engine.submit(tasks("ok"))
        (result,) = collect(engine, 1)
    assert result.status == "crashed"
    assert "FAILED: ImportError: not installed on this node; see /" in result.error


def test_a_driver_may_be_a_job_itself(noted: Path) -> None:
    """What Slurm tells the driver about its own job is not taken for settings of the others."""
    command = [sys.executable, str(HERE / "executor_driver.py"), "slurm", str(noted.parent), "1", "ok"]
    # A job that is in no array keeps these, and submitit would look for its task under another number.
    env = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.stdout == "0 ok \n", done.stderr
