"""Slurm through submitit: an array of jobs, each with a chunk of the tasks.

`--executor-option KEY=VALUE` goes to submitit (`slurm_partition=gpu`, `timeout_min=600`, `mem_gb=32`), but `chunk=N` (tasks
of a job) and `cluster=local` (submitit's own processes on this machine, to try it without Slurm).
"""

import math
import time
from collections.abc import Sequence
from typing import Any

from iddmbench.errors import UserError
from iddmbench.sweep.executors.base import Executor, Resources
from iddmbench.sweep.task import Result, Setting, Task

CHUNK = 8
POLL = 1.0


class SlurmExecutor(Executor):
    def __init__(self, resources: Resources):
        super().__init__(resources)
        try:
            import submitit
        except ImportError as error:
            raise UserError("--executor slurm needs submitit: pip install 'iddmbench[slurm]'") from error
        self.submitit: Any = submitit
        options: dict[str, Any] = {key: _number(value) for key, value in resources.options.items()}
        # Slurm ends a job that runs too long, so a task with a limit has a job of its own.
        self.chunk = 1 if self.timeout else int(options.pop("chunk", CHUNK))
        self.cluster = options.pop("cluster", "slurm")
        self.options = options
        self.window = 1000 * self.chunk  # an array's size
        self._jobs: list[tuple[Any, list[Task]]] = []

    def __enter__(self) -> "SlurmExecutor":
        try:
            self._executor = self.submitit.AutoExecutor(self.resources.folder / "slurm", cluster=self.cluster)
        except RuntimeError as error:
            raise UserError(f"--executor slurm: {error}: run it where sbatch is") from error
        parameters: dict[str, Any] = {"name": "iddmbench", "cpus_per_task": self.setting.threads}
        if self.cluster == "slurm":
            parameters["slurm_array_parallelism"] = self.resources.workers
        if self.setting.devices != ("cpu",):
            parameters["gpus_per_node"] = 1
        if self.timeout:
            parameters["timeout_min"] = math.ceil(self.timeout / 60)
        try:
            self._executor.update_parameters(**{**parameters, **self.options})
        except (NameError, TypeError, ValueError) as error:
            raise UserError(f"--executor-option: {str(error).splitlines()[0]}") from error
        return self

    def __exit__(self, *exception: object) -> None:
        for job, _ in self._jobs:
            job.cancel()

    def submit(self, tasks: Sequence[Task]) -> None:
        chunks = [list(tasks[i : i + self.chunk]) for i in range(0, len(tasks), self.chunk)]
        if chunks:
            count = len(chunks)
            arguments = ([self.resources.function] * count, [self.setting] * count, chunks)
            self._jobs += zip(self._executor.map_array(_do, *arguments), chunks, strict=True)

    def wait(self, seconds: float) -> list[Result]:
        end = time.monotonic() + seconds
        while True:
            done = [(job, tasks) for job, tasks in self._jobs if job.done()]
            if done or time.monotonic() > end:
                break
            time.sleep(min(POLL, seconds))
        self._jobs = [pair for pair in self._jobs if pair not in done]
        return [result for job, tasks in done for result in self._results(job, tasks)]

    def _results(self, job: Any, tasks: list[Task]) -> list[Result]:
        try:
            return job.result()
        except Exception as error:  # submitit has no common class for a job that was killed, preempted or refused
            state = str(job.state)
            if "TIMEOUT" in state:
                return [self.too_long(task) for task in tasks]
            how = f"job {job.job_id}, {state}: {str(error).strip().splitlines()[0]}"
            return [self.died(task, how) for task in tasks]


def _do(function: Any, setting: Setting, tasks: list[Task]) -> list[Result]:
    return [function(setting, task) for task in tasks]


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
