"""What the diffusion model of an embedded base learns from: encoded views of the training photos, and their captions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from iddmbench.faces.detect import YuNet
from iddmbench.micro.data import augment, to_tensor
from iddmbench.micro.domain import Domain, Original
from iddmbench.seeds import Seeds
from iddmbench.store.files import replacing


@dataclass(frozen=True)
class Views:
    """Random views, encoded once.

    latents: float32 [N, 16, 8, 8], scaled to unit variance; names: each person's word or ""; parts: caption parts of each.
    """

    latents: Tensor
    names: list[str]
    parts: list[tuple[str, ...]]
    scaling_factor: float


def encode_views(
    originals: list[Original], domain: Domain, vae: AutoencoderKL, seed: int, log: Callable[[str], None] = print
) -> Views:
    """`domain.views` views of every photo; a view in which no face is found is drawn again (at most five times)."""
    detector = YuNet()
    batch: list[np.ndarray] = []
    latents: list[Tensor] = []
    names: list[str] = []
    parts: list[tuple[str, ...]] = []

    def encode() -> None:
        with torch.inference_mode():
            latents.append(vae.encode(to_tensor(np.stack(batch))).latent_dist.mean)
        batch.clear()

    for number, original in enumerate(originals):
        for v in range(domain.views):
            for attempt in range(5):
                rng = Seeds(seed).child("view", *original.key, v, attempt).numpy()
                view = augment(original.square, rng, domain.narrow)
                face = detector.detect([view])
                if face.found[0]:
                    batch.append(view)
                    names.append(original.name)
                    parts.append((*original.said, *domain.shown(view, face.landmarks[0])))
                    break
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
) -> Views:
    """`encode_views`, kept in a file for the next call; made anew when photos, autoencoder or seed are others."""
    key = [len(originals), domain.views, vae_steps, seed]
    if path.is_file():
        kept = torch.load(path, weights_only=True)
        if kept["key"] == key:
            return Views(kept["latents"], kept["names"], [tuple(p) for p in kept["parts"]], kept["factor"])
    views = encode_views(originals, domain, vae, seed, log)
    kept = {"key": key, "latents": views.latents.half(), "names": views.names, "factor": views.scaling_factor}
    with replacing(path) as part:
        torch.save({**kept, "parts": [list(p) for p in views.parts]}, part)
    # what a resumed run reads, so that both see the same numbers
    return Views(views.latents.half(), views.names, views.parts, views.scaling_factor)
