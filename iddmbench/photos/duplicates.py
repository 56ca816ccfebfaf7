"""The same picture in two places: by its pixels, or nearly so (compressed again, resized, brightened)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 16
ALIKE = 0.997
"""Correlation of two pictures shrunk to SIDE x SIDE gray pixels from which on they are one. On ORL, where ten photos of a
person were taken in a row, two different ones reach 0.9927; the same one stays above 0.9992 after JPEG at quality 30
or halving.
A picture that was cropped by two pixels is not found (0.95 and less)."""
BLOCK = 1024


@dataclass(frozen=True)
class Same:
    """Pictures that are one: their places in the sequence, in order; whether all pixels agree."""

    places: tuple[int, ...]
    exact: bool


def thumbnail(image: np.ndarray) -> np.ndarray:
    """float32 [SIDE * SIDE] of unit length and zero mean: uint8 [H, W, 3] in gray; zeros for a picture of one gray level."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    norm = np.linalg.norm(small)
    return small / norm if norm > 1e-3 else np.zeros_like(small)


def same_pictures(hashes: Sequence[str], thumbnails: np.ndarray) -> list[Same]:
    """Groups of two and more, each picture in one group at most.

    Args:
        hashes: of each picture's pixels. thumbnails: float32 [N, SIDE * SIDE], as `thumbnail` makes them.
    """
    parent = list(range(len(hashes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, name in enumerate(hashes):
        parent[root(i)] = root(first.setdefault(name, i))
    for start in range(0, len(hashes), BLOCK):
        block = thumbnails[start : start + BLOCK] @ thumbnails.T
        for i, j in zip(*np.nonzero(block >= ALIKE), strict=True):
            if start + i < j:
                parent[root(int(j))] = root(int(start + i))
    groups: dict[int, list[int]] = {}
    for i in range(len(hashes)):
        groups.setdefault(root(i), []).append(i)
    return [Same(tuple(g), len({hashes[i] for i in g}) == 1) for g in groups.values() if len(g) > 1]
