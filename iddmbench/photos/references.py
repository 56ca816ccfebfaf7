"""From photos to what a base model is personalized on: face-centred squares at the base's size."""

import cv2
import numpy as np

from iddmbench.errors import UserError
from iddmbench.faces.detect import Detector
from iddmbench.models.base import BaseModel
from iddmbench.types import Photo, Subject


def crop_references(subject: Subject, base: BaseModel, detector: Detector) -> np.ndarray:
    """The subject's references as uint8 [N, S, S, 3], S the base's image side.

    Each is the square around the largest face, the base's frame times its box or as large as the photo allows, resized; gray
    where the base knows gray photos only. One photo is in memory at a time. Raises UserError that names a photo without a face.
    """
    squares = []
    for photo in subject.references:
        square = crop_photo(photo, base, detector)
        if square is None:
            raise UserError(f"no face found in reference photo {photo.name}: replace it or leave it out")
        squares.append(square)
    return np.stack(squares)


def crop_photo(photo: Photo, base: BaseModel, detector: Detector) -> np.ndarray | None:
    """One photo as `crop_references` gives it, uint8 [S, S, 3]; None where no face is found."""
    return crop_image(photo.image, base, detector)


def crop_image(image: np.ndarray, base: BaseModel, detector: Detector) -> np.ndarray | None:
    """`crop_photo` of pixels, uint8 [H, W, 3]."""
    faces = detector.detect([image])
    if not faces.found[0]:
        return None
    square = resize(face_square(image, faces.boxes[0], base.recipe.frame), base.side)
    if not base.recipe.grayscale:
        return square
    return np.repeat(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def face_square(image: np.ndarray, box: np.ndarray, frame: float) -> np.ndarray:
    """The square of `image` [H, W, 3] around a face box (x, y, w, h).

    frame: its side in units of the box's longer side; it is smaller where the photo is.
    """
    height, width = image.shape[:2]
    x, y, w, h = (float(v) for v in box)
    length = round(min(height, width, max(frame * max(w, h), 16)))
    left = int(np.clip(round(x + w / 2 - length / 2), 0, width - length))
    top = int(np.clip(round(y + h / 2 - length / 2), 0, height - length))
    return image[top : top + length, left : left + length]


def resize(image: np.ndarray, side: int) -> np.ndarray:
    interpolation = cv2.INTER_AREA if len(image) > side else cv2.INTER_CUBIC
    return cv2.resize(image, (side, side), interpolation=interpolation)
