"""What a worker process does with a task. It keeps base models and galleries between tasks."""

import os
import platform
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from iddmbench.environ import give_back_memory
from iddmbench.errors import UserError, first_line, one_line
from iddmbench.sweep.task import Task, TaskResult, WorkerSetting

if TYPE_CHECKING:
    from iddmbench.run.plan import ResourceCache

STUDIES = 2
"""Runs whose base model and galleries a worker keeps: tasks come run by run, so more would only fill the memory."""

_held: dict[str, FileLock] = {}
"""Devices on which this process has a place."""


def work(setting: WorkerSetting, task: Task) -> TaskResult:
    """Do a task. What it raises is in the result; nothing but the death of the process gets out."""
    from iddmbench.store.cache import stops

    start = time.perf_counter()
    worker = f"{os.getpid()}@{platform.node()}"
    try:
        cached, notes = _do(setting, task)
    except Exception as error:
        status = "stop" if stops(error) else "failed"
        seconds = time.perf_counter() - start
        return TaskResult(task, status, False, one_line(error), traceback.format_exc(), seconds, worker)  # type: ignore[arg-type]
    finally:
        give_back_memory()
    return TaskResult(task, "ok", cached, seconds=time.perf_counter() - start, worker=worker, notes=notes)


def _do(setting: WorkerSetting, task: Task) -> tuple[bool, tuple[str, ...]]:
    from iddmbench.run.torch_setup import set_threads

    set_threads(setting.threads)
    opened = _open(_Run(setting, task.run))
    if task.kind == "photos":
        from iddmbench.run.photos import look

        return look(opened.scoring, task.index), ()
    _ = opened.scoring.linkers  # an attacker that can't work on these photos is found before anything is trained
    if task.kind == "premise":
        cached = opened.scoring.has_premise()
        opened.scoring.premise()
        return cached, ()
    if task.kind == "attack":
        scoring = opened.scoring.without(task.missing, opened.study.cells)
        attack = scoring.attacks.planned[task.index]
        cached = scoring.attacks.is_stored(attack)
        scoring.attacks.linkages(attack)
        return cached, ()
    if task.kind == "score":
        scoring = opened.scoring.without(task.missing, opened.study.cells)
        condition = scoring.conditions[task.index]
        cached = scoring.is_scored(condition)
        scoring.tables(condition)
        return cached, ()
    scoring = opened.scoring
    if task.kind == "simulation":
        cell, compute = scoring.attacks.simulated[task.index], scoring.attacks.simulate
        cached = scoring.stages.is_cached(cell)
    else:
        cell, compute = opened.study.cells[task.index], scoring.compute
        cached = scoring.is_computed(cell)
    notes = () if cached else within_memory(scoring.stages.base.save_memory, lambda: compute(cell))
    return cached, notes


def within_memory(save: Callable[[int], None], compute: Callable[[], None]) -> tuple[str, ...]:
    """Compute; where the device's memory is not enough, again with less of it at a time, as far as that goes.

    Args:
        save: `BaseModel.save_memory`.

    Returns what was tried. Raises torch.OutOfMemoryError when the thriftiest way does not fit either.
    """
    import torch

    from iddmbench.models.base import FRUGAL

    notes: list[str] = []
    try:
        for level in range(FRUGAL + 1):
            if level:
                save(level)
            try:
                compute()
                break
            except torch.OutOfMemoryError as error:
                if level == FRUGAL:
                    raise
                notes.append(f"out of memory at batch level {level} ({first_line(error)}): retrying with less")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    finally:
        if notes:
            save(0)
    return tuple(notes)


class _Run:
    """A run of a setting, hashed by what it is."""

    def __init__(self, setting: WorkerSetting, name: str):
        self.config, self.cache, self.devices, self.locks = (
            setting.runs[name],
            setting.cache,
            setting.devices,
            setting.locks,
        )
        self._identity = (repr(self.config), self.cache)

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Run) and other._identity == self._identity


class _Opened:
    """A run's study and scoring, on this process's device."""

    def __init__(self, run: _Run):
        from iddmbench.linking.score import Scoring
        from iddmbench.run.config import make_config
        from iddmbench.run.plan import RunPlan

        config = make_config(run.config)
        self.study = RunPlan.of(config, Path(run.cache), own_device(run.devices, Path(run.locks)), _parts())
        self.scoring = Scoring.of(
            self.study.stages,
            self.study.config.attackers,
            self.study.cells,
            published=self.study.published,
            by_prompt=self.study.by_prompt,
        )


@lru_cache(maxsize=1)
def _parts() -> "ResourceCache":
    from iddmbench.run.plan import ResourceCache

    return ResourceCache()


@lru_cache(maxsize=STUDIES)
def _open(run: _Run) -> _Opened:
    return _Opened(run)


def own_device(devices: tuple[str, ...], locks: Path) -> str:
    """One of the devices on which a place is free: each has as many on this machine as times it is named, the CPU any number.

    The lock is released when the process ends, however it ends. Raises UserError if all are in use.
    """
    if "cpu" in devices:
        return "cpu"
    for i, device in enumerate(devices):
        if device in _held or ":" not in device:  # without a number: the one that Ray or Slurm shows to this process
            return device
        lock = FileLock(locks / f"{platform.node()}-{device.replace(':', '-')}-{devices[:i].count(device)}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _held[device] = lock
        return device
    raise UserError(
        f"all of {', '.join(dict.fromkeys(devices))} are in use by other workers: wait for them, or rerun later"
    )
