"""Ray: a cluster by its address (`--executor-option address=...`), or one started on this machine.

Each worker is an actor, a process that stays: it keeps its GPU and its base model between tasks, and since it has one task at
a time it is known when each began.
"""

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from iddmbench.errors import UserError, first_line, one_line
from iddmbench.sweep.executors.base import Executor, Function, Resources, attempt, threads_of_children
from iddmbench.sweep.task import Task, TaskResult, WorkerSetting

REACH = 5.0
"""Seconds to reach a cluster in."""
STORE = 100 * 2**20
"""Bytes for a local Ray's objects, which are all small: images stay in the cache."""


class _Worker:
    def __init__(self, function: Function, setting: WorkerSetting):
        self.given = function, setting

    def ready(self) -> None:
        pass

    def do(self, task: Task) -> TaskResult:
        return attempt(*self.given, task)


class RayExecutor(Executor):
    def __init__(self, resources: Resources):
        super().__init__(resources)
        # Ray reports its use to its makers unless it is told not to; a privacy benchmark does not.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # What newer versions do by themselves; older ones warn that they will.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options = dict(resources.options)
        self.address = options.pop("address", "") or os.environ.get("RAY_ADDRESS", "local")
        if options:
            raise UserError(f"--executor-option {next(iter(options))}: ray takes only address")
        if self.address == "local":
            # Its servers then listen on 127.0.0.1 alone, as they always do on macOS and Windows. Read when Ray is imported.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        try:
            import ray
        except ImportError as error:
            raise UserError("--executor ray needs Ray: pip install 'iddmbench[ray]'") from error
        self.ray: Any = ray
        self.window = resources.workers
        self._waiting: deque[Task] = deque()
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Task, float]] = {}

    def __enter__(self) -> "RayExecutor":
        threads, gpus = self.setting.threads, int(self.setting.devices != ("cpu",))
        try:
            if self.address == "local":
                self._start_here(threads * self.resources.workers)
            else:
                _check_reachable(self.address)
                self.ray.init(address=self.address, log_to_driver=False, logging_level="critical")
        except (OSError, ValueError, RuntimeError) as error:  # OSError: ConnectionError, TimeoutError
            where = "on this machine" if self.address == "local" else f"at {self.address}"
            token = " (it needs a token: set RAY_AUTH_MODE=token)" if "AuthToken" in str(error.__cause__) else ""
            raise UserError(f"Ray can't be reached {where}: {first_line(error)}{token}") from error
        if gpus and self.address == "local" and not self.ray.cluster_resources().get("GPU"):
            self.ray.shutdown()
            raise UserError("Ray finds no GPU on this machine: give --device cpu, or a cluster's address")
        self._actor = self.ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0)(_Worker)
        return self

    def _start_here(self, cpus: int) -> None:
        with threads_of_children(self.setting.threads):
            self.ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=STORE,
                log_to_driver=False,
                logging_level="critical",
            )

    def __exit__(self, *exception: object) -> None:
        self.ray.shutdown()

    def submit(self, tasks: Sequence[Task]) -> None:
        self._waiting.extend(tasks)
        self._assign()

    def wait(self, seconds: float) -> list[TaskResult]:
        end = time.monotonic() + seconds
        while True:
            found = self._look(max(0.0, end - time.monotonic()))
            self._assign()
            if found or time.monotonic() >= end:
                return found

    def _assign(self) -> None:
        while self._waiting and self._idle:
            actor, task = self._idle.pop(), self._waiting.popleft()
            self._busy[actor.do.remote(task)] = actor, task, time.monotonic()
        wanted = min(self.resources.workers - len(self._busy), len(self._waiting))
        for _ in range(wanted - len(self._starting)):
            actor = self._actor.remote(self.resources.function, self.setting)
            self._starting[actor.ready.remote()] = actor

    def _look(self, seconds: float) -> list[TaskResult]:
        """Results, workers that are ready, and tasks that take too long: whatever comes first."""
        references = [*self._starting, *self._busy]
        if not references:
            time.sleep(seconds)
            return []
        if self.timeout is not None and self._busy:
            first = min(since for _, _, since in self._busy.values()) + self.timeout
            seconds = min(seconds, max(0.0, first - time.monotonic()))
        done, _ = self.ray.wait(references, num_returns=1, timeout=seconds)
        done, _ = self.ray.wait(references, num_returns=len(references), timeout=0) if done else (done, [])
        found = [
            self._welcome(reference) if reference in self._starting else self._result(reference) for reference in done
        ]
        return [result for result in found if result is not None] + self._end_late_ones()

    def _welcome(self, reference: Any) -> TaskResult | None:
        """A worker is ready. One that could not start takes a task with it, so that there is an end to trying."""
        actor = self._starting.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            return self.died(self._waiting.popleft(), one_line(error)) if self._waiting else None
        self._idle.append(actor)
        return None

    def _result(self, reference: Any) -> TaskResult:
        actor, task, _ = self._busy.pop(reference)
        try:
            result = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            with contextlib.suppress(Exception):
                self.ray.kill(actor)
            return self.died(task, one_line(error))
        self._idle.append(actor)
        return result

    def _end_late_ones(self) -> list[TaskResult]:
        late = []
        for reference, (actor, task, since) in list(self._busy.items()):
            if self.timeout is not None and time.monotonic() - since > self.timeout:
                del self._busy[reference]
                self.ray.kill(actor)
                late.append(self.too_long(task))
        return late


def _check_reachable(address: str) -> None:
    """Raises OSError where nothing listens; Ray itself would try for a minute and print why not."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
