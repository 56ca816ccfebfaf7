"""Training images of the embedded base model: ORL's public people, augmented."""

import cv2
import numpy as np
import torch

SIDE = 64


def augment(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """One random view of a face photo.

    Args:
        image: uint8 [H, W, 3].
        rng: source of the draw.

    Returns:
        uint8 [64, 64, 3] view (flip, rotation up to 6 degrees, zoom 0.85-1.25 of the width, shift, light), and whether
        it was flipped.
    """
    height, width = image.shape[:2]
    flipped = bool(rng.random() < 0.5)
    zoom = rng.uniform(0.85, 1.25) * SIDE / width
    angle = rng.normal(0, 3.0)
    centre = (width / 2 + rng.normal(0, 0.03) * width, height * 0.52 + rng.normal(0, 0.03) * height)
    matrix = cv2.getRotationMatrix2D(centre, float(np.clip(angle, -6, 6)), zoom)
    matrix[:, 2] += np.array([SIDE / 2, SIDE / 2]) - np.array(centre)
    flags = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    view = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if flipped:
        view = view[:, ::-1]
    gain, offset, gamma = rng.uniform(0.8, 1.2), rng.uniform(-20, 20), np.exp(rng.uniform(-0.25, 0.25))
    light = 255 * (np.clip(view / 255.0, 0, 1) ** gamma) * gain + offset
    return np.clip(light, 0, 255).astype(np.uint8), flipped


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
