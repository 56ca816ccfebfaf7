"""Stages of cells whose images exist already: a bundle's, or those that somebody made with another generator."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iddmbench.cells.stages import Cell, CellStages, Outputs
from iddmbench.errors import UserError
from iddmbench.models.recipe import Recipe
from iddmbench.nets.efficientnet import HEAD
from iddmbench.results.reproduce import UNKNOWN
from iddmbench.store.files import write_images
from iddmbench.types import Subject

UNKNOWN_VALUES = ("ser_fiq", "brisque", "closeness", "adherence", "realism", "kept_look", "closeness_erased")
"""Fields of `Utility` that nobody measures where only faces are looked for."""


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
        self.measures_utility = judged
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

    @property
    def attributes_by(self) -> str:
        return super().attributes_by if self.measures_utility else ""

    def _utility_key(self, images: dict[str, Any]) -> dict[str, Any]:
        return super()._utility_key(images) | ({} if self.measures_utility else {"measured": False})

    # ---- without references, and with images of several sizes -------------------------------------------------------

    def references(self, subject: Subject) -> np.ndarray:
        if not subject.references:
            return np.zeros((0, self.base.side, self.base.side, 3), np.uint8)
        return super().references(subject)

    def references_folder(self, subject: Subject) -> Path:
        if not subject.references:
            return self.store.fetch("references", self._crop_key(()), lambda out: None)
        return super().references_folder(subject)

    def reference_features(self, subject: Subject) -> np.ndarray:
        if not (subject.references and self.measures_utility):
            return np.zeros((0, HEAD), np.float32)
        return super().reference_features(subject)

    def _utility(self, subject: Subject, prompts: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
        """Images of one size go through the networks together; what comes out has the order of the images."""
        if not self.measures_utility:
            nothing = np.full(len(images), np.nan)
            unknown = dict.fromkeys(UNKNOWN_VALUES, nothing)
            found = self.detector.detect(list(images)).found
            return {"detected": found, **unknown, "features": np.zeros((len(images), 0), np.float32)}
        if images.dtype != object:
            return super()._utility(subject, prompts, images)
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(i)
        parts = [
            super(GivenStages, self)._utility(subject, [prompts[i] for i in own], np.stack([images[i] for i in own]))
            for own in sizes.values()
        ]
        order = np.argsort(np.concatenate([np.array(own) for own in sizes.values()]))
        return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}


def stack(images: list[np.ndarray]) -> np.ndarray:
    """uint8 [N, H, W, 3], or N arrays of dtype object where sizes differ."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    found = np.empty(len(images), object)
    found[:] = images
    return found
