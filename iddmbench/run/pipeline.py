"""The main path: plan the cells, compute each, let every attacker look at them, and write the run folder."""

import logging
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from iddmbench.attacker import Attacker
from iddmbench.cells.cell import Cell
from iddmbench.cells.stages import CellStages
from iddmbench.environ import give_back_memory
from iddmbench.errors import one_line
from iddmbench.linking.published import PublishedTarget
from iddmbench.linking.score import Scoring
from iddmbench.results.findings import Finding, check_strict
from iddmbench.results.run_folder import table_file
from iddmbench.run.config import RunConfig
from iddmbench.run.journal import Journal
from iddmbench.run.outcome import CellResult, score_cells
from iddmbench.run.photos import open_parts
from iddmbench.run.plan import RunPlan
from iddmbench.run.write import begin, write_premise, write_run
from iddmbench.store.cache import stops

log = logging.getLogger(__name__)


class Pool(ABC):
    """Computes what is slow about a run in other processes, into the cache. A context manager: they end on exit."""

    def __enter__(self) -> "Pool":
        return self

    @abstractmethod
    def __exit__(self, *exception: object) -> None: ...

    @abstractmethod
    def photos(self, study: RunPlan, parts: Sequence[int]) -> None:
        """Parts of what `iddmbench.run.photos` looks at, given by number."""

    @abstractmethod
    def simulated(self, study: RunPlan, cells: Sequence[int]) -> None:
        """Models of attackers that run the defense themselves, given by index in `Attacks.simulated`."""

    @abstractmethod
    def attacks(self, study: RunPlan, attacks: Mapping[int, str], missing: Sequence[int]) -> None:
        """What adaptive attackers make of the finished cells (`Scoring.open_attacks`); missing: the others, by index."""

    @abstractmethod
    def cells(self, study: RunPlan, cells: Sequence[int]) -> Iterator[tuple[int, CellResult]]:
        """Cells, given by index; yields what became of each, as they end."""


@dataclass(frozen=True)
class Beside:
    """A `Pool` that knows its plan."""

    pool: Pool
    study: RunPlan


@dataclass
class Progress:
    """What a caller may watch: `premise(findings)` before anything is trained, `start(cells)`, then for each cell
    `cell(name, cached)`, `share(x)` in [0, 1] and `done(outcome)`.

    `done` is called once more for a cell that turns out to have failed when it is scored; `lost(attacker, condition, error)`
    for each attacker without figures there.
    """

    premise: Callable[[list[Finding]], None] = lambda findings: None
    start: Callable[[int], None] = lambda cells: None
    cell: Callable[[str, bool], None] = lambda name, cached: None
    share: Callable[[float], None] = lambda share: None
    done: Callable[[CellResult], None] = lambda outcome: None
    lost: Callable[[str, str, str], None] = lambda attacker, condition, error: None


def run(
    config: RunConfig,
    out: Path,
    cache: Path,
    device: str = "cpu",
    progress: Progress | None = None,
    strict: bool = False,
    pool: Pool | None = None,
) -> int:
    """Run `config` and fill `out`; returns the number of failed cells.

    A cell that raises is recorded as failed, with its traceback in the folder, and the others continue. An attacker that raises
    has no figures for that condition, and the others have theirs. A full disk stops the run.
    Everything computed is in `cache`, so the same call resumes and recomputes nothing.
    strict: treat doubts about the photos (results/findings.py) as errors, raised as UserErrors before anything is trained.
    pool: computes the cells; by default they are computed here, one after the other.
    Raises UserError before anything is computed if the configuration or the data are wrong, or `out` belongs to another run.
    """
    study = RunPlan.of(config, cache, device)
    with begin(study, out), Journal(out) as journal:
        journal.begin({out.name: len(study.cells)})
        progress = progress or Progress()

        def done(outcome: CellResult) -> None:
            journal.cell(out.name, outcome)
            progress.done(outcome)

        def lost(attacker: str, condition: str, error: str) -> None:
            journal.note("lost", run=out.name, attacker=attacker, condition=condition, error=error)
            progress.lost(attacker, condition, error)

        watched = replace(progress, done=done, lost=lost)
        beside = Beside(pool, study) if pool else None
        _, outcomes = measure(
            study.cells,
            study.stages,
            study.config.attackers,
            out,
            watched,
            strict,
            published=study.published,
            by_prompt=study.by_prompt,
            beside=beside,
        )
        failed = sum(not outcome.ok for outcome in outcomes)
        journal.end(failed)
    return failed


def measure(
    cells: Sequence[Cell],
    stages: CellStages,
    attackers: Sequence[str],
    out: Path,
    progress: Progress,
    strict: bool = False,
    own: Mapping[str, Attacker] | None = None,
    published: PublishedTarget | None = None,
    by_prompt: tuple[str, ...] = (),
    beside: Beside | None = None,
) -> tuple[Scoring, list[CellResult]]:
    """Check the photos, compute every cell, and write `out` with its images and all tables.

    strict: see `run`. own: attackers by name that are not plugins. published, by_prompt: see `Scoring`. beside: what computes
    the cells in other processes.
    """
    scoring = Scoring.of(stages, attackers, cells, own, published, by_prompt)
    with beside.pool if beside else nullcontext():
        if beside and (parts := open_parts(scoring)):
            beside.pool.photos(beside.study, parts)
        _ = scoring.linkers  # an attacker that can't work on these photos is found before anything is trained
        findings = write_premise(out, scoring.premise())
        if strict:
            check_strict(findings, str(out / table_file("premise")))
        progress.premise(findings)
        if not all(map(stages.is_cached, [*cells, *scoring.attacks.simulated])):
            if beside is None:
                stages.base.load()
            stages.store.check_writable()
        progress.start(len(cells) + len(scoring.attacks.simulated))
        log.info("%d cells, attackers %s, into %s", len(cells), ", ".join(attackers), out)
        give_back_memory()
        outcomes = attempt_all(scoring, cells, progress, beside)
        if beside and len(missing := scoring.attacks.open_simulated) > 1:
            beside.pool.simulated(beside.study, list(missing.values()))
        if beside:
            failed = [i for i, outcome in enumerate(outcomes) if not outcome.ok]
            if len(attacks := scoring.without(failed, cells).open_attacks) > 1:
                beside.pool.attacks(beside.study, attacks, failed)
    simulate(scoring, progress)
    found = score_cells(scoring, outcomes)
    write_run(out, found)
    log.info("scored: %d of %d cells have figures", sum(outcome.ok for outcome in found.cells), len(found.cells))
    for before, after in zip(outcomes, found.cells, strict=True):
        if before.ok and not after.ok:
            progress.done(after)
    for condition, lost in found.lost.items():
        for attacker, error in lost.items():
            progress.lost(attacker, condition, error)
    return found.scoring, found.cells


def attempt_all(
    scoring: Scoring,
    cells: Sequence[Cell],
    progress: Progress,
    beside: Beside | None = None,
) -> list[CellResult]:
    """What becomes of each cell: those that the cache lacks are computed `beside` this process where there is such a thing."""
    found: dict[int, CellResult] = {}
    missing = [i for i, cell in enumerate(cells) if not scoring.is_computed(cell)] if beside else []
    if beside and len(missing) > 1:
        for i, outcome in beside.pool.cells(beside.study, missing):
            found[i] = outcome
            progress.cell(cells[i].name, outcome.cached)
            _told(outcome, progress)
    for i, cell in enumerate(cells):
        if i not in found:
            progress.cell(cell.name, scoring.stages.is_cached(cell))
            found[i] = attempt(cell, scoring, progress.share)
            _told(found[i], progress)
    return [found[i] for i in range(len(cells))]


def _told(outcome: CellResult, progress: Progress) -> None:
    if outcome.ok:
        how = "from the cache" if outcome.cached else "computed"
        log.info("cell %s: %s, %.1f s", outcome.cell.name, how, outcome.seconds)
    progress.done(outcome)


def simulate(scoring: Scoring, progress: Progress) -> None:
    """Compute the models of attackers that run the defense themselves. One that fails costs its attacker the figures of that
    condition, as is said when it is scored."""
    for cell in scoring.attacks.simulated:
        progress.cell(f"{cell.name}, the attacker's own", scoring.stages.is_cached(cell))
        try:
            scoring.attacks.simulate(cell, progress.share)
        except Exception as error:
            if stops(error):
                raise
            log.error("the attacker's own %s failed\n%s", cell.name, traceback.format_exc())


def attempt(cell: Cell, scoring: Scoring, tick: Callable[[float], None] = lambda share: None) -> CellResult:
    """Compute a cell; an exception is an outcome too. Raises only what would stop any other cell, such as a full disk."""
    cached, start = scoring.stages.is_cached(cell), time.perf_counter()
    try:
        scoring.compute(cell, tick)
    except Exception as error:
        if stops(error):
            raise
        log.error("cell %s failed\n%s", cell.name, traceback.format_exc())
        return CellResult(cell, False, one_line(error), traceback.format_exc(), time.perf_counter() - start)
    return CellResult(cell, cached, seconds=time.perf_counter() - start)
