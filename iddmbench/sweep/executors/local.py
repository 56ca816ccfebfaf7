"""Processes on this machine (pebble: a pool that survives the death of a worker and can end one that hangs)."""

import multiprocessing
import os
import queue
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from threading import Thread

from pebble import ProcessExpired, ProcessPool

from iddmbench.environ import variables
from iddmbench.errors import one_line
from iddmbench.sweep.executors.base import Executor, Function, Resources, attempt, threads_of_children
from iddmbench.sweep.task import Task, TaskResult, WorkerSetting
from iddmbench.sweep.worker import work

PRELOAD = "iddmbench.sweep.preload"

_given: tuple[Function, WorkerSetting]
"""In a worker: what it was started with. Sent once, not with every task."""


def _begin(function: Function, setting: WorkerSetting, environment: dict[str, str]) -> None:
    """environment: the driver's now; that of the process that this one was forked from may be older."""
    global _given
    os.environ.clear()
    os.environ.update(environment)
    _given = function, setting
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker that outlived a killed driver would keep its device. What it was writing is not in the cache yet."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(task: Task) -> TaskResult:
    return attempt(*_given, task)


class LocalExecutor(Executor):
    def __init__(self, resources: Resources):
        super().__init__(resources)
        # A few ready for each worker, so that none waits for the next.
        self.window = 4 * resources.workers
        self._tasks: dict[Future[TaskResult], Task] = {}
        self._done: queue.SimpleQueue[Future[TaskResult]] = queue.SimpleQueue()

    def __enter__(self) -> "LocalExecutor":
        self._stack = ExitStack()
        self._stack.enter_context(threads_of_children(self.setting.threads))
        self._start()
        return self

    def _start(self) -> None:
        self._pool = ProcessPool(
            max_workers=self.resources.workers,
            initializer=_begin,
            initargs=(self.resources.function, self.setting, dict(os.environ)),
            context=_context(self.resources),
        )
        _start_tracker()
        with _children_ignore_interrupts():
            _ = self._pool.active  # starts it

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None and not self._tasks:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()
        self._stack.close()

    def submit(self, tasks: Sequence[Task]) -> None:
        if not self._pool.active:
            self._pool.stop()
            self._pool.join()
            self._start()
        for task in tasks:
            future = self._pool.schedule(_do, args=(task,), timeout=self.timeout)
            self._tasks[future] = task
            future.add_done_callback(self._done.put)

    def wait(self, seconds: float) -> list[TaskResult]:
        done = []
        try:
            done.append(self._done.get(timeout=seconds))
            while True:
                done.append(self._done.get_nowait())
        except queue.Empty:
            pass
        if not done and not self._pool.active:  # its threads are gone, and nobody will finish these
            lost, self._tasks = list(self._tasks.values()), {}
            return [self.died(task, "and the pool with it") for task in lost]
        return [self._result(self._tasks.pop(future), future) for future in done if future in self._tasks]

    def _result(self, task: Task, done: "Future[TaskResult]") -> TaskResult:
        error = done.exception()
        if error is None:
            return done.result()
        if isinstance(error, TimeoutError):
            return self.too_long(task)
        if isinstance(error, ProcessExpired):
            return self.died(task, f"exit code {error.exitcode}")
        if isinstance(error, BrokenProcessPool):  # a worker died before it had a task
            return self.died(task, str(error))
        return TaskResult(task, "failed", error=one_line(error))  # a result that can't be sent


def _context(resources: Resources) -> BaseContext:
    """Processes forked from one that has read the large packages and does nothing else, where that is safe: no GPU, and no
    threads to lose. They begin in a tenth of the time, and share 0.4 GB."""
    setting = resources.setting
    alone = setting.threads == 1 and set(setting.devices) == {"cpu"}
    if sys.platform != "linux" or not alone or resources.function is not work:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    return context


def _start_tracker() -> None:
    """Python's process that frees what killed ones leave, told not to report it. A later start would let Ctrl-C through."""
    known = os.environ.get("PYTHONWARNINGS")
    silent = ",".join(filter(None, [known, "ignore:resource_tracker:UserWarning"]))
    with variables({"PYTHONWARNINGS": silent}):
        resource_tracker.ensure_running()


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Processes and threads that start meanwhile never see Ctrl-C: the driver ends them, and they print no traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
