"""What may be wrong with a photo of one person: several faces, turned, too small."""

from collections.abc import Iterator

import numpy as np

from iddmbench.faces.detect import YuNet

SMALLEST = 32
"""Pixels of the longer side of a face box, below which there is too little to compare: crops for recognition have 112."""
PROMINENT = 0.5
"""Width of a second face, as a share of the first one's, from which on it may be the person that is meant."""
SURE = 0.91
"""Score of an upright face from which on other turns are not tried. ORL: upright photos score 0.85 to 0.95 (median 0.93), photos
turned by 90 degrees, where a face is found at all (in one of five), at most 0.88."""
BETTER = 0.02
"""How much higher a face must score after a turn. On ORL another turn is always lower by 0.029 and more in upright photos, and
the right one always higher by 0.029 and more in turned ones."""
TURNS = {1: "90 degrees", 2: "180 degrees", 3: "90 degrees"}
"""Quarter turns and what they are called."""


def faults(image: np.ndarray, detector: YuNet) -> Iterator[tuple[str, str]]:
    """Kind ("several-faces", "several-faces-beside", "turned", "small") and a text that goes after the photo's name.

    "several-faces-beside": the others are much smaller than the one that was taken. image: uint8 [H, W, 3] RGB.
    """
    height, width = image.shape[:2]
    found = detector.candidates([image])[0]
    if len(found) == 0:
        turned = turned_by(image, detector)
        if turned:
            yield "turned", f"shows a face only after a turn by {turned}: turn it upright"
        elif min(height, width) < SMALLEST:
            yield "small", f"is {width} x {height} px"
        return
    order = np.argsort(-found[:, 2] * found[:, 3])
    x, _, w, h = (float(v) for v in found[order[0], :4])
    if len(found) > 1:
        next_width = float(found[order[1], 2])
        kind = "several-faces" if next_width >= PROMINENT * w else "several-faces-beside"
        yield (
            kind,
            f"shows {len(found)} faces; taken is the largest, {_place(x + w / 2, width)}, {w:.0f} x {h:.0f} px "
            f"(the next is {next_width:.0f} px wide)",
        )
    if max(w, h) < SMALLEST:
        yield "small", f"is {width} x {height} px, the face on it {w:.0f} x {h:.0f} px: too small to compare"
    elif turned := turned_by(image, detector, float(found[order[0], 14])):
        yield "turned", f"looks turned by {turned} (its face is clearer after that turn): turn it upright"


def turned_by(image: np.ndarray, detector: YuNet, score: float = 0.0) -> str:
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
