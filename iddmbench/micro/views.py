"""What the diffusion model of an embedded base learns from: encoded views of the training photos, and their captions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from iddmbench.faces.detect import YuNet
from iddmbench.micro.ahead import ahead
from iddmbench.micro.data import augment, to_tensor
from iddmbench.micro.domain import Domain, Original
from iddmbench.seeds import Seeds
from iddmbench.store.files import replacing


@dataclass(frozen=True)
class Views:
    """Random views, encoded once.

    latents: float [N, C, 8, 8], scaled to unit variance; names: each person's word or ""; parts: caption parts of each.
    """

    latents: Tensor
    names: list[str]
    parts: list[tuple[str, ...]]
    scaling_factor: float


def drawn_views(original: Original, domain: Domain, seed: int) -> list[tuple[np.ndarray, tuple[str, ...]]]:
    """`domain.views` views of a photo with their caption parts; one without a face is drawn again, at most five times."""
    detector, found = _detector(), []
    for v in range(domain.views):
        for attempt in range(5):
            rng = Seeds(seed).child("view", *original.key, v, attempt).numpy()
            view = augment(original.square, rng, domain.narrow)
            face = detector.detect([view])
            if face.found[0]:
                found.append((view, (*original.said, *domain.shown(view, face.landmarks[0]))))
                break
    return found


@lru_cache(maxsize=1)
def _detector() -> YuNet:
    return YuNet()


def encode_views(
    originals: list[Original],
    domain: Domain,
    vae: AutoencoderKL,
    seed: int,
    log: Callable[[str], None] = print,
    workers: int = 0,
) -> Views:
    """The views of every photo, encoded."""
    batch: list[np.ndarray] = []
    latents: list[Tensor] = []
    names: list[str] = []
    parts: list[tuple[str, ...]] = []

    def encode() -> None:
        with torch.inference_mode():
            latents.append(vae.encode(to_tensor(np.stack(batch)).to(vae.device)).latent_dist.mean.cpu())
        batch.clear()

    made = ahead(lambda number: drawn_views(originals[number], domain, seed), 0, len(originals), workers)
    for number, views in enumerate(made):
        for view, said in views:
            batch.append(view)
            names.append(originals[number].name)
            parts.append(said)
            if len(batch) == 64:
                encode()
        if number % 1000 == 999:
            log(f"views of {number + 1} of {len(originals)} photos")
    if batch:
        encode()
    z = torch.cat(latents).clone()
    factor = 1 / float(z.std())
    return Views(z * factor, names, parts, factor)


def views_once(
    path: Path,
    originals: list[Original],
    domain: Domain,
    vae: AutoencoderKL,
    vae_steps: int,
    seed: int,
    log: Callable[[str], None],
    workers: int = 0,
) -> Views:
    """`encode_views`, kept in a file for the next call; made anew when photos, autoencoder or seed are others."""
    key = [len(originals), domain.views, vae_steps, seed]
    if path.is_file():
        kept = torch.load(path, weights_only=True)
        if kept["key"] == key:
            return Views(kept["latents"], kept["names"], [tuple(p) for p in kept["parts"]], kept["factor"])
    views = encode_views(originals, domain, vae, seed, log, workers)
    kept = {"key": key, "latents": views.latents.half(), "names": views.names, "factor": views.scaling_factor}
    with replacing(path) as part:
        torch.save({**kept, "parts": [list(p) for p in views.parts]}, part)
    # what a resumed run reads, so that both see the same numbers
    return Views(views.latents.half(), views.names, views.parts, views.scaling_factor)
