"""What a sweep has to do: its runs opened, their cells looked up in the cache, the rest as tasks."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.linking.score import Scoring
from iddmbench.run.outcome import CellResult
from iddmbench.run.plan import ResourceCache, RunPlan
from iddmbench.sweep.config import Sweep
from iddmbench.sweep.task import Task


@dataclass
class Run:
    """One run of a sweep, as the driver sees it. outcomes: of each cell of the study, None while it is open."""

    name: str
    study: RunPlan
    scoring: Scoring
    outcomes: list[CellResult | None] = field(default_factory=list)

    @classmethod
    def open(cls, name: str, sweep: Sweep, cache: Path, parts: ResourceCache) -> "Run":
        """Raises UserError, naming the run, for what `RunPlan.of` refuses."""
        config = sweep.runs[name]
        try:
            study = RunPlan.of(config, cache, parts=parts)
        except UserError as error:
            raise UserError(f"run '{name}': {error}") from error
        scoring = Scoring.of(
            study.stages, study.config.attackers, study.cells, published=study.published, by_prompt=study.by_prompt
        )
        return cls(name, study, scoring, [None] * len(study.cells))

    def look_up(self) -> None:
        """Note the cells that are all computed. Where a whole condition has been scored, its cells need no look."""
        index = {id(cell): i for i, cell in enumerate(self.study.cells)}
        for condition in self.scoring.conditions:
            scored = self.scoring.is_scored_in_full(condition)
            for cell in condition.cells:
                if scored or self.scoring.is_computed(cell):
                    self.outcomes[index[id(cell)]] = CellResult(cell, cached=True)

    @property
    def open_cells(self) -> list[int]:
        return [i for i, outcome in enumerate(self.outcomes) if outcome is None]

    def cell_tasks(self) -> Iterator[Task]:
        for i in self.open_cells:
            cell = self.study.cells[i]
            yield Task("cell", self.name, cell.name, i, self.scoring.cell_digest(cell))

    @property
    def premise_task(self) -> Task:
        return Task("premise", self.name, "photos", 0, self.scoring.premise_digest())

    @property
    def scored_in_full(self) -> bool:
        """Unlike `score_tasks` it does not ask which attackers link the undefended models, which might have to be found out."""
        return all(map(self.scoring.is_scored_in_full, self.scoring.conditions))

    @property
    def missing(self) -> tuple[int, ...]:
        """Cells that did not finish, by index."""
        return tuple(i for i, outcome in enumerate(self.outcomes) if outcome is None or not outcome.ok)

    def attack_tasks(self) -> Iterator[Task]:
        """What adaptive attackers have not made of the finished cells yet; nothing where all is scored already."""
        if self.scored_in_full:
            return
        missing = self.missing
        done = self.scoring.without(missing, self.study.cells)
        attacks = done.attacks.planned
        for i, key in done.open_attacks.items():
            yield Task("attack", self.name, attacks[i].name, i, key, missing)

    def score_tasks(self) -> Iterator[Task]:
        """Conditions that have not been scored with the cells that finished."""
        missing = self.missing
        done = self.scoring.without(missing, self.study.cells)
        for i, condition in enumerate(done.conditions):
            if condition.cells and not done.is_scored(condition):
                yield Task("score", self.name, condition.label, i, missing=missing)


@dataclass
class Plan:
    """A sweep's runs, looked up in the cache.

    Attributes:
        cells, cached: numbers of cells, all and those computed already.
        first: tasks whose results differ. again: tasks that another run's task computes too.
    """

    runs: list[Run]
    cells: int
    cached: int
    first: list[Task]
    again: list[Task]


def make_plan(sweep: Sweep, cache: Path) -> Plan:
    """Open everything that the sweep names. Raises UserError if anything is missing or incompatible."""
    parts = ResourceCache()
    runs = [Run.open(name, sweep, cache, parts) for name in sweep.runs]
    first: list[Task] = []
    again: list[Task] = []
    known: set[str] = set()
    for run in runs:
        run.look_up()
        for task in run.cell_tasks():
            (again if task.key in known else first).append(task)
            known.add(task.key)
    cells = sum(len(run.study.cells) for run in runs)
    return Plan(runs, cells, cells - len(first) - len(again), first, again)
