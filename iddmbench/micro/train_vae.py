"""First stage of an embedded base: an autoencoder of 64x64 faces with 8x8x16 latents."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from iddmbench.micro.data import SIDE, Spread, augment, to_tensor
from iddmbench.nets.efficientnet import EfficientNetLite0
from iddmbench.seeds import Seeds
from iddmbench.store.files import replacing

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (32, 32, 64, 128),
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 8,
    "sample_size": SIDE,
}


def blend(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A soft mixture of two views, so that the autoencoder does not only know a few people's faces."""
    ramp = cv2.resize(rng.random((3, 3)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]
    weight = np.clip(ramp, 0, 1)
    return (weight * a + (1 - weight) * b).astype(np.uint8)


def batch(
    photos: list[np.ndarray], size: int, rng: np.random.Generator, spread: Spread, blended: float
) -> torch.Tensor:
    views = []
    for _ in range(size):
        view = augment(photos[rng.integers(len(photos))], rng, spread)
        if rng.random() < blended:
            view = blend(view, augment(photos[rng.integers(len(photos))], rng, spread), rng)
        views.append(view)
    return to_tensor(np.stack(views))


def edges(x: torch.Tensor) -> torch.Tensor:
    """Horizontal and vertical differences of the gray image, for sharpness: [N, 2, H-1, W-1]."""
    gray = x.mean(1)
    return torch.stack((gray[:, 1:, 1:] - gray[:, 1:, :-1], gray[:, 1:, 1:] - gray[:, :-1, 1:]), 1)


def train_vae(
    photos: list[np.ndarray],
    folder: Path,
    steps: int,
    seed: int,
    log: Callable[[str], None],
    spread: Spread,
    blended: float = 0.0,
    batch_size: int = 8,
    start: Callable[[AutoencoderKL], None] | None = None,
) -> AutoencoderKL:
    """Train for `steps` steps in all; resumes from `folder/vae.pt`; returns the averaged weights.
    `start` fills the fresh network with other weights than random ones.

    Loss: L1 + 0.5 * L1 of differences + 0.05 * EfficientNet feature distance + 1e-4 * KL.
    """
    torch.manual_seed(seed)
    model = AutoencoderKL(**CONFIG).to(memory_format=torch.channels_last)
    if start is not None:
        start(model)
    average = AutoencoderKL(**CONFIG).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    features = EfficientNetLite0(map_size=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    step = 0
    state_file = folder / "vae.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    last_save = time.monotonic()
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        seeds = Seeds(seed).child("vae", step)
        x = batch(photos, batch_size, seeds.numpy(), spread, blended).to(memory_format=torch.channels_last)
        posterior = model.encode(x).latent_dist
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=seeds.child("noise").torch())
        y = model.decode(z).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        pixel = F.l1_loss(y, x)
        sharp = F.l1_loss(edges(y), edges(x))
        deep = features.perceptual_distance((y + 1) / 2, (x + 1) / 2).mean()
        loss = pixel + 0.5 * sharp + 0.05 * deep + 1e-4 * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(0.999, (step + 1) / (step + 10))
            for p, q in zip(average.parameters(), model.parameters(), strict=True):
                p.lerp_(q, 1 - decay)
        step += 1
        now = time.monotonic()
        if step % 25 == 0:
            log(f"vae {step} l1 {pixel:.4f} edges {sharp:.4f} deep {deep:.4f} kl {kl:.3f}")
        if now - last_save > 120 or step == steps:
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            with replacing(state_file) as part:
                torch.save({**state, "step": step}, part)
            last_save = now
    return average.eval()
