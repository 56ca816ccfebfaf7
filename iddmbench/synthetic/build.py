"""Make the dataset again: `python -m iddmbench.synthetic.build OUT`. A second call goes on where one was cut off."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.seeds import Seeds
from iddmbench.synthetic.blocks import Block, joined, load
from iddmbench.synthetic.card import write_card, write_croissant
from iddmbench.synthetic.draws import candidates, training_faces
from iddmbench.synthetic.generator import Generator
from iddmbench.synthetic.pack import TUNING_EVERY, Row, rows_of, write
from iddmbench.synthetic.people import PUBLIC as PUBLIC_SPLITS
from iddmbench.synthetic.people import SPLITS, TRIES, photos_of
from iddmbench.synthetic.readings import FaceReader
from iddmbench.synthetic.select import choose, group, listed

VERSION = "1.0.0"
CANDIDATES = 1250
SUBJECTS, PUBLIC = 60, 240
SPARE = 1.2
"""People chosen per person needed: not everyone has enough photos in which the referee sees one person."""


def make_first(seeds: Seeds, work: Path, log: Callable[[str], None], count: int = CANDIDATES) -> Block:
    """First photos of all candidates."""
    candidates(Generator(seeds), FaceReader(), seeds, work, range(count), log)
    return first_photos(work, count)


def first_photos(work: Path, count: int = CANDIDATES) -> Block:
    return joined([load(work / "candidates" / f"{start:05d}.npz") for start in range(0, count, 50)])


def people(
    generator: Generator, reader: FaceReader, seeds: Seeds, work: Path, first: Block, log: Callable[[str], None]
) -> Iterator[tuple[list[Row], Block]]:
    """The people in their final order and under their final names, subjects before public people."""
    waiting: dict[int, list[int]] = {0: [], 1: []}
    again: dict[int, list[int]] = {0: [], 1: []}
    not_one = listed("excluded_people.txt")
    for row in choose(first, round(SPARE * (SUBJECTS + PUBLIC) / 2)).rows:
        if int(first.draws[row, 0]) not in not_one:
            waiting[group(first, row)[0]].append(row)
    for role, count, letter in (("subject", SUBJECTS, "s"), ("public", PUBLIC, "p")):
        if role == "public":
            for sex, rows in again.items():
                waiting[sex] += rows
        for number in range(count):
            photos = None
            while photos is None:
                # men and women in turn, until one of the two lists is empty
                queue = waiting[number % 2] or waiting[1 - number % 2]
                if not queue:
                    raise UserError(f"{work}: the ran out of candidates at {role} {number}: raise CANDIDATES")
                row = queue.pop(0)
                photos = photos_of(generator, reader, seeds, work, first, row, role == "subject")
                if photos is None:
                    log(f"candidate {int(first.draws[row, 0])} has too few photos of one person for a {role}")
                    if role == "subject":  # a public person needs half as many
                        again[group(first, row)[0]].append(row)
            name = f"{letter}{number + 1:0{2 if role == 'subject' else 3}d}"
            log(f"{name}: candidate {int(first.draws[row, 0])}")
            # every fifth of each sex, so that the tuning subjects are balanced too
            tuning = role == "subject" and number // 2 % TUNING_EVERY == TUNING_EVERY - 1
            yield rows_of(name, role, tuning, photos), photos


def left_out(first: Block) -> dict[str, int]:
    """Candidates that did not become people of the dataset, by reason."""
    return dict(choose(first, round(SPARE * (SUBJECTS + PUBLIC) / 2)).dropped)


def kept_shares(work: Path) -> dict[str, float]:
    """Share of the drawn photos that were kept, by split, over all people for whom photos were drawn."""
    shares = {}
    for folder, splits in (("subjects", SPLITS), ("public", PUBLIC_SPLITS)):
        blocks = [load(path, photos=False).draws for path in sorted((work / folder).glob("*.npz"))]
        for number, (name, (wanted, _)) in enumerate(splits.items()):
            kept = drawn = 0
            for draws in blocks:
                rows = draws[(draws[:, 1] == number) & (draws[:, 2] >= 0)]
                full = len(rows) + (number == 0) == wanted
                begun = number == 0 or (draws[:, 1] == number - 1).sum() >= wanted
                kept += len(rows)
                drawn += int(rows[-1, 2]) + 1 if full else TRIES[name] * wanted * begun
            shares[name] = kept / max(drawn, 1)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m iddmbench.synthetic.build", description=__doc__)
    parser.add_argument("out", type=Path, help="folder that the dataset's files are written to")
    parser.add_argument("--work", type=Path, default=Path("synthetic-work"), help="folder for intermediate files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faces", type=int, help="instead make this many training faces for micro-rgb in WORK")
    parser.add_argument(
        "--measured", type=Path, help="what benchmarks/synthetic_photos.py wrote of the files, for the card"
    )
    given = parser.parse_args()

    def log(text: str) -> None:
        print(text, flush=True)

    seeds = Seeds(given.seed).child("synthetic")
    try:
        if given.faces:
            training_faces(Generator(seeds), FaceReader(), seeds, given.work, given.faces, log)
            return
        first = make_first(seeds, given.work, log)
        table = write(given.out, people(Generator(seeds), FaceReader(), seeds, given.work, first, log))
        write_croissant(given.out, VERSION)
        measured = json.loads(given.measured.read_text()) if given.measured else {}
        write_card(given.out, table, len(first), left_out(first), kept_shares(given.work), measured)
        log(f"{len(table)} photos written to {given.out}")
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
