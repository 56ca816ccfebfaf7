"""Blur and pixelate the outputs: what anonymization does without a model."""

import cv2
import numpy as np
from pydantic import Field

from iddmbench.defense import Defense, Workbench


class Blur(Defense):
    """Gaussian blur of every output; `strength` scales its standard deviation."""

    name = "blur"
    title = "Gaussian blur of the outputs"

    sigma: float = Field(0.06, gt=0, description="standard deviation at strength 1, as a share of the image's side")

    def release(self, images: np.ndarray, bench: Workbench) -> np.ndarray:
        sigma = self.strength * self.sigma * images.shape[1]
        return np.stack([cv2.GaussianBlur(x, (0, 0), sigma) for x in images]) if sigma else images


class Pixelate(Defense):
    """Averages over square blocks; `strength` goes from single pixels to `blocks` blocks a side, evenly in the block's size."""

    name = "pixelate"
    title = "pixelation of the outputs"

    blocks: int = Field(8, ge=1, description="blocks a side at strength 1")

    def release(self, images: np.ndarray, bench: Workbench) -> np.ndarray:
        side = images.shape[1]
        size = 1 + self.strength * (side / self.blocks - 1)
        count = max(1, round(side / size))
        small = [cv2.resize(x, (count, count), interpolation=cv2.INTER_AREA) for x in images]
        return np.stack([cv2.resize(x, (side, side), interpolation=cv2.INTER_NEAREST) for x in small])
