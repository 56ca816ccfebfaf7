"""A run's adaptive attackers on its conditions: the models that some of them train, and what each of them sees; all stored."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from iddmbench.adaptive import FEWEST_SUBJECTS, restoration_of, simulation_of
from iddmbench.adaptive.posts import Posts
from iddmbench.cells.cell import Cell
from iddmbench.cells.condition import PlannedCondition
from iddmbench.cells.restore import restored_views, undefended_cells
from iddmbench.cells.stages import CellStages
from iddmbench.cells.versions import CODE as STAGES
from iddmbench.errors import UserError, one_line
from iddmbench.linking.linker import Linkage
from iddmbench.linking.panel import AttackerPanel
from iddmbench.linking.simulate import candidates, simulated_cells
from iddmbench.linking.stored import read_linkages, write_linkages
from iddmbench.store.cache import digest, stops
from iddmbench.types import Subject

ATTACK = "attack"
CODE = {ATTACK: 1}
"""Raised by hand when what adaptive attackers see changes, thresholds included."""


@dataclass(frozen=True)
class Attack:
    """An adaptive attacker, by name, on the finished cells of one condition and seed."""

    attacker: str
    condition: PlannedCondition
    seed: int

    @property
    def name(self) -> str:
        """Unique in a run."""
        return f"{self.attacker} on {self.condition.label}, seed {self.seed}"

    @property
    def cells(self) -> list[Cell]:
        return [cell for cell in self.condition.cells if cell.seed == self.seed]


@dataclass(frozen=True, eq=False)
class Attacks:
    """What the adaptive attackers of a run's `Scoring` do.

    Attributes:
        stages, panel, conditions, subjects: those of `Scoring`. cell_key: identifies a cell's images.
    """

    stages: CellStages
    panel: AttackerPanel
    conditions: tuple[PlannedCondition, ...]
    subjects: tuple[Subject, ...]
    cell_key: Callable[[Cell], list[Any]]

    # ---- models of attackers that run the defense themselves --------------------------------------------------------

    @property
    def simulated(self) -> list[Cell]:
        """All cells of such attackers, each once."""
        return list(self._simulated.values())

    @property
    def open_simulated(self) -> dict[str, int]:
        """Which of `simulated` have no images yet: index by `digest` of what these depend on."""
        cells = enumerate(self._simulated.items())
        return {key: i for i, (key, cell) in cells if not self.stages.is_cached(cell)}

    @cached_property
    def _simulated(self) -> dict[str, Cell]:
        return {
            digest(self.stages.image_key(cell)): cell
            for name in self.simulating
            for condition in self.conditions
            for seed in condition.seeds
            for cell in self.simulated_cells(name, condition, seed)
        }

    @cached_property
    def simulating(self) -> list[str]:
        """Such attackers, by name."""
        return [name for name in self.panel.names if simulation_of(name)]

    def simulated_cells(self, name: str, condition: PlannedCondition, seed: int) -> list[Cell]:
        """Those that an attacker wants for a condition and seed; none for most attackers."""
        simulation = simulation_of(name)
        if simulation is None:
            return []
        people = candidates(simulation, self.subjects, self.stages.data.subjects)
        return simulated_cells(simulation, condition, seed, people)

    def simulate(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> None:
        """One of `simulated`: its images, and what the attackers that want it make of them."""
        outputs = self.stages.outputs(cell, tick)
        for name in self.simulating:
            for view in self.panel.views_of[name]:
                self.stages.embed(view, outputs)

    # ---- what they see ----------------------------------------------------------------------------------------------

    @property
    def planned(self) -> list[Attack]:
        """All of the run, also those of an attacker that failed on some image. Each is slow, and needs no other."""
        adaptive = self.panel.attackers.adaptive
        return [Attack(name, c, seed) for c in self.conditions for seed in c.seeds for name in adaptive]

    def is_stored(self, attack: Attack) -> bool:
        return self.stages.store.has(ATTACK, self.key(attack))

    def linkages(self, attack: Attack) -> list[Linkage]:
        """What the attacker sees of each cell.

        Raises UserError where too few of them finished to learn on, or a model of its own failed.
        """

        def compute(out: Path) -> None:
            linker = self.panel.adaptive[attack.attacker]
            own = []
            for cell in self.simulated_cells(attack.attacker, attack.condition, attack.seed):
                self._simulate_or_say(cell)
                own.append(self._posts(attack.attacker, cell))
            write_linkages(out, linker.attack(self._everyone(attack), own))

        return read_linkages(self.stages.store.fetch(ATTACK, self.key(attack), compute))

    def key(self, attack: Attack) -> dict[str, Any]:
        """What an attack depends on: not the run's other attackers, and no condition but its own and, where it learns to undo
        the defense, the undefended one."""
        own = self.simulated_cells(attack.attacker, attack.condition, attack.seed)
        key = {
            "attacker": [attack.attacker, self.panel.fingerprints[attack.attacker]],
            "cells": [[cell.subject.label, *self.cell_key(cell)] for cell in attack.cells],
            "gallery": self.stages.data.gallery,
            "base": [self.stages.base.name, self.stages.base.fingerprint],
            "code": {**CODE, "embed": STAGES["embed"]},
            "versions": self.stages.versions,
        }
        if own:
            key["simulated"] = [digest(self.stages.image_key(cell)) for cell in own]
        if restoration_of(attack.attacker):
            clean = undefended_cells(self.conditions, attack.seed)
            key["undefended"] = [[label, *self.cell_key(cell)] for label, cell in sorted(clean.items())]
        return key

    def _simulate_or_say(self, cell: Cell) -> None:
        try:
            self.simulate(cell)
        except Exception as error:
            if stops(error):
                raise
            raise UserError(f"its own model of {cell.name} failed: {one_line(error)}") from error

    def _everyone(self, attack: Attack) -> list[Posts]:
        """What the cells posted, restored too for an attacker that does that."""
        cells = attack.cells
        posts = [self._posts(attack.attacker, cell) for cell in cells]
        how = restoration_of(attack.attacker)
        if how is None or len(cells) < FEWEST_SUBJECTS:
            return posts
        clean = undefended_cells(self.conditions, attack.seed)
        wrapped = self.panel.adaptive[attack.attacker].attackers[0]
        views = restored_views(self.stages, how, wrapped, cells, clean)
        return [replace(part, restored=seen) for part, seen in zip(posts, views, strict=True)]

    def _posts(self, attacker: str, cell: Cell) -> Posts:
        outputs = self.stages.outputs(cell)
        views = tuple(self.stages.embed(view, outputs)[0] for view in self.panel.views_of[attacker])
        return Posts(cell.subject.label, views, tuple(outputs.prompts))
