"""Training cells again from a bundle's configuration and seeds, to see whether its images come from there.

Training is chaotic in its last bits: another number of threads, another processor or library takes sums in another order, and
under IDDM the images then differ visibly while their scores hardly do. So a cell is judged by scores and rates, within what
the very same settings show (docs/protocol.md, "Repeatability"); that pixels are equal is reported, and only where that could
be expected.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from iddmbench.attacker import ATTACKERS
from iddmbench.cells.cell import Outputs
from iddmbench.cells.stages import CellStages
from iddmbench.defense import DEFENSES
from iddmbench.errors import UserError, one_line
from iddmbench.linking.linker import Linker
from iddmbench.run.environment import environment
from iddmbench.seeds import Seeds
from iddmbench.submission.authenticity import title
from iddmbench.submission.read import Bundle
from iddmbench.submission.schema import CellFacts, Machine
from iddmbench.submission.stages import real_defense
from iddmbench.types import Subject

SCORE = 0.5
"""What the mean score of a cell's images to their subject's template may differ by, in units of `score_unit`."""
RATE = 0.45
"""What a rate over a cell's images may: linked at rank 1, faces found."""
QUALITY = {"SER-FIQ": 0.1, "closeness": 0.1, "realism": 0.1, "kept look": 0.25, "adherence": 0.55}
"""What the means of these utility figures may."""
IMAGES = 16
"""Images of a cell on which these were measured (docs/protocol.md). A mean over fewer varies more, by the square root."""
MOST_THREADS = 64
VERSIONS = ("iddmbench", "torch", "diffusers", "transformers", "peft", "numpy")
"""Packages that must have the submitter's versions before equal pixels can be expected."""


@dataclass(frozen=True)
class Compared:
    """A figure of a cell's images: as posted, retrained, and how far the two may differ. NaN: no face to compare."""

    name: str
    posted: float
    again: float
    allowed: float

    @property
    def fits(self) -> bool:
        return not abs(self.posted - self.again) > self.allowed

    def __str__(self) -> str:
        return f"{self.name} {self.posted:.3f} as posted, {self.again:.3f} retrained (tolerance {self.allowed:.2g})"


@dataclass(frozen=True)
class Retrained:
    """A retrained cell.

    Attributes:
        figures: all that it is judged by.
        gray: median over its images of the mean absolute difference from the posted one, in gray levels 0-255. Not judged.
        equal: images that are the posted ones pixel by pixel; None where threads, versions or processor are not the
            submitter's.
        error: why it could not be retrained; empty if it could.
    """

    cell: CellFacts
    figures: tuple[Compared, ...] = ()
    gray: float = math.nan
    images: int = 0
    equal: int | None = None
    error: str = ""

    @property
    def agrees(self) -> bool:
        return not self.error and all(figure.fits for figure in self.figures)

    def __str__(self) -> str:
        where = f"{title(self.cell.defense, self.cell.strength)}, {self.cell.subject}, seed {self.cell.seed}"
        if self.error:
            return f"{where}: could not be retrained: {self.error}"
        if others := [str(figure) for figure in self.figures if not figure.fits]:
            return f"{where}: retrained, {', '.join(others)}"
        scores = [abs(f.posted - f.again) for f in self.figures if f.name.endswith("score")]
        known = [s for s in scores if not math.isnan(s)]
        text = f"mean scores differ by {max(known):.3f}" if known else "no face to compare"
        pixels = (
            f"by {self.gray:.1f} gray levels" if self.equal is None else f"not at all in {self.equal} of {self.images}"
        )
        return f"{where}: retrained, {text}, images {pixels}"


def pick(cells: Sequence[CellFacts], count: int, seed: int) -> list[CellFacts]:
    """`count` of the finished defended cells, drawn at random; of the anchors where there is nothing else."""
    finished = [c for c in cells if c.status == "ok"]
    wanted = [c for c in finished if c.strength is not None] or finished
    drawn = Seeds(seed).child("retrain").numpy().permutation(len(wanted))[:count]
    return [wanted[i] for i in sorted(drawn)]


def retrain(
    bundle: Bundle,
    picked: Sequence[CellFacts],
    stages: CellStages,
    subjects: dict[str, Subject],
    linkers: dict[str, Linker],
    tick: Callable[[str], None] = lambda name: None,
) -> list[Retrained]:
    """Train each picked cell in `stages`, on as many threads as the submitter did, and compare it with the bundle's.

    A cell that raises is a result too. Raises UserError when the defense, or a surrogate that its options name, is not
    installed
    here: a bundle brings no code.
    """
    meta = bundle.meta
    if meta.defense not in DEFENSES.names():
        raise UserError(
            f"defense '{meta.defense}' is not installed here, so no cell can be retrained: install {meta.code}"
        )
    results = []
    with threads(meta.machine.torch_threads):
        exact = same_computation(meta.machine, environment())
        for facts in picked:
            tick(f"{title(facts.defense, facts.strength)} {facts.subject}")
            cell = real_defense(facts, subjects, dict(meta.run.resolved_options))
            for name in cell.defense.surrogates():
                if name not in ATTACKERS.names():
                    raise UserError(f"the bundle's surrogate '{name}' is not installed here")
            posted = bundle.images(facts, stages.base.side)
            try:
                again = stages.outputs(cell)
            except Exception as error:  # a stranger's options may make a defense raise anything
                results.append(Retrained(facts, error=one_line(error)[:200]))
                continue
            sent = Outputs(posted, again.prompts, {"posted": hashlib.sha256(posted.tobytes()).hexdigest()}, {}, {})
            seen, own = (observed(stages, cell, outputs, linkers) for outputs in (sent, again))
            units = {name: score_unit(linker) for name, linker in linkers.items()}
            gray = np.abs(again.images.astype(int) - posted).mean((1, 2, 3))
            results.append(
                Retrained(
                    facts,
                    compared(seen, own, units, len(posted)),
                    float(np.median(gray)),
                    len(posted),
                    int((gray == 0).sum()) if exact else None,
                )
            )
    return results


def observed(stages: CellStages, cell: Any, outputs: Outputs, linkers: dict[str, Linker]) -> dict[str, float]:
    """The figures of one cell's images that a second training must reproduce."""
    found = {}
    for name, linker in linkers.items():
        linked = linker.link(cell.subject.label, linker.attacker.embed(list(outputs.images)))
        known = linked.mated[linked.acquired]
        found[f"{name}: mean score"] = float(known.mean()) if len(known) else math.nan
        found[f"{name}: linked at rank 1"] = float(np.mean(linked.acquired & (linked.rank == 1)))
        found[f"{name}: faces found"] = float(np.mean(linked.acquired))
    quality = stages.utility.measure(cell.subject, outputs)
    means = {
        "SER-FIQ": quality.ser_fiq,
        "closeness": quality.closeness,
        "realism": quality.realism,
        "kept look": quality.kept_look,
        "adherence": quality.adherence,
    }
    return found | {name: _known_mean(values) for name, values in means.items()}


def _known_mean(values: np.ndarray) -> float:
    """The mean of what has a value: a prompt need not ask for a pose."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def score_unit(linker: Linker) -> float:
    """The way from a stranger's mean score to the score that one stranger in a hundred passes. Systems differ: it is about 0.3
    of SFace's cosine and 0.06 of dlib's."""
    return float(np.quantile(linker.impostors, 0.99) - linker.impostors.mean())


def compared(
    posted: dict[str, float], again: dict[str, float], units: Mapping[str, float], images: int
) -> tuple[Compared, ...]:
    """The figures of `observed` side by side; `units` of scores by attacker."""
    few = max(1.0, math.sqrt(IMAGES / images))
    found = []
    for name, value in posted.items():
        attacker, _, figure = name.rpartition(": ")
        limit = SCORE * units[attacker] if figure == "mean score" else QUALITY.get(name, RATE)
        found.append(Compared(name, value, again[name], limit * few))
    return tuple(found)


def same_computation(theirs: Machine, own: dict[str, Any]) -> bool:
    """Whether threads, versions and processor are those of the submitter, so that images may be equal pixel by pixel."""
    versions = all(theirs.packages.get(name) == own["packages"].get(name) for name in VERSIONS)
    same = all(getattr(theirs, key) == own[key] for key in ("torch_threads", "processor", "gpu", "python"))
    return versions and same


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many CPU threads for a while; as before where the number is unknown (0), or is none that this machine should start."""
    import torch

    before = torch.get_num_threads()
    if 0 < count <= min(MOST_THREADS, 4 * (os.cpu_count() or 1)):
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
