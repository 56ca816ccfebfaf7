"""How long a sweep will take, and how much disk: from what the same work took before."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from iddmbench.cells.cell import Cell
from iddmbench.cells.stages import CellStages
from iddmbench.defense import Point
from iddmbench.store.cache import RECORD
from iddmbench.store.cost import read_cost
from iddmbench.sweep.plan import Plan, Run

SAMPLE = 2000
"""Entries of a stage that are looked at."""
UNDEFENDED = "none"


@dataclass(frozen=True)
class Forecast:
    """Of the work that is left, for one worker.

    seconds, bytes: None where nothing comparable is in the cache. unknown: open cells of defenses that were never computed
    here; they are taken to be like the others.
    """

    seconds: float | None
    bytes: float | None
    unknown: int


def estimate(plan: Plan) -> Forecast:
    """From the cache's entries of the same base model, settings and defense, whoever the subject was."""
    left = {task.run: [] for task in plan.first}  # type: dict[str, list[int]]
    for task in plan.first:
        left[task.run].append(task.index)
    told: list[tuple[float, float]] = []
    unknown = 0
    for run in (run for run in plan.runs if run.name in left):
        history = _History(run)
        costs = [history.of(run.study.cells[index]) for index in left[run.name]]
        told += [cost for cost in costs if cost is not None]
        unknown += sum(cost is None for cost in costs)
    if not told:
        return Forecast(None, None, unknown) if unknown else Forecast(0.0, 0.0, 0)
    scale = (len(told) + unknown) / len(told)
    return Forecast(sum(s for s, _ in told) * scale, sum(b for _, b in told) * scale, unknown)


class _History:
    """Mean (seconds, bytes) of a stage's entries by the defense that they were made for."""

    def __init__(self, run: Run):
        self.stages, self.views = run.study.stages, len(run.scoring.panel.views)
        stages = self.stages
        settings, personalizer = stages.lora.model_dump(mode="json"), stages.personalizer.key()
        wanted = (stages.base.fingerprint, settings, stages.base.precision, personalizer)
        self.seen: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for stage in ("prepare", "protect", "personalize", "generate", "release", "embed"):
            for key, folder in _entries(self.stages, stage):
                training = _training(key)
                made = (training.get("base"), training.get("lora"), training.get("precision", "fp32"))
                same = (*made, training.get("personalizer", {}))
                if same == wanted:
                    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                    self.seen[stage, _defense(key, stage)].append((read_cost(folder).seconds, size))

    def of(self, cell: Cell) -> tuple[float, float] | None:
        """Of all stages of a cell that are not in the cache; None where one of them was never computed."""
        stages = [(stage, self._maker(stage, cell)) for stage in self.stages.open_stages(cell)]
        parts = [self._mean(stage, maker) for stage, maker in stages]
        embed = self._mean("embed", "")
        if embed is None or any(part is None for part in parts):
            return None
        known = [part for part in parts if part is not None]
        return sum(s for s, _ in known) + self.views * embed[0], sum(b for _, b in known) + self.views * embed[1]

    @staticmethod
    def _maker(stage: str, cell: Cell) -> str:
        if stage == "generate":
            return ""
        points: tuple[Point, ...] = ("prepare", "protect", "personalize")
        changes = any(map(cell.defense.acts_on, points))
        return cell.defense.name if stage != "personalize" or changes else UNDEFENDED

    def _mean(self, stage: str, maker: str) -> tuple[float, float] | None:
        found = self.seen.get((stage, maker))
        if not found:
            return None
        return sum(s for s, _ in found) / len(found), sum(b for _, b in found) / len(found)


def _entries(stages: CellStages, stage: str) -> Iterator[tuple[dict[str, Any], Path]]:
    for path in islice((stages.store.root / stage).glob(f"*/*/{RECORD}"), SAMPLE):
        yield json.loads(path.read_text(encoding="utf-8")), path.parent


def _training(key: dict[str, Any]) -> dict[str, Any]:
    """The part of a key that says which training it is about."""
    for inner in ("images", "model"):
        if isinstance(key.get(inner), dict):
            return _training(key[inner])
    return key


def _defense(key: dict[str, Any], stage: str) -> str:
    """By whom an entry differs in cost: generating and embedding are the same work for all."""
    if stage in ("generate", "embed"):
        return ""
    made_for = key.get("release") or key.get("defense") or {}
    return str(made_for.get("name", UNDEFENDED))
