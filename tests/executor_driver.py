"""A driver to be killed or interrupted: `python executor_driver.py EXECUTOR FOLDER WORKERS TASK...` prints a line per result.

FOLDER/calls is where tasks are noted. Options of the executor stand in OPTIONS, as KEY=VALUE words.
"""

import os
import signal
import sys
from pathlib import Path


def main(name: str, folder: str, workers: str, *names: str) -> None:
    # Here, and without the sweep's driver: workers import this file anew, and none of them needs torch.
    from executor_tasks import act, tasks

    from iddmbench.sweep.executors import make_executor
    from iddmbench.sweep.executors.base import Resources
    from iddmbench.sweep.task import WorkerSetting

    noted = Path(folder) / "calls"
    noted.mkdir(parents=True, exist_ok=True)
    options = dict(word.split("=", 1) for word in os.environ.get("OPTIONS", "").split())
    resources = Resources(WorkerSetting({}, str(noted)), int(workers), Path(folder), None, options, act)
    left = tasks(*names)
    with make_executor(name, resources) as executor:
        executor.submit(left)
        while left:
            for result in executor.wait(0.5):
                left.remove(result.task)
                print(result.task.index, result.status, result.error, flush=True)


if __name__ == "__main__":
    # What started the tests may be in the background, where shells turn interrupts off for all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
