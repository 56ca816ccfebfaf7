"""What goes to a worker and what comes back: plain data, so that it can cross processes and machines."""

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["photos", "premise", "cell", "simulation", "attack", "score"]


@dataclass(frozen=True)
class Task:
    """One piece of work of one run.

    Attributes:
        kind: "photos": a part of what `iddmbench.run.photos` looks at. "premise": what is doubtful about a run's photos.
            "cell": all that is slow about a cell. "simulation": a model of an attacker that runs the defense itself.
            "attack": what an adaptive attacker makes of a condition's cells of one seed. "score": what all attackers make of a
            condition.
        run: the run's name. name: the cell's, attack's or condition's, unique in the run; "photos" for a "premise".
        index: of the part, of the cell in `RunPlan.cells` or `Attacks.simulated`, in `Attacks.planned`, or of the condition in
            `Scoring.conditions`.
        key: identifies the result: tasks of two runs with equal keys compute the same.
        missing: cells (by index) that failed, for an "attack" or a "score".
    """

    kind: Kind
    run: str
    name: str
    index: int
    key: str = ""
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class WorkerSetting:
    """What every task of a sweep needs to know.

    Attributes:
        runs: `RunConfig.model_dump` by run. cache: folder. threads: torch threads of a worker.
        devices: torch devices; a worker takes one of them, and as many share one as times it is named. locks: folder where it
            says so.
    """

    runs: dict[str, dict[str, Any]]
    cache: str
    threads: int = 1
    devices: tuple[str, ...] = ("cpu",)
    locks: str = ""


@dataclass(frozen=True)
class TaskResult:
    """What became of a task.

    Attributes:
        status: "ok"; "failed": it raised, or ran too long; "crashed": its process died; "stop": no other task would fare
            better (a full disk).
        cached: nothing had to be computed. error: one line. seconds: wall time. worker: process and machine.
        notes: what was tried on the way (out of memory, then a smaller batch).
    """

    task: Task
    status: Literal["ok", "failed", "crashed", "stop"]
    cached: bool = False
    error: str = ""
    traceback: str = ""
    seconds: float = 0.0
    worker: str = ""
    notes: tuple[str, ...] = field(default=())
