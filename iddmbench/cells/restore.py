"""The networks of an attacker that restores images first (`inverse`): on whom each is trained, and from what to what."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from iddmbench.adaptive import restoration_of
from iddmbench.adaptive.inverse import Restored
from iddmbench.adaptive.posts import Restoration
from iddmbench.attacker import Attacker
from iddmbench.cells.cell import Cell
from iddmbench.cells.condition import PlannedCondition
from iddmbench.cells.stages import CellStages
from iddmbench.errors import UserError
from iddmbench.nets.restorer import BATCH, CODE, Restorer, shrunk, train_restorer
from iddmbench.results.findings import FACT, Finding
from iddmbench.results.summary import UNDEFENDED
from iddmbench.seeds import Seeds
from iddmbench.store.cache import digest
from iddmbench.store.files import read_tensors, write_tensors
from iddmbench.types import Embeddings

WEIGHTS = "restorer.safetensors"
LOOKED_AT = 8
"""Pixels a side at which the nearest reference is searched: pose and light, not the face."""


def training_sets(people: Sequence[str], folds: int) -> dict[frozenset[int], frozenset[str]]:
    """Left-out folds, one or two -> everybody else. The target's fold is left out to attack; that and another, to calibrate a
    threshold on somebody whom the network saw as little as the target."""
    fold = _folds(people, folds)
    left_out = [frozenset(part) for size in (1, 2) for part in combinations(range(max(fold.values()) + 1), size)]
    return {out: frozenset(name for name in people if fold[name] not in out) for out in left_out}


def _folds(people: Sequence[str], folds: int) -> dict[str, int]:
    return {name: i % min(folds, len(people)) for i, name in enumerate(sorted(people))}


def restored_views(
    stages: CellStages,
    how: Restoration,
    attacker: Attacker,
    cells: Sequence[Cell],
    undefended: Mapping[str, Cell],
) -> list[dict[frozenset[str], Embeddings]]:
    """For each cell, its images as the attacker sees them after each network that was not trained on their person, by whom that
    was trained on.

    Args:
        cells: of one condition and seed, one per person. undefended: by the person's label; of the same seed.

    Networks and embeddings are stored. Raises UserError where there is nothing to learn from.
    """
    people = [cell.subject.label for cell in cells]
    by_label = dict(zip(people, cells, strict=True))
    pairs: dict[str, tuple[Tensor, Tensor]] = {}

    def pair(label: str) -> tuple[Tensor, Tensor]:
        if label not in pairs:
            pairs[label] = _pair(stages, by_label[label], undefended.get(label), how.side)
        return pairs[label]

    views = {}
    for trained_on in filter(None, training_sets(people, how.folds).values()):
        chosen = sorted(trained_on)
        key = _key(stages, how, [(by_label[label], undefended.get(label)) for label in chosen])

        def train(out: Path, chosen: Sequence[str] = chosen) -> None:
            before, after = (torch.cat(parts) for parts in zip(*map(pair, chosen), strict=True))
            seeds = Seeds(how.seed).child("attacker", "inverse")
            net = train_restorer(before, after, how.steps, how.width, seeds)
            write_tensors(out / WEIGHTS, dict(net.state_dict()))

        network = Restorer(how.width, how.side, Seeds(how.seed))
        network.load_state_dict(read_tensors(stages.store.fetch("restorer", key, train) / WEIGHTS))
        views[trained_on] = Restored(attacker, network.eval(), digest(key))
    found = []
    for cell in cells:
        outputs = stages.outputs(cell)
        usable = {people: view for people, view in views.items() if cell.subject.label not in people}
        found.append({people: stages.embed(view, outputs)[0] for people, view in usable.items()})
    return found


def _key(stages: CellStages, how: Restoration, pairs: Sequence[tuple[Cell, Cell | None]]) -> dict[str, Any]:
    """What a network depends on; people in order."""
    return {
        "pairs": [[digest(stages.image_key(cell)), _truth_digest(stages, cell, clean)] for cell, clean in pairs],
        **{"steps": how.steps, "width": how.width, "side": how.side, "seed": how.seed, "batch": BATCH},
        "code": CODE,
        "versions": {"torch": stages.versions["torch"]},
    }


def _truth_digest(stages: CellStages, cell: Cell, clean: Cell | None) -> str:
    """Of both that may serve: which does, depends on the images."""
    recipe = stages.base.recipe
    shown = [photo.digest for photo in cell.subject.references]
    crop = [stages.crops.detector.fingerprint(), stages.base.side, recipe.grayscale, recipe.frame]
    return digest({"clean": stages.image_key(clean) if clean else None, "references": shown, "crop": crop})


def undefended_cells(conditions: Sequence[PlannedCondition], seed: int) -> dict[str, Cell]:
    """The run's undefended cells of a seed, by the person's label."""
    cells = (cell for condition in conditions if condition.defense.name == UNDEFENDED for cell in condition.cells)
    return {cell.subject.label: cell for cell in cells if cell.seed == seed}


def _pair(stages: CellStages, cell: Cell, clean: Cell | None, side: int) -> tuple[Tensor, Tensor]:
    """A cell's images and what they should be, float [N, 3, side, side] each: the undefended ones of the same prompts and
    noise, else the nearest references."""
    posted = shrunk(stages.outputs(cell).images, side)
    if clean is not None:
        truth = shrunk(stages.outputs(clean).images, side)
        if len(truth) == len(posted):
            return posted, truth
    references = shrunk(stages.crops.references(cell.subject), side)
    if not len(references):
        raise UserError(
            f"it learns to undo the defense, but there are neither undefended images nor references of {cell.subject.name}"
        )
    return posted, references[_nearest(posted, references)]


def _nearest(images: Tensor, references: Tensor) -> Tensor:
    """int [N]: for each image the reference with the least squared difference at a few pixels."""
    small, known = (F.adaptive_avg_pool2d(part, LOOKED_AT).flatten(1) for part in (images, references))
    return torch.cdist(small, known).argmin(1)


def training_findings(attackers: Sequence[str], conditions: Sequence[PlannedCondition]) -> Iterator[Finding]:
    """How many networks such attackers train, for the table `premise`: said before anything is trained."""
    for name in attackers:
        how = restoration_of(name)
        if how is None:
            continue
        count = sum(
            len(training_sets([c.subject.label for c in condition.cells if c.seed == seed], how.folds))
            for condition in conditions
            for seed in condition.seeds
            if condition.defense.name != UNDEFENDED  # there is nothing to undo
        )
        text = (
            f"{name} trains {count} small networks to undo the defense ({how.steps} steps at {how.side} x {how.side} pixels "
            "each), when a condition is scored, and stores them"
        )
        yield Finding("simulated", FACT, "", "", name, text)
