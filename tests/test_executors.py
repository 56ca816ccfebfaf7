"""Every executor: what becomes of tasks that raise, die or hang, what is left when the driver ends, and equal results."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from executor_tasks import act, alive, await_end, calls, most_at_a_time, processes, slurm_answers, tasks
from lab_plugins import install
from sweep_env import environment, install_package, know_plugins, sweep_of
from tiny_base import write_base

from iddmbench.errors import UserError
from iddmbench.results.run_folder import SWEEP_RUNS as RUNS
from iddmbench.results.run_folder import TABLES, table_file
from iddmbench.run import pipeline
from iddmbench.sweep.config import Sweep, load_sweep
from iddmbench.sweep.driver import Watch, carry_out, run_sweep
from iddmbench.sweep.executors import make_executor
from iddmbench.sweep.executors.base import Executor, Resources
from iddmbench.sweep.plan import make_plan
from iddmbench.sweep.task import TaskResult, WorkerSetting

HERE = Path(__file__).parent
ENGINES: dict[str, tuple[str, dict[str, str]]] = {
    "local": ("local", {}),
    "ray": ("ray", {}),
    "submitit": ("slurm", {"cluster": "local"}),
    "slurm": ("slurm", {}),
}
"""Executor and options: also the one for Slurm with submitit's own processes."""
EACH = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "slurm" and not slurm_answers(), reason="no Slurm: eval $(tests/slurm/start-local.sh)"
        ),
    )
    for name in ENGINES
]
HANG = 4.0
"""Seconds after which the tests' hanging tasks are ended."""


@pytest.fixture(scope="module", autouse=True)
def workers_find_the_tasks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        yield


def engine(name: str, folder: Path, workers: int = 2, timeout: float | None = None, **options: str) -> Executor:
    calls_folder = folder / "calls"
    calls_folder.mkdir(parents=True, exist_ok=True)
    executor, usual = ENGINES[name]
    setting = WorkerSetting({}, str(calls_folder))
    return make_executor(executor, Resources(setting, workers, folder, timeout, usual | options, act))


def do(executor: Executor, *names: str) -> dict[int, TaskResult]:
    """Results by index; there is one for each."""
    with executor:
        results = list(carry_out(tasks(*names), lambda: executor))
    assert sorted(result.task.index for result in results) == list(range(len(names)))
    return {result.task.index: result for result in results}


# ---- tasks that go wrong -------------------------------------------------------------------------------------------------

TROUBLE = ("sleep 2", "ok", "raise", "exit", "ok", "sleep 2", "sleep 1", "hang", "die", "die-once", "ok", "ok")


@pytest.fixture(scope="module", params=EACH)
def troubled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[int, TaskResult]]:
    folder = tmp_path_factory.mktemp(request.param)
    return folder, do(engine(request.param, folder, timeout=HANG), *TROUBLE)


def test_the_others_go_on(troubled: tuple[Path, dict[int, TaskResult]]) -> None:
    _, results = troubled
    failed = {"raise", "exit", "hang", "die"}
    assert [results[i].status for i in range(len(TROUBLE))] == ["failed" if n in failed else "ok" for n in TROUBLE]


def test_an_error_says_what_happened(troubled: tuple[Path, dict[int, TaskResult]]) -> None:
    _, results = troubled
    error = {name: results[i].error for i, name in enumerate(TROUBLE)}
    assert error["raise"] == "Unpicklable: no luck"
    assert "raise Unpicklable" in results[TROUBLE.index("raise")].traceback
    assert error["exit"] == "SystemExit: 3"
    assert error["hang"] == f"TimeoutError: took longer than {HANG:g} s (--timeout)"
    assert error["die"].startswith("the worker process died (")
    assert not error["die-once"]


def test_only_a_task_whose_process_died_is_tried_again(troubled: tuple[Path, dict[int, TaskResult]]) -> None:
    folder, _ = troubled
    assert calls(folder / "calls") == {i: 2 if name.startswith("die") else 1 for i, name in enumerate(TROUBLE)}


def test_workers_have_the_threads_they_are_given(troubled: tuple[Path, dict[int, TaskResult]]) -> None:
    _, results = troubled
    assert {result.worker.split()[1] for result in results.values() if result.status == "ok"} == {"1"}


def test_there_are_never_more_at_a_time_than_workers(troubled: tuple[Path, dict[int, TaskResult]]) -> None:
    folder, _ = troubled
    assert most_at_a_time(folder / "calls") == 2


def test_nothing_is_left_of_them(troubled: tuple[Path, dict[int, TaskResult]]) -> None:
    folder, _ = troubled
    assert await_end(processes(folder / "calls"), 5) == set()
    assert [path.name for path in folder.iterdir()] == ["calls"]


def test_a_pool_whose_idle_worker_was_killed_starts_anew(tmp_path: Path) -> None:
    with engine("local", tmp_path, workers=1) as executor:
        (first,) = carry_out(tasks("ok"), lambda: executor)
        os.kill(int(first.worker.split()[0]), signal.SIGKILL)
        time.sleep(1)
        results = list(carry_out(tasks("ok", "ok"), lambda: executor))
    assert [result.status for result in results] == ["ok", "ok"]
    assert first.worker not in {result.worker for result in results}


# ---- the driver's end ----------------------------------------------------------------------------------------------------


def start_driver(name: str, folder: Path, *names: str) -> "subprocess.Popen[str]":
    """A driver in a process group of its own, once its workers are at their tasks."""
    executor, options = ENGINES[name]
    driver = subprocess.Popen(
        [sys.executable, str(HERE / "executor_driver.py"), executor, str(folder), "2", *names],
        env={**os.environ, "OPTIONS": " ".join(f"{key}={value}" for key, value in options.items())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    noted, end = folder / "calls", time.monotonic() + 90
    while not noted.is_dir() or len(list(noted.iterdir())) < 2:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.1)
    return driver


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("to", ["group", "driver"])
def test_an_interrupted_driver_leaves_no_process(name: str, to: str, tmp_path: Path) -> None:
    """Ctrl-C in a terminal goes to the whole group, `kill -INT` to the driver alone."""
    driver = start_driver(name, tmp_path, "hang", "hang", "hang")
    workers = processes(tmp_path / "calls")
    (os.killpg if to == "group" else os.kill)(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert (driver.returncode, out) == (130, "")
    assert not err or name == "submitit"  # submitit's own processes say that they were interrupted
    assert await_end(workers, 10) == set()
    assert list(calls(tmp_path / "calls").values()) == [1, 1]


def test_python_reports_nothing_of_what_killed_workers_left(tmp_path: Path) -> None:
    driver = [sys.executable, str(HERE / "executor_driver.py"), "local", str(tmp_path), "1", "die", "ok"]
    done = subprocess.run(driver, capture_output=True, text=True, timeout=60)
    assert "0 crashed" in done.stdout and "1 ok" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["local", "ray"])
def test_workers_end_soon_after_a_killed_driver(name: str, tmp_path: Path) -> None:
    driver = start_driver(name, tmp_path, "hang", "hang", "hang")
    workers = processes(tmp_path / "calls")
    assert all(map(alive, workers))
    driver.kill()
    driver.communicate()
    assert await_end(workers, 10) == set()


# ---- Ray's addresses and other options -----------------------------------------------------------------------------------


def test_an_address_where_nothing_listens_is_one_line_soon(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(UserError, match=f"^Ray can't be reached at {address}: .*refused") as caught:
            engine("ray", tmp_path, address=address).__enter__()
    assert time.monotonic() - start < 10 and "\n" not in str(caught.value)


LOCAL_RAY = """
import json, sys
from pathlib import Path
from executor_tasks import act, tasks
from iddmbench.sweep.executors import make_executor
from iddmbench.sweep.executors.base import Resources
from iddmbench.sweep.task import WorkerSetting

folder = Path(sys.argv[1])
with make_executor("ray", Resources(WorkerSetting({}, str(folder)), 2, folder, function=act)) as executor:
    import ray
    try:
        from ray._common.usage import usage_lib
    except ImportError:  # before 2.49
        from ray._private.usage import usage_lib
    executor.submit(tasks(*["ok"] * 20))
    left = 20
    while left:
        left -= len(executor.wait(1.0))
    print(json.dumps({
        "addresses": [node["NodeManagerAddress"] for node in ray.nodes()],
        "cpus": ray.cluster_resources()["CPU"],
        "store used": ray.cluster_resources()["object_store_memory"] - ray.available_resources()["object_store_memory"],
        "reports": usage_lib.usage_stats_enabled(),
    }))
"""


def test_a_local_ray_is_for_this_machine_alone_and_reports_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOCAL_RAY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"addresses": ["127.0.0.1"], "cpus": 2, "store used": 0, "reports": False}


def test_a_cluster_by_its_address_outlives_the_sweep(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"OPTIONS": f"address=127.0.0.1:{port}", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid4().hex}
    env = {**os.environ, **options, "RAY_USAGE_STATS_ENABLED": "0"}
    start = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, *start, "--include-dashboard", "false"], env=env, stdout=subprocess.DEVNULL
    ) as head:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert head.poll() is None
                time.sleep(0.2)
            names = ["sleep 1"] * 5 + ["die-once", "raise"]
            driver = [sys.executable, str(HERE / "executor_driver.py"), "ray", str(tmp_path), "3", *names]
            done = subprocess.run(driver, env=env, capture_output=True, text=True, timeout=90)
            assert done.returncode == 0, done.stderr
            lines = sorted(line.rstrip() for line in done.stdout.splitlines() if line[0].isdigit())
            died = "5 crashed the worker process died (ActorDiedError: The actor died unexpectedly before finishing this task.)"
            assert lines == [f"{i} ok" for i in range(5)] + [died, "6 failed Unpicklable: no luck"]
            assert most_at_a_time(tmp_path / "calls") == 2  # three workers were wanted, and the cluster has two cores
            assert await_end(processes(tmp_path / "calls"), 10) == set()
            assert head.poll() is None
        finally:
            head.terminate()


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("ray", {"port": "1"}, "--executor-option port: ray takes only address"),
        ("submitit", {"cluster": "lokal"}, "--executor-option cluster=lokal: choose from slurm, local"),
        ("submitit", {"chunk": "0"}, "--executor-option chunk=0: give a positive number"),
        ("submitit", {"slurm_job_name": "x"}, "--executor-option job_name: the sweep sets this itself"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        engine(name, tmp_path, **options).__enter__()


# ---- equal results -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    folder = tmp_path_factory.mktemp("sweep")
    content = sweep_of(write_base(folder / "base"))
    (folder / "quick.yaml").write_text(yaml.safe_dump(content))
    package = install_package(folder / "package")
    with pytest.MonkeyPatch.context() as patch:
        know_plugins(patch, package)
        install(patch)
        for name, value in environment(package, folder / "unused").items():
            patch.setenv(name, value)
        yield load_sweep(str(folder / "quick.yaml"))


@pytest.fixture(scope="module")
def inline(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each run by itself, in this process."""
    folder = tmp_path_factory.mktemp("inline")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        failed = [pipeline.run(config, folder / RUNS / run, folder / "cache") for run, config in sweep.runs.items()]
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    assert failed == [0] * len(sweep.runs)
    return folder


@pytest.mark.parametrize("name", EACH)
def test_every_executor_computes_what_a_run_computes(name: str, sweep: Sweep, inline: Path, tmp_path: Path) -> None:
    if name == "submitit" and slurm_answers():
        pytest.skip("Slurm itself is here")
    assert_same_runs(swept(name, sweep, tmp_path), inline)


def swept(name: str, sweep: Sweep, folder: Path) -> Path:
    """A sweep's folder, computed from nothing by two workers."""
    runs = {run: config.model_dump(mode="json") for run, config in sweep.runs.items()}
    setting = WorkerSetting(runs, str(folder / "cache"), 1, ("cpu",))
    executor, options = ENGINES[name]
    resources = Resources(setting, 2, folder, None, options)
    plan = make_plan(sweep, folder / "cache")
    assert plan.cached == 0 and plan.first
    assert run_sweep(sweep, plan, folder, lambda: make_executor(executor, resources), Watch()) == 0
    return folder


def assert_same_runs(one: Path, other: Path) -> None:
    """Tables bit for bit, but for times and what was cached; images byte for byte."""
    names = sorted(path.name for path in (one / RUNS).iterdir())
    assert names == sorted(path.name for path in (other / RUNS).iterdir())
    for name in names:
        for table in TABLES:
            ours, theirs = (stable(folder / RUNS / name / table_file(table)) for folder in (one, other))
            assert len(ours) or table == "demographics", table  # which the tiny people have no attributes for
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
        ours, theirs = (images(folder / RUNS / name) for folder in (one, other))
        assert ours and ours == theirs


def stable(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    told = [c for c in table if c == "cached" or c.startswith(("seconds", "peak"))]
    return table.drop(columns=told)


def images(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.png")}


def test_the_comparison_sees_one_bit_and_one_byte(inline: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(inline, copy, ignore=shutil.ignore_patterns("cache"))
    assert_same_runs(copy, inline)
    run = next((copy / RUNS).iterdir())
    path = run / table_file("summary")
    table = pd.read_parquet(path)
    column = next(c for c in stable(path) if table[c].dtype == np.float64 and table[c].notna().any())
    row = table[column].first_valid_index()
    before = table[column].copy()
    table.loc[row, column] = np.nextafter(table.loc[row, column], np.inf)
    table.to_parquet(path)
    with pytest.raises(AssertionError):
        assert_same_runs(copy, inline)
    table[column] = before
    table.to_parquet(path)
    picture = next(run.rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    with pytest.raises(AssertionError):
        assert_same_runs(copy, inline)
