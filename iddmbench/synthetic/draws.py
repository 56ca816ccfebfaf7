"""From seeds to photos: candidates for people, more photos of those chosen, and faces to train the colour base on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iddmbench.photos.references import face_square, resize
from iddmbench.seeds import Seeds
from iddmbench.synthetic.blocks import Block, load, save, stack
from iddmbench.synthetic.generator import LAYERS, Generator, mixed
from iddmbench.synthetic.readings import FaceReader

OWN, OTHER = 0.95, 0.8
"""Truncation of a person's own style and of the styles mixed in. At 0.7, one pair of people in fifteen is closer than 0.35
under the referee, at 0.95 one in sixty: 300 different people need the width."""

KEPT_SIDE = 256
"""Side of the photos in the working folder."""

READ_SIDE = 160
"""Side at which photos are read and shipped."""

FACE_SIDE = 96
"""Side of the training faces' squares; the base learns views of them at 64 pixels."""

FACE_FRAME = 1.6
"""Side of the training faces' squares in face boxes."""

COARSE, FINE = (2, 5), (11, 15)
"""Where the mixed-in layers end and begin: ranges that numpy draws from, the upper end excluded."""


@dataclass(frozen=True)
class Look:
    """Shares of the photos that take their coarse and their fine layers from another style."""

    coarse: float
    fine: float


def look(generator: Generator, own: np.ndarray, seeds: Seeds, chances: Look) -> tuple[np.ndarray, tuple[int, int]]:
    """A photo of the person with the style `own`: uint8 [512, 512, 3], and where the mixed-in layers end and begin."""
    rng = seeds.child("layers").numpy()
    first = int(rng.integers(*COARSE)) if rng.random() < chances.coarse else 0
    last = int(rng.integers(*FINE)) if rng.random() < chances.fine else LAYERS
    coarse = generator.style(seeds.child("coarse"), OTHER)
    fine = generator.style(seeds.child("fine"), OTHER)
    return generator.photo(mixed(own, coarse, fine, first, last)), (first, last)


def person_style(generator: Generator, seeds: Seeds, person: int) -> np.ndarray:
    return generator.style(seeds.child("person", person), OWN)


def candidates(
    generator: Generator, reader: FaceReader, seeds: Seeds, work: Path, numbers: range, log: Callable[[str], None]
) -> None:
    """First photos of people `numbers`, in blocks of 50 that are made once: the person's own style in every layer."""
    for start in numbers[::50]:
        path = work / "candidates" / f"{start:05d}.npz"
        if path.is_file():
            continue
        photos, draws, readings = [], [], []
        for person in range(start, start + 50):
            own = person_style(generator, seeds, person)
            photo = generator.photo(mixed(own, own, own, 0, 0))
            readings.append(reader.read(resize(photo, READ_SIDE)))
            photos.append(resize(photo, KEPT_SIDE))
            draws.append((person,))
        save(path, stack(photos, draws, readings))
        log(f"candidates {start}-{start + 49}")


def training_faces(
    generator: Generator, reader: FaceReader, seeds: Seeds, work: Path, count: int, log: Callable[[str], None]
) -> None:
    """At least `count` face squares of further people, one photo of each, in blocks of 200 draws that are made once.

    Where no single face is found, or faceres reads less than 20 years, the draw is left out.
    """
    made, block = 0, 0
    while made < count:
        path = work / "faces" / f"{block:04d}.npz"
        if not path.is_file():
            save(path, _faces(generator, reader, seeds, block))
            log(f"training faces {made} of {count}")
        made += len(load(path, photos=False))
        block += 1


def _faces(generator: Generator, reader: FaceReader, seeds: Seeds, block: int) -> Block:
    squares, draws, readings = [], [], []
    for number in range(200 * block, 200 * block + 200):
        draw = seeds.child("training face", number)
        photo, _ = look(generator, generator.style(draw.child("own"), OWN), draw, Look(coarse=0.5, fine=0.5))
        reading = reader.read(resize(photo, READ_SIDE))
        if not reading.found or reading.age < 20:
            continue
        squares.append(resize(face_square(photo, reading.box * len(photo), FACE_FRAME), FACE_SIDE))
        draws.append((number,))
        readings.append(reading)
    return stack(squares, draws, readings)
