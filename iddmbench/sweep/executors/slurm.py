"""Slurm through submitit: an array of jobs, each with a chunk of the tasks and one worker process.

`--executor-option KEY=VALUE` goes to submitit (`slurm_partition=gpu`, `timeout_min=600`, `mem_gb=32`), but `chunk=N` (most
tasks of a job), `jobs=N` (most jobs of an array) and `cluster=local` (submitit's own processes on this machine, to try it
without Slurm).

All jobs of a sweep's folder have one name. A killed driver's jobs go on and fill the cache; the next driver of the folder
cancels what is left of them before it submits its own, so nothing is computed twice and there are never more than --workers.
"""

import math
import os
import pickle
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from iddmbench.environ import variables
from iddmbench.errors import UserError
from iddmbench.store.cache import digest
from iddmbench.sweep.executors.base import Executor, Function, Resources
from iddmbench.sweep.executors.local import LocalExecutor
from iddmbench.sweep.task import Task, TaskResult, WorkerSetting

CHUNK, JOBS = 8, 1000
POLL = 0.5
LOOK = 15.0
"""Seconds between two looks into the queue, one question for all jobs. Results need none: they are files."""
PATIENCE = 15.0
"""Seconds in which the file of a job that has ended becomes visible, where file systems are slow."""
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}
GONE = "no longer in the queue"
GIVEN = "given.pkl"
YEAR = 365 * 24 * 60


class SlurmExecutor(Executor):
    def __init__(self, resources: Resources):
        super().__init__(resources)
        try:
            import submitit
        except ImportError as error:
            raise UserError("--executor slurm needs submitit: pip install 'iddmbench[slurm]'") from error
        self.submitit: Any = submitit
        options: dict[str, Any] = {
            key.removeprefix("slurm_"): _number(value) for key, value in resources.options.items()
        }
        self.chunk, self.most = (_count(options, key, default) for key, default in (("chunk", CHUNK), ("jobs", JOBS)))
        self.cluster = options.pop("cluster", "slurm")
        for key in ("name", "job_name", "array_parallelism"):
            if key in options:
                raise UserError(f"--executor-option {key}: the sweep sets this itself")
        if "timeout_min" in options and self.cluster == "slurm":
            options["time"] = options.pop("timeout_min")
        if "mem_gb" in options:
            options["mem"] = f"{math.ceil(1024 * float(options.pop('mem_gb')))}M"
        self.options = options
        # Submitit's own processes all run at once.
        self._full = self.chunk * (resources.workers if self.cluster == "local" else self.most)
        self.window = self._full
        self.name = f"iddmbench-{digest(str(resources.folder))[:8]}"
        self._jobs: dict[str, tuple[Any, list[Task]]] = {}
        self._suspects: set[Task] = set()
        self._looked = 0.0
        self._ended: dict[str, tuple[str, float]] = {}
        self._keep = False

    def __enter__(self) -> "SlurmExecutor":
        kinds = {"slurm": self.submitit.SlurmExecutor, "local": self.submitit.LocalExecutor}
        if self.cluster not in kinds:
            raise UserError(f"--executor-option cluster={self.cluster}: choose from {', '.join(kinds)}")
        self.folder = self.resources.folder / "slurm" / uuid.uuid4().hex[:12]
        try:
            self._executor = kinds[self.cluster](self.folder)
        except RuntimeError as error:
            raise UserError(f"--executor slurm: {error}: run it where sbatch is available") from error
        self.folder.mkdir(parents=True, exist_ok=True)
        # Beside the jobs, not in each of them: a sweep of many runs is long.
        given = (self.resources.function, self.setting, self.timeout)
        (self.folder / GIVEN).write_bytes(pickle.dumps(given))
        try:
            self._executor.update_parameters(**self._parameters() | self.options)
        except (NameError, TypeError, ValueError, AssertionError) as error:
            raise UserError(f"--executor-option: {' '.join(str(error).split())[:500]}") from error
        self._cancel()
        return self

    def _parameters(self) -> dict[str, Any]:
        if self.cluster == "local":
            return {"timeout_min": YEAR}
        parameters = {
            "job_name": self.name,
            "cpus_per_task": self.setting.threads,
            "array_parallelism": self.resources.workers,
            "time": None,  # the partition's own limit; submitit's would be 5 minutes
            "use_srun": False,  # a step would not know the number of cores since Slurm 22.05
        }
        if self.setting.devices != ("cpu",) and not any("gpu" in key or "gres" in key for key in self.options):
            parameters["gpus_per_node"] = 1
        return parameters

    def __exit__(self, *exception: object) -> None:
        if self._jobs:
            self._cancel()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.folder.parent.rmdir()

    def submit(self, tasks: Sequence[Task]) -> None:
        chunks = self._chunks(tasks)
        if not chunks:
            return
        try:
            with _outside_of_any_job():
                jobs = self._executor.map_array(_do, [str(self.folder)] * len(chunks), chunks)
        except (self.submitit.core.utils.FailedJobError, OSError) as error:
            lines = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error)]
            raise UserError(f"sbatch: {lines[0].strip()}") from error
        self._jobs |= {job.job_id: (job, chunk) for job, chunk in zip(jobs, chunks, strict=True)}
        self.window = 0  # one array after the other: its limit on jobs at a time is of its own jobs
        self._looked = time.monotonic()

    def _chunks(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Tasks by job. One whose job died is alone: what became of the others is not its fault."""
        fresh = [task for task in tasks if task not in self._suspects]
        size = max(1, min(self.chunk, math.ceil(len(fresh) / self.resources.workers)))
        alone = [[task] for task in tasks if task in self._suspects]
        return alone + [fresh[i : i + size] for i in range(0, len(fresh), size)]

    def wait(self, seconds: float) -> list[TaskResult]:
        end = time.monotonic() + seconds
        while not (done := self._finished()) and time.monotonic() < end:
            time.sleep(min(POLL, seconds))
        results = [result for name in done for result in self._results(*self._jobs.pop(name))]
        if not self._jobs:
            self.window = self._full
        return results

    # ---- what became of the jobs ------------------------------------------------------------------------------------

    def _finished(self) -> list[str]:
        if self.cluster == "local":
            return [name for name, (job, _) in self._jobs.items() if job.done()]
        with suppress(OSError):
            self.folder.chmod(self.folder.stat().st_mode)  # a network file system looks anew then
        files = {path.name for path in self.folder.iterdir()}
        done = [name for name, (job, _) in self._jobs.items() if job.paths.result_pickle.name in files]
        if not done and self._jobs and time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            states = self._queue()
            for name in self._jobs if states is not None else ():
                state = (states or {}).get(name, GONE)
                if state not in ENDED and state != GONE:
                    self._ended.pop(name, None)
                elif name not in self._ended:
                    self._ended[name] = state, time.monotonic()
        overdue = time.monotonic() - PATIENCE
        return done or [name for name in self._jobs if self._ended.get(name, ("", math.inf))[1] < overdue]

    def _queue(self) -> dict[str, str] | None:
        """State by job; None where Slurm does not answer. Without accounting it knows ended jobs for some minutes."""
        command = ["squeue", "--noheader", "--array", "--states=all", "--all", "--format=%i %T", *self._whose]
        try:
            output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        except (OSError, subprocess.SubprocessError):
            return None
        return dict(line.split(maxsplit=1) for line in map(str.strip, output.splitlines()) if " " in line)

    @property
    def _whose(self) -> list[str]:
        return [f"--user={os.getuid()}", f"--name={self.name}"]

    def _cancel(self) -> None:
        """All jobs of this folder, those of a driver that was killed too."""
        if self.cluster == "local":
            for job, _ in self._jobs.values():
                job.cancel()
            return
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", *self._whose], capture_output=True, timeout=60)

    def _results(self, job: Any, tasks: list[Task]) -> list[TaskResult]:
        if job.paths.result_pickle.exists():
            outcome, value = self.submitit.core.utils.pickle_load(job.paths.result_pickle)
            if outcome == "success":
                for path in (job.paths.submitted_pickle, job.paths.result_pickle, job.paths.stdout, job.paths.stderr):
                    path.unlink(missing_ok=True)
                return value
            how = str(value).strip().splitlines()[-1]
        else:
            how, _ = self._ended.get(job.job_id, ("no result", 0.0))
            if how in ("FAILED", "COMPLETED", GONE):
                how = f"{how}: {_last_line(job.paths.stderr)}".removesuffix(": ")
        self._keep = True
        self._suspects.update(tasks)
        return [self.died(task, f"job {job.job_id}, {how}; see {job.paths.stderr}") for task in tasks]


def _do(folder: str, tasks: list[Task]) -> list[TaskResult]:
    """A job: its tasks one after another in a process of their own, which may die or hang."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit ignores it, and a cancelled job would stay
    function: Function
    setting: WorkerSetting
    function, setting, timeout = pickle.loads((Path(folder) / GIVEN).read_bytes())
    results: list[TaskResult] = []
    with LocalExecutor(Resources(setting, 1, Path(folder), timeout, function=function)) as executor:
        executor.submit(tasks)
        while len(results) < len(tasks):
            results += executor.wait(60.0)
    return results


def _outside_of_any_job() -> AbstractContextManager[None]:
    """A driver may be a job itself, whose variables sbatch would take for the new jobs' settings."""
    inherited = [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]
    return variables(dict.fromkeys(inherited) if "SLURM_JOB_ID" in inherited else {})


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""


def _count(options: dict[str, Any], key: str, default: int) -> int:
    value = options.pop(key, default)
    if not isinstance(value, int) or value < 1:
        raise UserError(f"--executor-option {key}={value}: give a positive number")
    return value


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
