"""What is read off a generated photo to decide whether it is kept, and how to caption it."""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from iddmbench.errors import UserError
from iddmbench.faces.align import crop, similarity
from iddmbench.faces.detect import YuNet
from iddmbench.nets.faceres import FaceRes
from iddmbench.nets.onnx_face import OnnxFace
from iddmbench.photos.references import resize
from iddmbench.weights import weights_folder

REFEREE = "fr_feature.onnx"
"""The recognition system that decides whether two photos show one person. It can't be an attacker on these photos."""


@dataclass(frozen=True)
class Reading:
    """Of one photo; `found` is False, and the rest meaningless, where there is not exactly one face.

    Attributes:
        embedding: float32 [512], the referee's, of unit length.
        landmarks: float32 [5, 2], (x, y) as `Faces`, in units of the photo's side.
        box: float32 [4], x, y, width, height in units of the photo's side.
        age: years, as faceres reads them.
        male: faceres' probability, 0 to 1.
        sharpness: variance of the Laplacian of the face's gray levels at 112 pixels.
        tone: individual typology angle of the cheeks in degrees; higher is lighter (Chardot et al. 1991).
        yaw: offset of the nose tip from the middle of the eyes, in eye distances; negative is to the viewer's left.
    """

    found: bool
    embedding: np.ndarray
    landmarks: np.ndarray
    box: np.ndarray
    age: float = 0.0
    male: float = 0.5
    sharpness: float = 0.0
    tone: float = 0.0
    yaw: float = 0.0


NOTHING = Reading(False, np.zeros(512, np.float32), np.zeros((5, 2), np.float32), np.zeros(4, np.float32))


class FaceReader:
    """Detector, referee and faceres together. Raises UserError when a file of weights is absent."""

    def __init__(self) -> None:
        self.detector = YuNet()
        self.referee = OnnxFace(weight_file(REFEREE))
        self.faceres = FaceRes(weight_file("faceres.json"))

    def read(self, photo: np.ndarray) -> Reading:
        """The reading of one photo, uint8 [S, S, 3]."""
        faces = self.detector.detect([photo])
        if faces.count[0] != 1:
            return NOTHING
        points, box = faces.landmarks[0], faces.boxes[0]
        pixels = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            aligned = crop(pixels, torch.from_numpy(similarity(points[None], self.referee.template)), self.referee.size)
            embedding = self.referee(aligned)[0].numpy()
            chip = torch.from_numpy(face_chip(photo, box, self.faceres.size)).permute(2, 0, 1)[None].float()
            age, female = self.faceres.plain_attributes(chip)
        gray = cv2.cvtColor((aligned[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        eyes, nose = points[:2], points[2]
        distance = float(np.linalg.norm(eyes[0] - eyes[1])) + 1e-6
        side = len(photo)
        return Reading(
            True,
            embedding,
            (points + 0.5) / side,
            box / side,
            float(age),
            1 - float(female),
            float(cv2.Laplacian(gray, cv2.CV_64F).var()),
            skin_tone(photo, points),
            float(nose[0] - eyes[:, 0].mean()) / distance,
        )


def weight_file(name: str) -> Path:
    path = weights_folder() / name
    if not path.is_file():
        raise UserError(f"{name} is not in {weights_folder()}: docs/attackers.md says where it comes from")
    return path


def face_chip(photo: np.ndarray, box: np.ndarray, side: int, margin: float = 1.2) -> np.ndarray:
    """The square of `margin` times the box's longer side around it, edges repeated: uint8 [side, side, 3]."""
    x, y, w, h = (float(v) for v in box)
    half = margin * max(w, h) / 2
    pad = len(photo) // 2
    framed = cv2.copyMakeBorder(photo, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    left, top = round(x + w / 2 - half) + pad, round(y + h / 2 - half) + pad
    return resize(framed[max(top, 0) : top + round(2 * half), max(left, 0) : left + round(2 * half)], side)


def skin_tone(photo: np.ndarray, points: np.ndarray) -> float:
    """Individual typology angle, degrees: atan((L* - 50) / b*) of the median colour of both cheeks."""
    lab = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    radius = max(2, round(0.08 * float(np.linalg.norm(points[0] - points[1]))))
    cheeks = []
    for eye, corner in ((points[0], points[3]), (points[1], points[4])):
        x, y = ((0.45 * eye + 0.55 * corner) + 0.15 * (eye - points[2]) * (1, 0)).round().astype(int)
        cheeks.append(lab[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1].reshape(-1, 3))
    light, _, yellow = np.median(np.concatenate(cheeks), axis=0)
    return math.degrees(math.atan2(float(light) - 50, float(yellow)))
