"""Conditions whose images are the undefended model's, or one image many times."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from iddmbench.submission.authenticity import COPY, SAME, Posted, by_condition
from iddmbench.submission.images import distances, hashes
from iddmbench.submission.schema import CellFacts

MOST = 0.5
"""Share of a condition's images that may be the undefended model's. A weak blur of the outputs leaves one in six that near,
every other defense at strength 0.5 and above none."""
GRAY = 1.0
"""Gray levels, on average over pixels, within which an image is another one."""
REPEATED = 0.35
"""Share of a cell's images that may repeat another of it, beyond what repeats in the undefended model's cells. On the embedded
base that is one in sixteen; coarse pixelation makes it one in four, every other defense one in five at most."""


def undefended_images(
    posted: Sequence[Posted],
    images: Callable[[CellFacts], np.ndarray],
    undefended: Mapping[tuple[str, int], np.ndarray],
) -> list[str]:
    """Defended conditions most of whose images are undefended ones of the same subject and seed, re-coded, mirrored or in
    another order. Strength 0 is no defense, and may be.

    Args:
        images: uint8 [N, S, S, 3] of a cell.
        undefended: uint8 [M, S, S, 3] of the undefended model, by (subject, seed).
    """
    problems = []
    for name, cells in by_condition(posted):
        if not cells[0].cell.strength:
            continue
        same = total = 0
        for one in cells:
            plain = undefended.get(one.key)
            if plain is None or not len(plain):
                continue
            same += int((_is_one_of(images(one.cell), one.bits, plain) & ~one.flat).sum())
            total += int((~one.flat).sum())
        if same > MOST * total:
            problems.append(f"{name}: {same} of {total} images are the undefended model's images")
    return problems


def _is_one_of(images: np.ndarray, bits: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `images` are one of `others` by hash or pixels: bool [N]."""
    views = np.concatenate([others, others[:, :, ::-1]])
    near = distances(bits, hashes(views))
    gray = np.full(near.shape, np.inf)
    for i, j in np.argwhere(near <= 2 * COPY):  # farther ones are no candidates
        gray[i, j] = np.abs(images[i].astype(int) - views[j]).mean()
    return np.asarray(((near <= SAME) | (gray <= GRAY)).any(axis=1))


def repeated_images(posted: Sequence[Posted], undefended: Mapping[tuple[str, int], np.ndarray]) -> list[str]:
    """Conditions with a cell that repeats its own images more than the undefended model does.

    Args:
        undefended: hashes bool [N, 256] by (subject, seed); models that memorize repeat themselves a little.
    """
    usual = max((surplus(bits) for bits in undefended.values() if len(bits)), default=0.0)
    problems = []
    for name, cells in by_condition(posted):
        if cells[0].cell.strength is None:
            continue
        worst = max(cells, key=lambda one: surplus(one.bits[~one.flat]))
        bits = worst.bits[~worst.flat]
        if len(bits) > 1 and surplus(bits) > usual + REPEATED:
            count = round(surplus(bits) * len(bits))
            problems.append(
                f"{name}: {count} of {len(bits)} images of {worst.cell.subject} are near-copies of others of the same cell, of "
                f"the undefended model at most {usual:.0%}"
            )
    return problems


def surplus(bits: np.ndarray) -> float:
    """Share of images, bool [N, 256], that an earlier image which counts is already within COPY bits of."""
    kept: list[int] = []
    near = distances(bits, bits) <= COPY
    for i in range(len(bits)):
        if not near[i, kept].any():
            kept.append(i)
    return 1 - len(kept) / len(bits) if len(bits) else 0.0
