"""More photos of a chosen person: other poses, hair, light, clothes and backdrops, as long as the referee sees one person."""

from pathlib import Path

import numpy as np

from iddmbench.photos.references import resize
from iddmbench.seeds import Seeds
from iddmbench.synthetic.blocks import Block, joined, load, save, stack
from iddmbench.synthetic.draws import KEPT_SIDE, READ_SIDE, Look, look, person_style
from iddmbench.synthetic.generator import Generator
from iddmbench.synthetic.readings import FaceReader
from iddmbench.synthetic.select import flaw

SAME = 0.5
"""Least referee cosine between a photo and the person's first one."""

TRIES = {"reference": 5, "enrolment": 5, "surrogate": 5, "public": 8}
"""Draws per wanted photo of each split, at most."""

SPLITS = {
    "reference": (4, Look(coarse=1, fine=0.5)),
    "enrolment": (4, Look(coarse=1, fine=1)),
    "surrogate": (4, Look(coarse=1, fine=0.6)),
}
"""Photos of each split of a subject and how they are drawn. Each enrolment photo has light, colours, clothes and backdrop of
its own: who links by those alone must fail."""

PUBLIC = {"public": (6, Look(coarse=1, fine=0.6))}


def photos_of(
    generator: Generator, reader: FaceReader, seeds: Seeds, work: Path, first: Block, row: int, subject: bool
) -> Block | None:
    """All photos of the person in row `row` of the candidates; None when too few draws were fit.

    Made once and kept in `work`. The candidate's own photo is the first of its first split. Columns of `draws`: person,
    split (its place in SPLITS), number of the draw (-1: first photo), end and start of the mixed-in layers.
    """
    person = int(first.draws[row, 0])
    path = work / ("subjects" if subject else "public") / f"{person:05d}.npz"
    splits = SPLITS if subject else PUBLIC
    if not path.is_file():
        save(path, _draw(generator, reader, seeds, first, row, splits))
    block = load(path)
    return block if len(block) == sum(count for count, _ in splits.values()) else None


def _draw(
    generator: Generator,
    reader: FaceReader,
    seeds: Seeds,
    first: Block,
    row: int,
    splits: dict[str, tuple[int, Look]],
) -> Block:
    person = int(first.draws[row, 0])
    own = person_style(generator, seeds, person)
    one = slice(row, row + 1)
    start = Block(first.photos[one], np.array([[person, 0, -1, 0, 0]]), {k: v[one] for k, v in first.values.items()})
    kept = [start]
    for number, (name, (wanted, chances)) in enumerate(splits.items()):
        have = 1 if number == 0 else 0
        for attempt in range(TRIES[name] * wanted):
            photo, (low, high) = look(generator, own, seeds.child("photo", person, name, attempt), chances)
            reading = reader.read(resize(photo, READ_SIDE))
            block = stack([resize(photo, KEPT_SIDE)], [(person, number, attempt, low, high)], [reading])
            if fits(start, block):
                kept.append(block)
                have += 1
            if have == wanted:
                break
        if have < wanted:
            break
    return joined(kept)


def fits(start: Block, block: Block) -> bool:
    """Whether the one photo in `block` shows the person of the one in `start`: an adult, of the same sex, recognized."""
    if flaw(block, 0, youngest=20, clear=0.5):
        return False
    same_sex = (start.values["male"][0] > 0.5) == (block.values["male"][0] > 0.5)
    return bool(same_sex and float(start.values["embedding"][0] @ block.values["embedding"][0]) > SAME)
