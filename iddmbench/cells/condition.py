"""Cells of one defense at one strength."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from iddmbench.cells.cell import Cell, strength_of
from iddmbench.defense import Defense
from iddmbench.results.run_folder import label


@dataclass(frozen=True, eq=False)
class PlannedCondition:
    """One defense at one strength: its cells, and how many of them have no result."""

    defense: Defense
    cells: tuple[Cell, ...]
    missing: int = 0

    @property
    def strength(self) -> float:
        """NaN for an anchor, which has none."""
        return strength_of(self.defense)

    @property
    def seeds(self) -> list[int]:
        """Of its cells, ascending."""
        return sorted({cell.seed for cell in self.cells})

    @property
    def label(self) -> str:
        return label(self.defense.name, self.strength)

    @property
    def white_box(self) -> tuple[str, ...]:
        return self.defense.surrogates()

    @property
    def judges(self) -> tuple[str, ...]:
        """Networks that the defense optimizes and that also judge utility elsewhere."""
        return self.defense.judges()

    def only(self, finished: Set[str]) -> "PlannedCondition":
        """The condition with those of its cells, by name, that finished; the others count as missing."""
        cells = tuple(cell for cell in self.cells if cell.name in finished)
        return replace(self, cells=cells, missing=self.missing + len(self.cells) - len(cells))


def conditions(cells: Sequence[Cell]) -> list[PlannedCondition]:
    """Cells by defense and strength, in the order in which these first appear."""
    grouped: dict[str, list[Cell]] = {}
    for cell in cells:
        grouped.setdefault(cell.label, []).append(cell)
    return [PlannedCondition(group[0].defense, tuple(group)) for group in grouped.values()]
