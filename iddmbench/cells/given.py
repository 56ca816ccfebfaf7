"""Stages of cells whose images exist already: a bundle's, or those that somebody made with another generator."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iddmbench.cells.cell import Cell, Outputs
from iddmbench.cells.stages import CellStages
from iddmbench.cells.utility import UtilityStages
from iddmbench.errors import UserError
from iddmbench.models.recipe import Recipe
from iddmbench.results.reproduce import UNKNOWN
from iddmbench.store.files import write_images


@dataclass(frozen=True)
class UnknownBase:
    """Stands where a base model is asked for, when nobody says which one made the images. References are cropped for it as for
    Stable Diffusion."""

    name: str = UNKNOWN
    fingerprint: str = "unknown base model"
    side: int = 512
    precision: str = "fp32"
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    recipe: Recipe = field(default_factory=lambda: Recipe.model_validate({}))


class GivenStages(CellStages):
    """Stages that compute no image. All that looks at images is the usual code.

    Args:
        given: the images of a cell, uint8 [N, H, W, 3], or N arrays of dtype object where sizes differ. Raises UserError
            for a cell that has none.
        parts: as of `CellStages`.
        digest: identifies a cell's images without reading them; by default they are read for it.
        judged: whether utility is measured; if not, only where faces are is.
        prompted: whether the images were made by the prompts, in their order; if not, adherence is not measured.
    """

    trains = False

    def __init__(
        self,
        given: Callable[[Cell], np.ndarray],
        *parts: Any,
        digest: Callable[[Cell], str] | None = None,
        prompted: bool = True,
        judged: bool = True,
    ):
        super().__init__(*parts)
        self._given, self._digest = given, digest or self._pixels
        self.utility = UtilityStages(self.crops, self.data, judged)
        if not prompted:
            self.prompts = []

    def _pixels(self, cell: Cell) -> str:
        """By content: what was computed on the same pixels of the same subject is the same, whoever sent them."""
        try:
            images = self._given(cell)
        except UserError:
            return f"none: {cell.label}"  # a cell that failed has a name too
        return hashlib.sha256(f"{images.shape}".encode() + images.tobytes()).hexdigest()

    def is_cached(self, cell: Cell, key: dict[str, Any] | None = None) -> bool:
        return True

    def image_key(self, cell: Cell) -> dict[str, Any]:
        key: dict[str, Any] = {"pixels": self._digest(cell), "subject": cell.subject.name, "prompts": self.prompts}
        key |= {"per_prompt": self.per_prompt}
        return key | {"data": self.data.fingerprint, "base": self.base.fingerprint}

    def outputs(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> Outputs:
        images = self._given(cell)
        prompts = [p for p in self.prompts for _ in range(self.per_prompt)] or [""] * len(images)
        return Outputs(images, prompts, self.image_key(cell), {}, {})

    def pictures(self, cell: Cell) -> dict[str, Path]:
        return {"": self.store.fetch("posted", self.image_key(cell), lambda out: write_images(out, self._given(cell)))}


def stack(images: list[np.ndarray]) -> np.ndarray:
    """uint8 [N, H, W, 3], or N arrays of dtype object where sizes differ."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    found = np.empty(len(images), object)
    found[:] = images
    return found
