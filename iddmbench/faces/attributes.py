"""What can be computed from a face image and said in a caption: head pose, framing, light, smile and backdrop."""

from collections.abc import Callable, Sequence

import numpy as np

POSES = ("facing left", "facing forward", "facing right")
FRAMINGS = ("wide", "medium", "close-up")
LIGHTS = ("dark", "soft light", "bright")


SMILES = ("serious", "smiling")
BACKDROPS = ("dim backdrop", "pale backdrop")


def attributes(image: np.ndarray, landmarks: np.ndarray) -> tuple[str, ...]:
    """Pose, framing and light of one face image.

    Args:
        image: uint8 [H, W, 3].
        landmarks: float [5, 2], (x, y) of both eyes, nose tip, mouth corners, in pixels; the two eyes in either order.

    Returns:
        One of POSES, of FRAMINGS and of LIGHTS. Pose is the nose tip's offset from the middle of the eyes in units of the
        eye distance (thresholds +-0.06, as the viewer sees it), framing the eye distance in units of the image width
        (0.34, 0.42), light the mean gray level (108, 136): about the terciles of the augmented training views.
    """
    span = _eye_distance(landmarks) / image.shape[1]
    framing = FRAMINGS[int(span > 0.34) + int(span > 0.42)]
    return _pose(landmarks), framing, _light(image)


def portrait(image: np.ndarray, landmarks: np.ndarray) -> tuple[str, ...]:
    """Pose, smile, light and backdrop of a portrait in which the face always has about the same size.

    Arguments, pose and light as in `attributes`. One of SMILES, by `mouth_whiteness` (1.12), and of BACKDROPS, by the mean
    gray level of the upper corners (an eighth of the width, a quarter of the height; 110): about the medians of the
    generated training faces.
    """
    height, width = image.shape[:2]
    corners = np.concatenate([image[: height // 4, : width // 8], image[: height // 4, -(width // 8) :]])
    smile = SMILES[int(mouth_whiteness(image, landmarks) > 1.12)]
    return _pose(landmarks), smile, _light(image), BACKDROPS[int(corners.mean() > 110)]


def mouth_whiteness(image: np.ndarray, landmarks: np.ndarray) -> float:
    """How white the mouth is beside the cheeks: above 1.12, teeth show, which is what a smile is here.

    The least of R, G and B is high in teeth and low in skin and lips. Its 85th percentile between the corners of the mouth, in
    units of its median beside the nose. (The detector's mouth corners hardly move when a face smiles.)
    """
    white = image.min(2).astype(np.float32)
    eyes, nose, left, right = _eye_distance(landmarks), landmarks[2], *landmarks[3:]
    middle, half = (left + right) / 2, 0.3 * float(np.linalg.norm(left - right))
    mouth = _patch(white, middle[0] - half, middle[0] + half, middle[1] - 0.12 * eyes, middle[1] + 0.2 * eyes)
    radius = max(1.0, 0.06 * eyes)
    cheeks = [
        _patch(white, x - radius, x + radius, nose[1] - radius, nose[1] + radius)
        for x in (nose[0] - eyes / 2, nose[0] + eyes / 2)
    ]
    return float(np.percentile(mouth, 85)) / max(float(np.median(np.concatenate(cheeks))), 8.0)


def _patch(values: np.ndarray, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    """The values [N] of the pixels in a rectangle, at least the one nearest to it where it lies outside."""
    height, width = values.shape
    x0, y0 = int(np.clip(round(left), 0, width - 1)), int(np.clip(round(top), 0, height - 1))
    return values[y0 : max(round(bottom), y0) + 1, x0 : max(round(right), x0) + 1].ravel()


KINDS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[str, ...]]] = {"attributes": attributes, "portrait": portrait}
"""What a recipe's `captions` may name."""


def _eye_distance(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[0] - landmarks[1])) + 1e-6


def _pose(landmarks: np.ndarray) -> str:
    yaw = float(landmarks[2, 0] - landmarks[:2, 0].mean()) / _eye_distance(landmarks)
    return POSES[int(yaw > -0.06) + int(yaw > 0.06)]


def _light(image: np.ndarray) -> str:
    level = float(image.mean())
    return LIGHTS[int(level > 108) + int(level > 136)]


def caption(who: str, parts: Sequence[str]) -> str:
    """("sks person", ("facing left", "dark")) -> "a photo of sks person, facing left, dark"."""
    return ", ".join((f"a photo of {who}", *parts))
