"""The interface of executors, and what they are given."""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from iddmbench.environ import variables
from iddmbench.errors import one_line
from iddmbench.sweep.task import Task, TaskResult, WorkerSetting
from iddmbench.sweep.worker import work

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Function = Callable[[WorkerSetting, Task], TaskResult]


@dataclass(frozen=True)
class Resources:
    """What an executor may use.

    Attributes:
        workers: processes (Slurm: jobs) at a time. timeout: seconds for a task, None for no limit.
        folder: for an engine's own files. options: the engine's own (Ray's address, Slurm's partition ...).
        function: what is done with a task; another one to measure an executor by itself.
    """

    setting: WorkerSetting
    workers: int
    folder: Path
    timeout: float | None = None
    options: dict[str, str] = field(default_factory=dict)
    function: Function = work


class Executor(ABC):
    """Runs tasks somewhere. Use as a context manager; leaving it ends whatever still runs.

    Whatever becomes of a task or of its process is a result: nothing that a task does is raised here.

    Attributes:
        window: how many tasks may be in flight: enough to keep all workers busy.
    """

    window: int

    def __init__(self, resources: Resources):
        self.resources = resources
        self.setting, self.timeout = resources.setting, resources.timeout

    @abstractmethod
    def __enter__(self) -> "Executor": ...

    @abstractmethod
    def __exit__(self, *exception: object) -> None: ...

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand tasks over; returns at once."""

    @abstractmethod
    def wait(self, seconds: float) -> list[TaskResult]:
        """Results since the last call, at least one unless that many seconds pass."""

    def too_long(self, task: Task) -> TaskResult:
        return TaskResult(task, "failed", error=f"TimeoutError: took longer than {self.timeout:g} s (--timeout)")

    @staticmethod
    def died(task: Task, how: str) -> TaskResult:
        return TaskResult(task, "crashed", error=f"the worker process died ({how})")


def attempt(function: Function, setting: WorkerSetting, task: Task) -> TaskResult:
    """What a function makes of a task. What it raises becomes plain text here: not every exception can be sent."""
    try:
        return function(setting, task)
    except BaseException as error:  # sys.exit() included
        return TaskResult(task, "failed", error=one_line(error), traceback=traceback.format_exc())


def threads_of_children(threads: int) -> AbstractContextManager[None]:
    """Processes that start meanwhile use that many threads for numpy's and torch's sums."""
    return variables(dict.fromkeys(THREAD_VARIABLES, str(threads)))
