"""Uniform noise on the reference photos: what a perturbation budget does when nothing is optimized."""

import numpy as np
from pydantic import Field

from iddmbench.defense import Defense, Workbench


class RandomNoise(Defense):
    """x' = clip(x + u), u uniform in [-strength * eps, strength * eps] per pixel and channel, rounded to 8 bits."""

    name = "random-noise"
    title = "uniform noise on the references"

    eps: float = Field(16 / 255, ge=0, le=1, description="largest change of a pixel at strength 1, of values in [0, 1]")

    def protect(self, references: np.ndarray, bench: Workbench) -> np.ndarray:
        rng = bench.seeds.child("noise").numpy()
        bound = 255 * self.eps * self.strength
        noise = rng.uniform(-bound, bound, size=references.shape)
        # Rounding toward the photo keeps the budget on the 8-bit image too.
        return np.clip(references + np.trunc(noise), 0, 255).astype(np.uint8)
