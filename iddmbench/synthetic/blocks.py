"""Generated photos with their readings, in files of some hundred each, so that the work can be cut off and go on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from iddmbench.store.files import replacing
from iddmbench.synthetic.readings import Reading


@dataclass(frozen=True)
class Block:
    """N photos, uint8 [N, S, S, 3], the draw that each came from, int [N, columns], and their readings.

    `values` holds each field of `Reading`, stacked: float or bool [N, ...].
    """

    photos: np.ndarray
    draws: np.ndarray
    values: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.draws)


def stack(photos: Sequence[np.ndarray], draws: Sequence[Sequence[int]], readings: Sequence[Reading]) -> Block:
    rows = [asdict(reading) for reading in readings]
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}
    return Block(np.array(photos, np.uint8), np.array(draws, np.int64), values)


def save(path: Path, block: Block) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"value_{name}": array for name, array in block.values.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, photos=block.photos, draws=block.draws, **arrays)


def load(path: Path, photos: bool = True) -> Block:
    """`photos=False` leaves the pixels unread: their array is empty."""
    with np.load(path) as file:
        values = {f.name: file[f"value_{f.name}"] for f in fields(Reading)}
        pixels = file["photos"] if photos else np.zeros((0, 0, 0, 3), np.uint8)
        return Block(pixels, file["draws"], values)


def joined(blocks: Sequence[Block]) -> Block:
    return Block(
        np.concatenate([b.photos for b in blocks]),
        np.concatenate([b.draws for b in blocks]),
        {name: np.concatenate([b.values[name] for b in blocks]) for name in blocks[0].values},
    )
