"""The photos and cells of one run in several processes, for `iddmbench run`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from iddmbench.environ import free_threads
from iddmbench.errors import UserError
from iddmbench.run.outcome import CellResult
from iddmbench.run.pipeline import Pool
from iddmbench.run.plan import RunPlan
from iddmbench.sweep.driver import carry_out, outcome_of
from iddmbench.sweep.executors import Executor, make_executor
from iddmbench.sweep.executors.base import Resources
from iddmbench.sweep.task import Task, TaskResult, WorkerSetting

MOST = 8
"""Processes by default: each needs about a gigabyte."""


def processes(workers: int, threads: int, device: str) -> tuple[int, int]:
    """Processes that compute cells, and the CPU threads of each, as `run` was told; 0 is the default of either.

    By default a process of one thread on each idle core, at most eight: two processes of one thread are faster than one of
    two, and the bits don't depend on the number of cores. With threads given, and on a GPU, one process.

    Raises UserError for several workers on a GPU.
    """
    if workers < 0:
        raise UserError(f"workers {workers}: give a positive number, or 0 for one on each idle core")
    if device != "cpu":
        if workers > 1:
            raise UserError(f"{workers} workers on device '{device}': `iddmbench sweep` uses several GPUs")
        return 1, threads
    if workers == 0:
        workers = 1 if threads else min(free_threads(), MOST)
        threads = threads or 1
    return workers, threads or (1 if workers > 1 else 0)


def beside(workers: int, threads: int, cache: Path, out: Path) -> Pool | None:
    """What computes a run's photos and open cells in `workers` processes; None where there is nothing to share."""
    return None if workers == 1 else Processes(workers, threads, cache, out)


class Processes(Pool):
    """They start with the first part or cell, and end when the `with` block does. In between they keep what they have read."""

    def __init__(self, workers: int, threads: int, cache: Path, out: Path):
        self.workers, self.threads, self.cache, self.out = workers, threads, cache, out
        self._stack = ExitStack()
        self._executor: Executor | None = None

    def __exit__(self, *exception: object) -> None:
        self._executor = None
        self._stack.__exit__(*exception)  # type: ignore[arg-type]

    def photos(self, study: RunPlan, parts: Sequence[int]) -> None:
        # A part that fails fails again in this process, which says why.
        for _ in self._results(study, [Task("photos", self.out.name, f"photos {part}", part) for part in parts]):
            pass

    def simulated(self, study: RunPlan, cells: Sequence[int]) -> None:
        # One that fails fails again in this process, which says what it costs.
        for _ in self._results(study, [Task("simulation", self.out.name, f"simulated {i}", i) for i in cells]):
            pass

    def attacks(self, study: RunPlan, attacks: Mapping[int, str], missing: Sequence[int]) -> None:
        # As above.
        tasks = [Task("attack", self.out.name, f"attack {i}", i, key, tuple(missing)) for i, key in attacks.items()]
        for _ in self._results(study, tasks):
            pass

    def cells(self, study: RunPlan, cells: Sequence[int]) -> Iterator[tuple[int, CellResult]]:
        for result in self._results(study, [Task("cell", self.out.name, study.cells[i].name, i) for i in cells]):
            yield result.task.index, outcome_of(result, study)

    def _results(self, study: RunPlan, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        def executor() -> Executor:
            if self._executor is None:
                setting = WorkerSetting(
                    {self.out.name: study.config.model_dump(mode="json")}, str(self.cache.resolve()), self.threads
                )
                workers = min(self.workers, max(len(tasks), len(study.cells)))
                made = make_executor("local", Resources(setting, workers, self.out.resolve()))
                self._executor = self._stack.enter_context(made)
            return self._executor

        return carry_out(tasks, executor)
