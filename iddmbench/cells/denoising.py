"""The base's denoising error on pictures: it sees spoiled faces that the networks behind the utility index hardly notice."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iddmbench.cells.crops import Crops
from iddmbench.cells.public import chosen
from iddmbench.cells.versions import code, precision_key
from iddmbench.judges.base import AT_ONCE, pixels
from iddmbench.models.base import BaseModel
from iddmbench.personalize.trainer import denoise
from iddmbench.seeds import Seeds
from iddmbench.store.files import read_arrays, write_arrays
from iddmbench.types import Person

STEPS, DRAWS = (0.1, 0.25, 0.4), 2
"""Timesteps as shares of all, from texture to the form of the face; with more noise all pictures look alike to the base. Draws
of noise for each."""


def denoising_errors(base: BaseModel, images: np.ndarray) -> np.ndarray:
    """How badly the un-personalized base predicts the noise in pictures: its training loss, at the same noise for each of them.

        error(x) = mean over t, e of | f(z_t, t, c) - target |^2,   z_t = sqrt(a_t) z + sqrt(1 - a_t) e,

    z the latents of x, c the class prompt. After Graham et al., "Denoising diffusion models for out-of-distribution detection",
    CVPR Workshops 2023, arXiv 2211.07740, who reconstruct; here it is the loss itself.

    Args:
        images: uint8 [N, S, S, 3], S the base's side.

    Returns float32 [N], at least 0.
    """
    size = base.batch(AT_ONCE)
    parts = [_errors(base, images[i : i + size]) for i in range(0, len(images), size)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


@torch.inference_mode()
def _errors(base: BaseModel, images: np.ndarray) -> np.ndarray:
    latents, text = base.encode(pixels(images).to(base.device)), base.embed_text([base.recipe.prompts.class_])
    generator = Seeds(0).child("denoising").torch()
    found = []
    for share in STEPS:
        t = torch.full((len(latents),), round(share * base.scheduler.config.num_train_timesteps))
        for _ in range(DRAWS):
            noise = torch.randn(latents[:1].shape, generator=generator).expand_as(latents)
            found.append(denoise(base, base.unet, latents, text, noise, t).error())
    return torch.stack(found).mean(0).cpu().numpy()


class BaseErrors:
    """Denoising errors in units of what they are on photos of public people; computed, or found computed.

    Where it is not `wanted`, nobody is public, or the base is unknown, all are NaN.
    """

    def __init__(self, crops: Crops, public: Sequence[Person], wanted: bool):
        self.crops, self.public = crops, public
        self.wanted = wanted and bool(public) and isinstance(crops.base, BaseModel)

    def of(self, images: np.ndarray, key: dict[str, Any]) -> np.ndarray:
        """float [N] of uint8 [N, H, W, 3], which `key` identifies; NaN for images of another size than the base's."""
        if not self.wanted:
            return np.full(len(images), np.nan)
        return self._errors(self._key(key), lambda: images) / self.photo_error

    def has(self, images: dict[str, Any]) -> bool:
        """Whether `of` would find them."""
        return not self.wanted or self.crops.store.has("denoising", self._key(images))

    @cached_property
    def photo_error(self) -> float:
        """Median of the errors on photos of public people; NaN where none has a face."""
        if not self.wanted:
            return np.nan
        errors = self._errors(self._photos_key, self._squares)
        return float(np.median(errors)) if len(errors) else np.nan

    def has_photo_error(self) -> bool:
        """Whether `photo_error` would be found, or is not needed."""
        return not self.wanted or self.crops.store.has("denoising", self._photos_key)

    @property
    def _photos_key(self) -> dict[str, Any]:
        return self._key(self.crops.key([photo for _, photo in chosen(self.public)]))

    def _squares(self) -> np.ndarray:
        """uint8 [M, S, S, 3]"""
        found, side = [square for part in self.crops.public(self.public) for _, square in part], self.crops.base.side
        return np.stack(found) if found else np.zeros((0, side, side, 3), np.uint8)

    def _errors(self, key: dict[str, Any], images: Callable[[], np.ndarray]) -> np.ndarray:
        """Without a unit."""
        base = self.crops.base

        def compute(out: Path) -> None:
            shown = images()
            fits = shown.shape[1:3] == (base.side, base.side)
            errors = denoising_errors(base, shown) if fits else np.full(len(shown), np.nan)
            write_arrays(out / "denoising.npz", errors=errors)

        return read_arrays(self.crops.store.fetch("denoising", key, compute) / "denoising.npz")["errors"]

    def _key(self, images: dict[str, Any]) -> dict[str, Any]:
        base = self.crops.base
        return {"images": images, "base": base.fingerprint, **precision_key(base), **code("denoising")}
