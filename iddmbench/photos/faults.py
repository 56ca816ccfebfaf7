"""Possible faults of a photo of one person: several faces, rotated, too small."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from iddmbench.faces.detect import Detector, YuNet

SMALLEST = 32
"""Pixels of the longer side of a face box, below which there is too little to compare: crops for recognition have 112."""
PROMINENT = 0.5
"""Width of a second face, as a share of the first one's, from which on it may be the person that is meant."""
SURE = 0.91
"""Score of an upright face from which on other turns are not tried. ORL: upright photos score 0.85 to 0.95 (median 0.93),
photos turned by 90 degrees, where a face is found at all (in one of five), at most 0.88."""
BETTER = 0.02
"""How much higher a face must score after a turn. On ORL another turn is always lower by 0.029 and more in upright photos, and
the right one always higher by 0.029 and more in turned ones."""
TURNS = {1: "90 degrees", 2: "180 degrees", 3: "90 degrees"}
"""Quarter turns and what they are called."""


@dataclass(frozen=True)
class Fault:
    """kind: "several-faces", "turned" or "small". text: goes after the photo's name. serious: is another face meant?"""

    kind: str
    text: str
    serious: bool = True


def faults(image: np.ndarray, detector: YuNet) -> Iterator[Fault]:
    """What may be wrong with a photo: uint8 [H, W, 3] RGB."""
    height, width = image.shape[:2]
    found = detector.candidates([image])[0]
    if len(found) == 0:
        turned = turned_by(image, detector)
        if turned:
            yield Fault("turned", f"shows a face only when rotated by {turned}: rotate it upright")
        elif min(height, width) < SMALLEST:
            yield Fault("small", f"is {width} x {height} px, and no face is found in it")
        return
    order = np.argsort(-found[:, 2] * found[:, 3])
    x, _, w, h = (float(v) for v in found[order[0], :4])
    if len(found) > 1:
        next_width = float(found[order[1], 2])
        text = (
            f"shows {len(found)} faces; the largest is used, {_place(x + w / 2, width)}, {w:.0f} x {h:.0f} px "
            f"(the next is {next_width:.0f} px wide)"
        )
        yield Fault("several-faces", text, next_width >= PROMINENT * w)
    if max(w, h) < SMALLEST:
        yield Fault("small", f"is {width} x {height} px, the face in it {w:.0f} x {h:.0f} px: too small to compare")
    elif turned := turned_by(image, detector, float(found[order[0], 14])):
        yield Fault("turned", f"looks rotated by {turned} (its face is clearer after undoing that): rotate it upright")


def turned_by(image: np.ndarray, detector: Detector, score: float = 0.0) -> str:
    """Degrees by which the photo seems to be turned, in words; empty if it is upright or can't be told.

    score: of the face in the photo as it is; 0 if none was found.
    """
    if score >= SURE or min(image.shape[:2]) < SMALLEST:
        return ""
    views = [np.ascontiguousarray(np.rot90(image, turn)) for turn in TURNS]
    scores = dict(zip(TURNS, detector.detect(views).score, strict=True))
    best = max(scores, key=lambda turn: scores[turn])
    return TURNS[best] if scores[best] > score + BETTER else ""


def _place(center: float, width: int) -> str:
    """Left, middle or right third of the photo."""
    return ("on the left", "in the middle", "on the right")[int(np.clip(3 * center / width, 0, 2))]
