"""What tests of executors have workers do: as little as possible, and everything that goes wrong.

A task's name says what happens in it. Every call is noted in the folder that the setting calls its cache.
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from threading import Lock

from iddmbench.sweep.task import Task, TaskResult, WorkerSetting


def slurm_answers() -> bool:
    """Whether the Slurm of tests/slurm/start-local.sh runs; no test sends jobs to another one."""
    if not shutil.which("sbatch"):
        return False
    try:
        told = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=10).stdout
    except subprocess.TimeoutExpired:
        return False
    return any(line.split() == ["ClusterName", "=", "iddmbench-tests"] for line in told.splitlines())


def tasks(*names: str) -> list[Task]:
    return [Task("cell", "run", name, index) for index, name in enumerate(names)]


def act(setting: WorkerSetting, task: Task) -> TaskResult:
    """ "ok", "sleep SECONDS", "raise", "exit", "hang", "die"; with -once, only when it is first called."""
    folder = Path(setting.cache)
    what, _, seconds = task.name.partition(" ")
    note = folder / f"{task.index} {os.getpid()} {time.time_ns()}"
    note.touch()
    lock = multiprocessing.RLock()  # a progress bar makes one; what is killed never gives it back
    if what.endswith("-once"):
        what = what.removesuffix("-once") if calls(folder)[task.index] == 1 else "ok"
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":

        class Unpicklable(Exception):
            def __init__(self) -> None:
                super().__init__("no luck\nsecond line")
                self.lock = Lock()

        raise Unpicklable
    if what == "exit":
        sys.exit(3)
    time.sleep({"hang": 3600.0, "sleep": float(seconds or 0)}.get(what, 0.0))
    (folder / f"{note.name}.end").write_text(str(time.time_ns()))
    del lock
    return TaskResult(task, "ok", seconds=1.0, worker=f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")


def calls(folder: Path) -> Counter[int]:
    """How often a task was begun, by index."""
    return Counter(int(path.name.split()[0]) for path in folder.iterdir() if path.suffix != ".end")


def processes(folder: Path) -> set[int]:
    """Of all that was begun."""
    return {int(path.name.split()[1]) for path in folder.iterdir()}


def most_at_a_time(folder: Path) -> int:
    """Of the tasks that finished."""
    moments = []
    for path in folder.glob("*.end"):
        moments += [(int(path.stem.split()[2]), 1), (int(path.read_text()), -1)]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def await_end(pids: set[int], seconds: float) -> set[int]:
    """The processes that are still there after that long."""
    end = time.monotonic() + seconds
    while (left := {pid for pid in pids if alive(pid)}) and time.monotonic() < end:
        time.sleep(0.1)
    return left
