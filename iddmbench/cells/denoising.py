"""The base's denoising error on pictures: it sees spoiled faces that the networks behind the utility index hardly notice."""

import numpy as np
import torch

from iddmbench.judges.base import AT_ONCE, pixels
from iddmbench.models.base import BaseModel
from iddmbench.personalize.trainer import denoise
from iddmbench.seeds import Seeds

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
