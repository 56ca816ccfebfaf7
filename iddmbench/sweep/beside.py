"""The cells of one run in several processes, for `iddmbench run`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from iddmbench.environ import free_threads
from iddmbench.errors import UserError
from iddmbench.run.outcome import CellResult
from iddmbench.run.pipeline import Pool
from iddmbench.run.plan import RunPlan
from iddmbench.sweep.driver import carry_out, outcome_of
from iddmbench.sweep.executors import make_executor
from iddmbench.sweep.executors.base import Resources
from iddmbench.sweep.task import Task, WorkerSetting

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
    """What computes a run's open cells in `workers` processes; None where there is nothing to share."""
    if workers == 1:
        return None

    def compute(study: RunPlan, cells: Sequence[int]) -> Iterator[tuple[int, CellResult]]:
        setting = WorkerSetting({out.name: study.config.model_dump(mode="json")}, str(cache.resolve()), threads)
        tasks = [Task("cell", out.name, study.cells[i].name, i) for i in cells]
        resources = Resources(setting, min(workers, len(tasks)), out.resolve())
        with make_executor("local", resources) as executor:
            for result in carry_out(tasks, lambda: executor):
                yield result.task.index, outcome_of(result, study)

    return compute
