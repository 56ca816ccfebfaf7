import cv2
import numpy as np
from pydantic import Field

from iddmbench.defense import Defense, Workbench


class Blur(Defense):
    """A Gaussian blur of the outputs; strength 1 is `sigma` of the image's side."""

    name = "my-blur"
    title = "Gaussian blur of the outputs"

    sigma: float = Field(0.05, gt=0, description="standard deviation at strength 1, as a share of the image's side")

    def release(self, images: np.ndarray, bench: Workbench) -> np.ndarray:
        width = self.strength * self.sigma * images.shape[1]
        return np.stack([cv2.GaussianBlur(x, (0, 0), width) for x in images]) if width else images
