"""Ray: a cluster by its address (`--executor-option address=...`), or one started on this machine."""

import os
import time
from collections.abc import Sequence
from typing import Any

from iddmbench.errors import UserError
from iddmbench.sweep.executors.base import Executor, Resources
from iddmbench.sweep.task import Result, Task


class RayExecutor(Executor):
    def __init__(self, resources: Resources):
        super().__init__(resources)
        # Ray reports its use to its makers unless it is told not to; a privacy benchmark does not.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise UserError("--executor ray needs Ray: pip install 'iddmbench[ray]'") from error
        self.ray: Any = ray
        self.window = resources.workers
        self._tasks: dict[Any, tuple[Task, float]] = {}
        self._late: set[Any] = set()

    def __enter__(self) -> "RayExecutor":
        options = dict(self.resources.options)
        address = options.pop("address", None)
        if options:
            raise UserError(f"--executor-option {next(iter(options))}: ray knows address only")
        threads, gpu = self.setting.threads, self.setting.devices != ("cpu",)
        own = {} if address else {"num_cpus": threads * self.resources.workers, "include_dashboard": False}
        try:
            self.ray.init(address=address, log_to_driver=False, logging_level="error", **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"Ray can't be reached at {address or 'this machine'}: {str(error).splitlines()[0]}"
            ) from error
        needs = {"num_cpus": threads, "num_gpus": 1 if gpu else 0, "max_retries": 0}
        self._function = self.ray.remote(**needs)(self.resources.function)
        self._setting = self.ray.put(self.setting)
        return self

    def __exit__(self, *exception: object) -> None:
        self.ray.shutdown()

    def submit(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._tasks[self._function.remote(self._setting, task)] = task, time.monotonic()

    def wait(self, seconds: float) -> list[Result]:
        done, running = self.ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        if len(done) and running:
            more, _ = self.ray.wait(running, num_returns=len(running), timeout=0)
            done += more
        self._end_late_ones(set(done))
        return [self._result(reference) for reference in done]

    def _end_late_ones(self, done: set[Any]) -> None:
        if self.timeout is None:
            return
        for reference, (_, since) in self._tasks.items():
            if reference not in done | self._late and time.monotonic() - since > self.timeout:
                self._late.add(reference)
                self.ray.cancel(reference, force=True)

    def _result(self, reference: Any) -> Result:
        task, _ = self._tasks.pop(reference)
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            if reference in self._late:
                return self.too_long(task)
            return self.died(task, type(error).__name__)
