"""HOG of all but the inner face: how far people are linked by hair, clothes, backdrop and light, whatever the face is."""

import hashlib
from typing import Literal

import cv2
import numpy as np
import torch
from pydantic import Field

from iddmbench.attacker import DetectingAttacker, NetworkOptions
from iddmbench.faces.detect import Faces
from iddmbench.nets.hog import BLOCK, CELL, ORIENTATIONS, blocks, outside
from iddmbench.types import Embeddings, Image

SIDE, FRAME = 96, 1.2
"""Side of the crop in pixels, and in units of the face box's longer side: the whole picture on the embedded bases. The crop is
moved, or smaller, where the picture ends. Rank 1 on ORL's people 1-28 (photos 1-4, cut as `micro` takes them, among
photos 5-10) is 76 %, with 64 pixels 71 %, with the face box's own side 79 %."""

INNER = (0.2, 0.25, 0.8, 0.9)
"""Left, top, right and bottom of the inner face in units of the square around the face box: brows to below the mouth, from the
outer end of one eye to that of the other."""


EDGE = SIDE // 8
"""Width of the outermost rim: 8 of the 64 pixels that a base makes."""
Part = Literal["all", "top", "sides", "bottom", "edge"]


class HogOptions(NetworkOptions):
    part: Part = Field(
        "all",
        description="where to look, never at the inner face: all around it; the crop's top third, sides or bottom; or its "
        "outermost eighth",
    )


class Hog(DetectingAttacker):
    """Histograms of oriented gradients around the face (Dalal and Triggs 2005), nothing trained.

    The crop follows the face box, not the landmarks: what surrounds a face does not turn with it.
    """

    name = "hog"
    title = "gradients of all but the inner face (classical)"
    dim = (SIDE // CELL - BLOCK + 1) ** 2 * BLOCK**2 * ORIENTATIONS
    licence = "none needed"
    source = "computed; no weights"
    looks_past_the_face = True
    Options = HogOptions

    def use(self, options: HogOptions) -> None:  # type: ignore[override]
        super().use(options)
        if options.part != "all":
            self.title = f"{self.title}: {options.part}"  # type: ignore[misc]

    def fingerprint(self) -> str:
        return hashlib.sha256(f"hog 1 {SIDE} {FRAME} {INNER} {self.detector.fingerprint()}".encode()).hexdigest()

    def _embed(self, images: list[Image], faces: Faces | None) -> Embeddings:
        faces = self.detector.detect(images) if faces is None else faces
        vectors = np.zeros((len(images), self.dim), np.float32)
        for i in np.flatnonzero(faces.found):
            vectors[i] = describe(images[i], faces.boxes[i], self.options.part)
        # A picture without any gradient around the face links to nobody.
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors / np.maximum(lengths, 1e-12), faces.found & (lengths[:, 0] > 1e-6))


def describe(image: Image, box: np.ndarray, part: Part = "all") -> np.ndarray:
    """Blocks around the inner face, float32 [dim], not scaled to unit length. box: x, y, width, height in pixels."""
    left, top, length = square(image, box)
    cut = cv2.cvtColor(image[top : top + length, left : left + length], cv2.COLOR_RGB2GRAY)
    gray = cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_AREA if length > SIDE else cv2.INTER_CUBIC)
    # Two pixels more on each side: so far a pixel reaches when the picture is enlarged.
    region = inner(box) - np.array([left, top] * 2) + np.array([-2, -2, 2, 2])
    seen = outside(SIDE, region * SIDE / length) * shown(part)
    pixels = torch.from_numpy(gray.astype(np.float32) / 255)
    with torch.inference_mode():
        return blocks(pixels[None], torch.from_numpy(seen)[None]).flatten().numpy()


def shown(part: Part) -> np.ndarray:
    """Pixels of the crop that belong to a part: float32 [SIDE, SIDE] of 0 and 1. Sides and bottom lie below the top third, the
    sides beside the middle half and the bottom under the inner face's place in a crop that is not moved."""
    seen = np.zeros((SIDE, SIDE), np.float32)
    third, side, low = SIDE // 3, SIDE // 4, round(SIDE * (0.5 + (INNER[3] - 0.5) / FRAME))
    if part == "all":
        seen[:] = 1
    elif part == "top":
        seen[:third] = 1
    elif part == "sides":
        seen[third:low, :side] = seen[third:low, -side:] = 1
    elif part == "bottom":
        seen[low:] = 1
    else:
        seen[:EDGE] = seen[-EDGE:] = seen[:, :EDGE] = seen[:, -EDGE:] = 1
    return seen


def square(image: Image, box: np.ndarray) -> tuple[int, int, int]:
    """Left, top and side of the square around a face box that lies within the picture."""
    height, width = image.shape[:2]
    x, y, w, h = (float(v) for v in box)
    length = round(min(height, width, max(FRAME * max(w, h), 16)))
    left, top = (
        int(np.clip(round(middle - length / 2), 0, end - length))
        for middle, end in ((x + w / 2, width), (y + h / 2, height))
    )
    return left, top, length


def inner(box: np.ndarray) -> np.ndarray:
    """INNER of a face box: left, top, right, bottom in the image's pixels."""
    x, y, w, h = (float(v) for v in box)
    side = max(w, h)
    return np.array([x + w / 2 - side / 2, y + h / 2 - side / 2] * 2) + side * np.array(INNER)
