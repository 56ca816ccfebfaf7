"""The main path of a sweep: plan, let workers compute what is missing, write every run's folder."""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.results.findings import Finding, check_strict, in_order
from iddmbench.results.run_folder import SWEEP_RUNS
from iddmbench.run.journal import Journal
from iddmbench.run.outcome import CellResult, score_cells
from iddmbench.run.photos import open_parts
from iddmbench.run.plan import RunPlan
from iddmbench.run.write import WAYS_OUT, begin, claimed, write_json, write_premise, write_run, written
from iddmbench.sweep.config import Sweep
from iddmbench.sweep.executors import Executor
from iddmbench.sweep.plan import Plan, Run
from iddmbench.sweep.task import Task, TaskResult

SWEEP = "sweep.json"
CRASHES = 2
"""How often a task may take its process with it before it counts as failed: the first may have been the machine's fault."""
POLL = 0.5


@dataclass
class Watch:
    """What a caller may watch."""

    planned: Callable[[Plan], None] = lambda plan: None
    result: Callable[[TaskResult], None] = lambda result: None
    flying: Callable[[list[Task]], None] = lambda tasks: None
    phase: Callable[[str], None] = lambda name: None
    premise: Callable[[list[Finding]], None] = lambda findings: None


def run_sweep(
    sweep: Sweep, plan: Plan, out: Path, executor: Callable[[], Executor], watch: Watch, strict: bool = False
) -> int:
    """Do what is left of a planned sweep and write `out`; returns the number of failed cells.

    Everything computed is in the cache: the same call resumes, whatever ended the last one.
    strict: treat doubts about the photos (results/findings.py) as errors, raised as UserErrors before anything is trained.
    Raises UserError when `out` holds another sweep or another process writes it, and when a disk is full.
    """
    check_sweep_folder(out, sweep)
    with ExitStack() as stack:
        stack.enter_context(claimed(out))
        check_sweep_folder(out, sweep)
        write_json(out / SWEEP, sweep.dump())
        for run in plan.runs:
            stack.enter_context(begin(run.study, out / SWEEP_RUNS / run.name))
        journal = stack.enter_context(Journal(out))
        journal.begin({run.name: len(run.study.cells) for run in plan.runs}, cached=plan.cached)
        watch.planned(plan)
        given_up = compute(plan, executor, journal, watch, out, strict)
        watch.phase("writing")
        failed = sum(_write(run, out, given_up.get(run.name, {})) for run in plan.runs)
        journal.end(failed)
    return failed


def compute(
    plan: Plan, executor: Callable[[], Executor], journal: Journal, watch: Watch, out: Path, strict: bool = False
) -> dict[str, dict[str, tuple[str, str]]]:
    """What is doubtful about the photos, all open cells, then what the attackers make of each condition.

    Fills the runs' outcomes; returns error and traceback of the conditions that can't be scored, by run and label.
    """
    runs = {run.name: run for run in plan.runs}
    given_up: dict[str, dict[str, tuple[str, str]]] = {}
    with ExitStack() as stack:
        started: list[Executor] = []

        def engine() -> Executor:
            """Started when there is something to do."""
            if not started:
                started.append(stack.enter_context(executor()))
            return started[0]

        look_at_photos(plan, engine, journal, watch, out, strict)
        watch.phase("computing")
        # What another run computes too comes last: it is found in the cache then.
        for tasks in (plan.first, plan.again):
            for result in carry_out(tasks, engine, watch.flying):
                run = runs[result.task.run]
                outcome = outcome_of(result, run.study)
                run.outcomes[result.task.index] = outcome
                journal.cell(run.name, outcome, worker=result.worker, notes=list(result.notes))
                watch.result(result)
        watch.phase("computing attackers' own models")
        for result in carry_out(simulation_tasks(plan), engine, watch.flying):
            # One that failed fails again when its condition is scored, and costs the attacker its figures there.
            task = result.task
            journal.note("simulation", run=task.run, name=task.name, seconds=result.seconds, error=result.error)
        watch.phase("attacking")
        for result in carry_out(attack_tasks(plan), engine, watch.flying):
            # As above: it fails again when its condition is scored.
            watch.result(result)
            task = result.task
            journal.note("attack", run=task.run, name=task.name, seconds=result.seconds, error=result.error)
        watch.phase("scoring")
        for result in carry_out([t for run in plan.runs for t in run.score_tasks()], engine, watch.flying):
            watch.result(result)
            if result.status != "ok":
                given_up.setdefault(result.task.run, {})[result.task.name] = result.error, result.traceback
            journal.note(
                "score", run=result.task.run, name=result.task.name, seconds=result.seconds, error=result.error
            )
    return given_up


def look_at_photos(
    plan: Plan, engine: Callable[[], Executor], journal: Journal, watch: Watch, out: Path, strict: bool
) -> None:
    """Find what is doubtful about each run's photos, keep it in the run's folder, and say each thing once.

    Where that fails, so will the run's cells, and say why.
    """
    watch.phase("checking the photos")
    for _ in carry_out(photo_tasks(plan), engine, watch.flying):
        pass  # a part that fails fails again in the cells, which say why
    tasks = {run.scoring.premise_digest(): run.premise_task for run in plan.runs if not run.scoring.has_premise()}
    for result in carry_out(list(tasks.values()), engine, watch.flying):
        journal.note("premise", run=result.task.run, seconds=round(result.seconds, 3), error=result.error)
    found: dict[Finding, None] = {}
    for run in plan.runs:
        if run.scoring.has_premise():
            found |= dict.fromkeys(write_premise(out / SWEEP_RUNS / run.name, run.scoring.premise()))
    if strict:
        check_strict(list(found), f"premise.parquet of each run in {out / SWEEP_RUNS}")
    watch.premise(in_order(found))


def photo_tasks(plan: Plan) -> list[Task]:
    """Parts of the photos at which nobody has looked yet, of runs with open cells. Otherwise one worker would look at all of
    them, and the others would wait for it."""
    runs = {run.scoring.premise_digest(): run for run in plan.runs if run.open_cells}
    return [
        Task("photos", run.name, f"photos {part}", part) for run in runs.values() for part in open_parts(run.scoring)
    ]


def simulation_tasks(plan: Plan) -> list[Task]:
    """Models of attackers that run the defense themselves which are not there yet, each once; none of a run that is scored, as
    nobody looks at them again."""
    tasks: dict[str, Task] = {}
    for run in plan.runs:
        cells = run.scoring.attacks.simulated
        if cells and not run.scored_in_full:
            for key, i in run.scoring.attacks.open_simulated.items():
                tasks.setdefault(key, Task("simulation", run.name, f"{cells[i].name}, the attacker's own", i, key))
    return list(tasks.values())


def attack_tasks(plan: Plan) -> list[Task]:
    """What adaptive attackers make of conditions, where that is not there yet, each once. Otherwise this process alone would
    attack the undefended models to know who links them, and workers would wait for it."""
    return list({task.key: task for run in plan.runs for task in run.attack_tasks()}.values())


def carry_out(
    tasks: Iterable[Task], engine: Callable[[], Executor], flying: Callable[[list[Task]], None] = lambda tasks: None
) -> Iterator[TaskResult]:
    """Results of tasks, as they come. A task whose process died is tried once more.

    Raises UserError when a task found that no other would fare better (a full disk), once those in flight have ended.
    """
    waiting, in_flight, crashes = deque(tasks), {}, Counter[Task]()  # type: deque[Task], dict[Task, None], Counter[Task]
    stop: TaskResult | None = None
    while in_flight or (waiting and stop is None):
        executor = engine()
        batch: list[Task] = []
        while waiting and stop is None and len(in_flight) < executor.window:
            batch.append(waiting.popleft())
            in_flight[batch[-1]] = None
        executor.submit(batch)
        flying(list(in_flight))
        for result in executor.wait(POLL):
            del in_flight[result.task]
            if result.status == "crashed":
                crashes[result.task] += 1
                if crashes[result.task] < CRASHES:
                    waiting.appendleft(result.task)
                    continue
                result = replace(result, status="failed")
            if result.status == "stop":
                stop = stop or result
            else:
                yield result
    if stop is not None:
        raise UserError(f"the sweep stopped: {stop.error}: fix this and rerun the command to resume")


def outcome_of(result: TaskResult, study: RunPlan) -> CellResult:
    """Of a task of kind "cell"."""
    cell = study.cells[result.task.index]
    return CellResult(cell, result.cached, result.error, result.traceback or result.error, result.seconds)


def check_sweep_folder(out: Path, sweep: Sweep) -> None:
    """Raises UserError when `out` holds another sweep, or something else."""
    found = written(out, SWEEP)
    if found is None:
        return
    wanted = json.loads(json.dumps(sweep.dump()))
    if found != wanted:
        theirs, ours = found.get("runs", {}), wanted["runs"]
        changed = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise UserError(f"{out} holds another sweep (runs that differ: {', '.join(changed) or 'none'}): {WAYS_OUT}")


def _write(run: Run, out: Path, given_up: dict[str, tuple[str, str]]) -> int:
    """Write the run's folder; returns how many of its cells failed."""
    outcomes = [outcome for outcome in run.outcomes if outcome is not None]
    found = score_cells(run.scoring, outcomes, given_up)
    write_run(out / SWEEP_RUNS / run.name, found)
    return sum(not outcome.ok for outcome in found.cells)
