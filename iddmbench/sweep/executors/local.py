"""Processes on this machine (pebble: a pool that survives the death of a worker and can end one that hangs)."""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from multiprocessing import get_context

from pebble import ProcessExpired, ProcessPool

from iddmbench.sweep.executors.base import Executor, Resources, threads_of_children
from iddmbench.sweep.task import Result, Setting, Task

_given: tuple[Callable[[Setting, Task], Result], Setting]
"""In a worker: what it was started with. Sent once, not with every task."""


def _begin(function: Callable[[Setting, Task], Result], setting: Setting) -> None:
    global _given
    _given = function, setting


def _do(task: Task) -> Result:
    function, setting = _given
    return function(setting, task)


class LocalExecutor(Executor):
    def __init__(self, resources: Resources):
        super().__init__(resources)
        # A few ready for each worker, so that none waits for the next.
        self.window = 4 * resources.workers
        self._done: queue.SimpleQueue[Result] = queue.SimpleQueue()

    def __enter__(self) -> "LocalExecutor":
        self._stack = ExitStack()
        self._stack.enter_context(threads_of_children(self.setting.threads))
        self._pool = ProcessPool(
            max_workers=self.resources.workers,
            initializer=_begin,
            initargs=(self.resources.function, self.setting),
            context=get_context("spawn"),
        )
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is None:
            self._pool.close()
        else:
            self._pool.stop()
        self._pool.join()
        self._stack.close()

    def submit(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            future = self._pool.schedule(_do, args=(task,), timeout=self.timeout)
            future.add_done_callback(lambda done, task=task: self._done.put(self._result(task, done)))

    def wait(self, seconds: float) -> list[Result]:
        try:
            found = [self._done.get(timeout=seconds)]
        except queue.Empty:
            return []
        while not self._done.empty():
            found.append(self._done.get())
        return found

    def _result(self, task: Task, done: "Future[Result]") -> Result:
        try:
            return done.result()
        except TimeoutError:
            return self.too_long(task)
        except ProcessExpired as error:
            return self.died(task, f"exit code {error.exitcode}")
        except CancelledError:
            return self.died(task, "cancelled")
        except Exception as error:  # what can't be pickled
            return Result(task, "failed", error=f"{type(error).__name__}: {error}")
