"""Target images of targeted perturbations: a file of the user's, or a pattern made here."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from iddmbench.errors import UserError, first_line
from iddmbench.models.base import BaseModel
from iddmbench.perturb.pgd import to_signed
from iddmbench.photos.references import resize


def target_image(path: str, side: int) -> np.ndarray:
    """uint8 [side, side, 3]: the centre square of the image at `path`, or `pattern` when no path is given.

    Raises UserError if the file is not a readable image.
    """
    if not path:
        return pattern(side)
    try:
        with Image.open(Path(path)) as opened:
            image = np.asarray(opened.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"target={path}: {first_line(error)}") from error
    length = min(image.shape[:2])
    top, left = (image.shape[0] - length) // 2, (image.shape[1] - length) // 2
    return resize(np.ascontiguousarray(image[top : top + length, left : left + length]), side)


def target_latents(path: str, base: BaseModel) -> Tensor:
    """Scaled latents [1, c, h, w] of `target_image` at the base's side, gray on a gray base. Raises UserError as it does."""
    x = to_signed(target_image(path, base.side)[None], base.recipe.grayscale, base.device)
    with torch.no_grad():
        return base.encode_signed(x.expand(-1, 3, -1, -1))


def pattern(side: int) -> np.ndarray:
    """High contrast at all scales: rings whose spacing shrinks from the centre outwards, inverted on a chessboard."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    rings = np.sin(2 * np.pi * 24 * (x**2 + y**2)) > 0
    board = (np.floor(x * 8) + np.floor(y * 8)) % 2 == 0
    gray = np.where(rings == board, 255, 0).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)
