"""Random views of the training photos of an embedded base."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

SIDE = 64


@dataclass(frozen=True)
class Spread:
    """How much views of one photo differ; standard deviations, cut at two of them.

    zoom: of log size; shift: share of the side; angle: degrees; light: of log gain and log gamma.
    """

    zoom: float
    shift: float
    angle: float
    light: float


def augment(image: np.ndarray, rng: np.random.Generator, spread: Spread) -> np.ndarray:
    """One random view of a square face photo, flipped in half of the draws: uint8 [64, 64, 3] of uint8 [L, L, 3]."""

    def draw(scale: float) -> float:
        return float(np.clip(rng.normal(), -2, 2)) * scale

    length = image.shape[0]
    zoom = np.exp(draw(spread.zoom)) * SIDE / length
    centre = (length * (0.5 + draw(spread.shift)), length * (0.5 + draw(spread.shift)))
    matrix = cv2.getRotationMatrix2D(centre, draw(spread.angle), zoom)
    matrix[:, 2] = matrix[:, 2] + SIDE / 2 - np.array(centre)
    flags = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    view = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.5:
        view = view[:, ::-1]
    light = 255 * (view / 255.0) ** np.exp(draw(spread.light)) * np.exp(draw(spread.light))
    return np.clip(light, 0, 255).astype(np.uint8)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
