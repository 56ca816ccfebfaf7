"""Uniform noise on the reference photos: what a perturbation budget does without optimization."""

import numpy as np
from pydantic import Field

from iddmbench.defense import Defense, Workbench


class RandomNoise(Defense):
    """x' = clip(x + u), u uniform over the gray levels within strength * eps, per pixel and channel (gray on a gray base)."""

    name = "random-noise"
    title = "uniform noise on the references"
    version = 2

    eps: float = Field(16 / 255, ge=0, le=1, description="largest change of a pixel at strength 1, of values in [0, 1]")

    def protect(self, references: np.ndarray, bench: Workbench) -> np.ndarray:
        rng = bench.seeds.child("noise").numpy()
        # Whole levels within the budget, so that it holds on the 8-bit image too.
        bound = int(255 * self.eps * self.strength + 1e-9)
        channels = 1 if bench.base.recipe.grayscale else 3
        noise = rng.integers(-bound, bound, size=(*references.shape[:3], channels), endpoint=True)
        return np.clip(references + noise, 0, 255).astype(np.uint8)
