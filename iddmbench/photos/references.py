"""From photos to what a base model is personalized on: face-centred squares at the base's size."""

import cv2
import numpy as np

from iddmbench.errors import UserError
from iddmbench.faces.detect import Detector
from iddmbench.models.base import BaseModel
from iddmbench.types import Subject

FRAME = 1.6
"""Side of the square in units of the face box's longer side, when the photo is large enough."""


def crop_references(subject: Subject, base: BaseModel, detector: Detector) -> np.ndarray:
    """The subject's references as uint8 [N, S, S, 3], S the base's image side.

    Each is the square around the largest face, FRAME times its box or as large as the photo allows, resized; gray where the
    base knows gray photos only. Raises UserError that names a photo without a face.
    """
    photos = [photo.image for photo in subject.references]
    faces = detector.detect(photos)
    squares = []
    for photo, box, found in zip(subject.references, faces.boxes, faces.found, strict=True):
        if not found:
            raise UserError(f"no face found in reference photo {photo.name}: replace it or leave it out")
        squares.append(resize(face_square(photo.image, box), base.side))
    images = np.stack(squares)
    if base.recipe.grayscale:
        gray = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])
        images = np.repeat(gray[..., None], 3, axis=3)
    return images


def face_square(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The square of `image` [H, W, 3] around a face box (x, y, w, h), FRAME times the box or as large as the photo allows."""
    height, width = image.shape[:2]
    x, y, w, h = (float(v) for v in box)
    length = round(min(height, width, max(FRAME * max(w, h), 16)))
    left = int(np.clip(round(x + w / 2 - length / 2), 0, width - length))
    top = int(np.clip(round(y + h / 2 - length / 2), 0, height - length))
    return image[top : top + length, left : left + length]


def resize(image: np.ndarray, side: int) -> np.ndarray:
    interpolation = cv2.INTER_AREA if len(image) > side else cv2.INTER_CUBIC
    return cv2.resize(image, (side, side), interpolation=interpolation)
