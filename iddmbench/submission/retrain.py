"""Training cells again from a bundle's configuration and seeds, to see whether its images come from there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from iddmbench.attacker import ATTACKERS
from iddmbench.cells.stages import CellStages
from iddmbench.defense import DEFENSES
from iddmbench.errors import UserError
from iddmbench.linking.linker import Linker
from iddmbench.seeds import Seeds
from iddmbench.submission.authenticity import title
from iddmbench.submission.read import Bundle
from iddmbench.submission.schema import CellFacts
from iddmbench.submission.stages import real_defense
from iddmbench.types import Subject

GRAY, COSINE = 1.5, 0.05
"""What a retrained cell may differ by: median over images of the mean gray-level difference, and the mean score. Training with
another number of threads takes sums in another order, so images are alike, not equal. On the embedded base the same cell under
IDDM at 0.5 and undefended differs by 2.5 to 5 gray levels, two variants of IDDM by 6.9 and more: a looser limit would take one
method's images for another's."""


@dataclass(frozen=True)
class Retrained:
    """A cell that was trained again.

    Attributes:
        gray: median over its images of the mean absolute difference from the posted one, in gray levels 0-255.
        cosine: largest difference, over attackers, of the mean score to the subject's template; NaN where no face was found.
        agrees: both are within GRAY and COSINE.
    """

    cell: CellFacts
    gray: float
    cosine: float

    @property
    def agrees(self) -> bool:
        return self.gray <= GRAY and not self.cosine > COSINE

    def __str__(self) -> str:
        where = f"{title(self.cell.defense, self.cell.strength)}, {self.cell.subject}, seed {self.cell.seed}"
        score = "no face to compare" if np.isnan(self.cosine) else f"scores by {self.cosine:.3f}"
        return f"{where}: trained again, images differ by {self.gray:.1f} gray levels, {score}"


def pick(cells: Sequence[CellFacts], count: int, seed: int) -> list[CellFacts]:
    """`count` of the finished defended cells, drawn at random; of the anchors where there is nothing else."""
    finished = [c for c in cells if c.status == "ok"]
    wanted = [c for c in finished if c.strength is not None] or finished
    drawn = Seeds(seed).child("retrain").numpy().permutation(len(wanted))[:count]
    return [wanted[i] for i in sorted(drawn)]


def retrain(
    bundle: Bundle,
    picked: Sequence[CellFacts],
    lab: CellStages,
    subjects: dict[str, Subject],
    linkers: dict[str, Linker],
    tick: Callable[[str], None] = lambda name: None,
) -> list[Retrained]:
    """Train each picked cell in `lab` and compare its images with the bundle's.

    Raises UserError when the defense, or a surrogate that its options name, is not installed here: a bundle brings no code.
    """
    meta = bundle.meta
    if meta.defense not in DEFENSES.names():
        raise UserError(
            f"defense '{meta.defense}' is not installed here, so no cell can be trained again: install {meta.code}"
        )
    results = []
    for facts in picked:
        tick(f"{title(facts.defense, facts.strength)} {facts.subject}")
        cell = real_defense(facts, subjects, dict(meta.run.resolved_options))
        for name in cell.defense.surrogates():
            if name not in ATTACKERS.names():
                raise UserError(f"the bundle's surrogate '{name}' is not installed here")
        own, posted = lab.outputs(cell).images, bundle.images(facts, lab.base.side)
        gray = np.abs(own.astype(int) - posted).mean((1, 2, 3))
        scores = []
        for linker in linkers.values():
            both = [linker.link(cell, linker.attacker.embed(list(x))) for x in (own, posted)]
            known = both[0].acquired & both[1].acquired
            if known.any():
                scores.append(abs(float(np.mean(both[0].mated[known]) - np.mean(both[1].mated[known]))))
        results.append(Retrained(facts, float(np.median(gray)), max(scores, default=float("nan"))))
    return results
