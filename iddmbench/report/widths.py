"""Sizes of figures: for a screen, or for a column or a page of a paper, where text must stay readable in print."""

from dataclasses import dataclass
from typing import Any

import matplotlib

from iddmbench.errors import UserError


@dataclass(frozen=True)
class Width:
    """Attributes:
    inches: of the finished figure; 0: as wide as its panels need, text at 10 points.
    panels: most panels side by side. tiles: most images in a row of the contact sheet.
    legend: most entries side by side in a legend.
    """

    inches: float
    panels: int
    tiles: int
    legend: int

    def scale(self, design: float) -> float:
        """What every length and font size is multiplied by, for a figure designed `design` inches wide."""
        return self.inches / design if self.inches else 1.0


WIDTHS = {"screen": Width(0.0, 3, 20, 4), "page": Width(7.16, 2, 14, 4), "column": Width(3.5, 1, 8, 2)}
"""A column and a page of a paper with two columns (IEEE's 3.5 and 7.16 inches)."""


def width_of(name: str) -> Width:
    """Raises UserError for an unknown name."""
    if name not in WIDTHS:
        raise UserError(f"--width {name}: choose from {', '.join(WIDTHS)}")
    return WIDTHS[name]


def scaled(style: dict[str, Any], k: float) -> Any:
    """rcParams of `style` with fonts, ticks and frames `k` times as large."""
    sizes = {"font.size": 10, "axes.linewidth": 0.8, "axes.labelpad": 4, "axes.titlepad": 6, "grid.linewidth": 0.7}
    for axis in ("xtick", "ytick"):
        sizes |= {f"{axis}.major.size": 3.5, f"{axis}.major.width": 0.8, f"{axis}.major.pad": 3.5}
    return style | {name: k * size for name, size in sizes.items()}


def pt(points: float) -> float:
    """A length or font size, in points, at the scale of the figure being drawn."""
    return points * float(matplotlib.rcParams["font.size"]) / 10
