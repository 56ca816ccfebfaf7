"""A face in somebody else's picture: another's hair, clothes and backdrop around it."""

import cv2
import numpy as np

from iddmbench.faces.align import ARCFACE_112, similarity

CENTER, RADII = (56.0, 72.0), (36.0, 42.0)
"""The ellipse that keeps its gradients, from above the brows to the chin, in pixels of the 112 x 112 crop."""


def surrounded(image: np.ndarray, landmarks: np.ndarray, donor: np.ndarray, donor_landmarks: np.ndarray) -> np.ndarray:
    """The image's inner face in the donor's picture, which is moved so that its face lies where the image's does.

    The face keeps its gradients and takes its colours from the donor's at the seam (Perez et al., "Poisson image editing",
    SIGGRAPH 2003; OpenCV's `seamlessClone`). Where the donor's picture ends, its edge is repeated.

    Args:
        image: uint8 [H, W, 3] RGB; landmarks: float [5, 2] of its face.
        donor: uint8 [H', W', 3], its face about as large as the image's; donor_landmarks: float [5, 2].

    Returns uint8 [H, W, 3], in which the landmarks stay true. If the face lies outside the image, it is the donor's alone.
    """
    height, width = image.shape[:2]
    matrix = similarity(donor_landmarks[None], landmarks)[0]
    around = cv2.warpAffine(donor, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = inner_face(landmarks, height, width)
    left, top, wide, high = cv2.boundingRect(mask)
    if wide == 0:
        return around
    # `seamlessClone` lays the mask's box around this point: the face stays where it is.
    center = left + wide // 2, top + high // 2
    return cv2.seamlessClone(np.ascontiguousarray(image), around, mask, center, cv2.NORMAL_CLONE)


def inner_face(landmarks: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [height, width], 255 within the ellipse of a face with landmarks [5, 2]; never at the picture's border."""
    matrix = similarity(landmarks[None], ARCFACE_112)[0]
    y, x = np.mgrid[:height, :width]
    across, down = (matrix @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1) - np.array([CENTER]).T).reshape(
        2, height, width
    )
    mask = ((across / RADII[0]) ** 2 + (down / RADII[1]) ** 2 < 1).astype(np.uint8) * 255
    mask[[0, -1]] = 0
    mask[:, [0, -1]] = 0
    return mask
