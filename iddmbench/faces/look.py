"""What a face picture shows beside whose face it is: light, hair, glasses, beard, backdrop, as numbers read off its pixels.

No network but the detector is involved, so no defense can optimize it in passing. Age and sex, which need a network, are in
iddmbench/metrics/kept.py; pose, which prompts ask for, is in iddmbench/metrics/adherence.py.
"""

import cv2
import numpy as np

from iddmbench.faces.attributes import BACKDROPS, LIGHTS, SMILES
from iddmbench.faces.detect import Faces

SIDE = 96
"""Of the picture, in pixels, that faces are turned upright and scaled to."""
TEMPLATE = np.array([[0.35, 0.38], [0.65, 0.38], [0.5, 0.57], [0.38, 0.74], [0.62, 0.74]], np.float32)
"""[5, 2] where the landmarks come to lie in it, in units of its side."""
LOOK = (
    "light",
    "light from one side",
    "hair",
    "hair beside the face",
    "forehead",
    "glasses bridge",
    "glasses rims",
    "beard lip",
    "beard chin",
    "backdrop",
    "skin colour red",
    "skin colour blue",
    "hair colour red",
    "hair colour blue",
    "backdrop colour red",
    "backdrop colour blue",
)
"""What is read, in order. All but the first are relative to the skin of the cheeks, so that exposure changes the first alone;
colours are the excess of red, and of blue, over green, and constant in gray photos."""
ASKED = {"light": LIGHTS, "backdrop": BACKDROPS, "beard lip": SMILES}
"""What a prompt may ask to be otherwise: it is then not compared."""
DARKEST = 20.0
"""Gray level below which skin is taken to have this one."""


def looks(images: np.ndarray, faces: Faces) -> np.ndarray:
    """float [N, len(LOOK)] of images uint8 [N, H, W, 3]; NaN where no face was found."""
    found = np.full((len(images), len(LOOK)), np.nan)
    for i in np.flatnonzero(faces.found):
        found[i] = look(images[i], faces.landmarks[i])
    return found


def look(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """float [len(LOOK)] of one face image.

    Args:
        image: uint8 [H, W, 3].
        landmarks: float [5, 2], (x, y) of both eyes, nose tip, mouth corners, in pixels, as `Faces`.
    """
    face = _upright(image, landmarks)
    gray = face.mean(2)
    left, right = _part(face, 0.25, 0.36, 0.52, 0.66), _part(face, 0.64, 0.75, 0.52, 0.66)
    cheeks = np.concatenate([left.reshape(-1, 3), right.reshape(-1, 3)])
    skin = max(float(np.median(cheeks.mean(1))), DARKEST)
    hair = _part(face, 0.3, 0.7, 0.0, 0.08).reshape(-1, 3)
    beside = np.concatenate([_part(gray, 0.0, 0.1, 0.3, 0.5).ravel(), _part(gray, 0.9, 1.0, 0.3, 0.5).ravel()])
    height, width = image.shape[:2]
    corner = slice(0, max(height // 4, 1)), max(width // 8, 1)
    backdrop = np.concatenate([image[corner[0], : corner[1]], image[corner[0], -corner[1] :]], 1).reshape(-1, 3)

    def level(part: np.ndarray) -> float:
        return float(np.median(part)) / skin

    def edges(part: np.ndarray) -> float:
        """Mean change from row to row: frames of glasses are dark lines across."""
        return float(np.abs(np.diff(part, axis=0)).mean()) / skin

    def colour(pixels: np.ndarray) -> tuple[float, float]:
        red, green, blue = np.median(pixels.astype(np.float32), axis=0)
        return float(red - green) / skin, float(blue - green) / skin

    return np.array(
        [
            float(np.median(cheeks.mean(1))) / 255,
            level(left.mean(2)) - level(right.mean(2)),
            level(hair.mean(1)),
            level(beside),
            level(_part(gray, 0.38, 0.62, 0.17, 0.26)),
            edges(_part(gray, 0.44, 0.56, 0.30, 0.46)),
            edges(_part(gray, 0.25, 0.75, 0.42, 0.52)),
            level(_part(gray, 0.44, 0.56, 0.64, 0.69)),
            level(_part(gray, 0.4, 0.6, 0.86, 0.95)),
            level(backdrop.mean(1)),
            *colour(cheeks),
            *colour(hair),
            *colour(backdrop),
        ]
    )


def compared(prompts: list[str]) -> np.ndarray:
    """bool [N, len(LOOK)]: what each prompt leaves to the person's photos, as it does not ask for anything else."""
    return np.array([[not any(w in prompt for w in ASKED.get(name, ())) for name in LOOK] for prompt in prompts])


def _upright(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """float32 [SIDE, SIDE, 3]: the face with its landmarks at TEMPLATE, by the similarity of least squares."""
    points, target = landmarks.astype(np.float64), TEMPLATE.astype(np.float64) * SIDE
    a, b = points - points.mean(0), target - target.mean(0)
    size = max(float((a**2).sum()), 1e-9)
    cos, sin = float((a * b).sum()) / size, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / size
    turn = np.array([[cos, -sin], [sin, cos]])
    matrix = np.column_stack((turn, target.mean(0) - turn @ points.mean(0)))
    moved = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved.astype(np.float32)


def _part(face: np.ndarray, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    """A rectangle of the upright face, in units of its side."""
    return face[int(top * SIDE) : int(bottom * SIDE), int(left * SIDE) : int(right * SIDE)]
