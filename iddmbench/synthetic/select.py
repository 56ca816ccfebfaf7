"""Who becomes one of the dataset's people: filters on first photos, then an even spread over sex, age and skin tone."""

from collections import defaultdict
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np

from iddmbench.synthetic.blocks import Block

YOUNGEST = 25
"""Least age, as faceres reads it, of a first photo. It misses some children at a lower bar, so the bar stands well above 18."""

CLEAR_SEX = 0.75
"""Least probability of the likelier sex on a first photo."""

SHARPEST = 120.0
"""Least `sharpness` of a photo."""

TURNED = 0.45
"""Greatest offset of the nose tip, in eye distances: a face in profile has one eye too few."""

DUPLICATE = 0.4
"""Two people whose first photos are this close or closer under the referee are one too many."""

AGES = (31.0, 38.0)
TONES = (10.0, 28.0, 41.0)
"""Bounds of the age groups (years, faceres) and of the skin tone groups (angle in degrees: brown and dark, tan,
intermediate, light; Chardot's classes, the darkest two joined)."""


@dataclass
class Choice:
    """Rows of the candidates that were chosen, men and women in turn, and how many were dropped for which reason."""

    rows: list[int] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def listed(name: str) -> dict[int, str]:
    """Candidates left out by eye, and why: the lines `number reason` of a file beside this one.

    excluded.txt: because of the first photo. excluded_people.txt: because of the other photos, after the choice.
    """
    text = (files("iddmbench.synthetic") / name).read_text(encoding="utf-8")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {int(number): reason for number, reason in lines}


def flaw(block: Block, row: int, youngest: float = YOUNGEST, clear: float = CLEAR_SEX) -> str | None:
    """Why a photo can't be used, or None."""
    v = block.values
    if not v["found"][row]:
        return "no face or several"
    if v["age"][row] < youngest:
        return "may be a minor"
    if max(v["male"][row], 1 - v["male"][row]) < clear:
        return "sex unclear"
    if v["sharpness"][row] < SHARPEST:
        return "blurred"
    if abs(v["yaw"][row]) > TURNED:
        return "turned away"
    return None


def group(block: Block, row: int) -> tuple[int, int, int]:
    """Sex (1: man), age group and tone group of a photo."""
    v = block.values
    tone = int(np.searchsorted(TONES, v["tone"][row]))
    return int(v["male"][row] > 0.5), int(np.searchsorted(AGES, v["age"][row])), tone


def choose(first: Block, per_sex: int) -> Choice:
    """Up to `per_sex` men and as many women, no two of them alike.

    Sexes take turns; within a sex, the next person comes from the age and tone group that has the fewest so far, and is the
    earliest candidate of it who resembles nobody chosen before. So the first ones of the list are spread most evenly.
    """
    out = Choice()
    by_eye = listed("excluded.txt")
    waiting: dict[int, dict[tuple[int, int], list[int]]] = {0: defaultdict(list), 1: defaultdict(list)}
    for row in range(len(first)):
        reason = flaw(first, row)
        if reason is None and int(first.draws[row, 0]) in by_eye:
            reason = "left out by eye"
        if reason:
            out.dropped[reason] += 1
            continue
        sex, age, tone = group(first, row)
        waiting[sex][age, tone].append(row)
    counts: dict[int, dict[tuple[int, int], int]] = {0: defaultdict(int), 1: defaultdict(int)}
    vectors = first.values["embedding"]
    for turn in range(2 * per_sex):
        sex = turn % 2
        while any(waiting[sex].values()):
            cell = min((c for c, rows in waiting[sex].items() if rows), key=lambda c: (counts[sex][c], c))
            row = waiting[sex][cell].pop(0)
            if out.rows and float((vectors[out.rows] @ vectors[row]).max()) >= DUPLICATE:
                out.dropped["like an earlier person"] += 1
                continue
            out.rows.append(row)
            counts[sex][cell] += 1
            break
    out.dropped["not needed"] = sum(len(rows) for cells in waiting.values() for rows in cells.values())
    return out
