import cv2
import numpy as np
from pydantic import Field

from iddmbench.perturb.purifier import Purifier


class Median(Purifier):
    """A median filter."""

    name = "my-median"
    title = "median filter"

    radius: int = Field(1, ge=1, le=3, description="of the window in pixels")

    def apply(self, images: np.ndarray, seeds, base) -> np.ndarray:
        return np.stack([cv2.medianBlur(image, 2 * self.radius + 1) for image in images])
