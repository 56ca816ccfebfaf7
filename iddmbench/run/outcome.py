"""Outcomes of a run's cells, and their figures: everything computed before a run folder is written."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iddmbench.cells.cell import Cell
from iddmbench.errors import one_line
from iddmbench.linking.score import Scoring, cell_identity
from iddmbench.results.run_folder import EXTRAS, IMAGES, REFERENCES
from iddmbench.store.cache import stops

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellResult:
    """What became of a cell. cached: its images were there before. error: one line, empty if it finished. seconds: just now."""

    cell: Cell
    cached: bool
    error: str = ""
    traceback: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True)
class Measured:
    """A run ready to be written.

    Attributes:
        scoring: of the cells that finished. cells: what became of all.
        identities: of all cells, their first columns in the table of cells.
        tables: folders with the tables of each scored condition; calibration: folder with the attackers' thresholds.
        lost: condition -> attacker without figures there -> why.
        published: rows of the table `published`; empty where the protocol has no thresholds of its own.
        prompts: rows of the table `prompts`; empty where the protocol gives nothing by prompt.
        pictures: place in the run folder -> folder of the images that belong there.
    """

    scoring: Scoring
    cells: list[CellResult]
    identities: list[dict[str, Any]]
    tables: list[Path]
    calibration: Path
    lost: Mapping[str, Mapping[str, str]]
    pictures: Mapping[tuple[str, ...], Path]
    published: list[dict[str, Any]]
    prompts: list[dict[str, Any]]


def score_cells(
    scoring: Scoring, outcomes: Sequence[CellResult], given_up: Mapping[str, tuple[str, str]] | None = None
) -> Measured:
    """Score what finished, condition by condition; one condition at a time is in memory.

    A condition that can't be scored fails with all its cells, and the others go on.

    Args:
        scoring: of all the run's cells. outcomes: what became of these.
        given_up: error and traceback of conditions, by label, that were tried and can't be scored.
    """
    done = scoring.only([outcome.cell for outcome in outcomes if outcome.ok])
    tables: list[Path] = []
    failed: dict[str, CellResult] = {}
    failed_conditions: set[str] = set()
    for condition in done.conditions:
        reason = (given_up or {}).get(condition.label)
        if reason is None:
            try:
                tables.append(done.tables(condition))
                continue
            except Exception as error:
                if stops(error):
                    raise
                log.error("%s can't be scored\n%s", condition.label, traceback.format_exc())
                reason = one_line(error), traceback.format_exc()
        failed_conditions.add(condition.label)
        failed |= {cell.name: CellResult(cell, False, f"scoring: {reason[0]}", reason[1]) for cell in condition.cells}
    cells = [failed.get(outcome.cell.name, outcome) for outcome in outcomes]
    scored = [condition for condition in done.conditions if condition.label not in failed_conditions]
    return Measured(
        done,
        cells,
        [cell_identity(outcome.cell, done.stages) for outcome in cells],
        tables,
        done.calibration(),
        {condition.label: done.lost(condition) for condition in done.conditions if condition.cells},
        _pictures(done, [outcome.cell for outcome in cells if outcome.ok]),
        [row for condition in scored for row in done.published_rows(condition)],
        [row for condition in scored for row in done.prompt_rows(condition)],
    )


def _pictures(scoring: Scoring, cells: Sequence[Cell]) -> dict[tuple[str, ...], Path]:
    places: dict[tuple[str, ...], Path] = {}
    for cell in cells:
        folder, subject = scoring.folder(cell), cell.subject.name
        for title, source in scoring.stages.pictures(cell).items():
            places[(EXTRAS, folder, subject, title) if title else (IMAGES, folder, subject)] = source
    return places | {(REFERENCES, s.name): scoring.stages.crops.references_folder(s) for s in scoring.subjects}
