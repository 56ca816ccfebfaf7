"""First stage of an embedded base: an autoencoder of 64 x 64 faces with 8 x 8 latents."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from iddmbench.micro.ahead import ahead
from iddmbench.micro.data import SIDE, Spread, augment, to_tensor
from iddmbench.nets.efficientnet import EfficientNetLite0
from iddmbench.seeds import Seeds
from iddmbench.store.files import replacing

CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (32, 32, 64, 128),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_size": SIDE,
}


def blend(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A soft mixture of two views, so that the autoencoder does not only know a few people's faces."""
    ramp = cv2.resize(rng.random((3, 3)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]
    weight = np.clip(ramp, 0, 1)
    return (weight * a + (1 - weight) * b).astype(np.uint8)


def batch(photos: list[np.ndarray], size: int, rng: np.random.Generator, spread: Spread, blended: float) -> np.ndarray:
    """Views of random photos: uint8 [size, 64, 64, 3]."""
    views = []
    for _ in range(size):
        view = augment(photos[rng.integers(len(photos))], rng, spread)
        if rng.random() < blended:
            view = blend(view, augment(photos[rng.integers(len(photos))], rng, spread), rng)
        views.append(view)
    return np.stack(views)


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
    channels: int = 16,
    perceptual: float = 0.05,
    blended: float = 0.0,
    batch_size: int = 8,
    device: str = "cpu",
    workers: int = 0,
) -> AutoencoderKL:
    """Train for `steps` steps in all; resumes from `folder/vae.pt`; returns the averaged weights, on the CPU.

    Loss: L1 + 0.5 * L1 of differences + `perceptual` * EfficientNet feature distance + 1e-4 * KL. Views and noise are drawn
    on the CPU, so that they are the same on every device and with any number of worker processes.
    """
    torch.manual_seed(seed)
    model = AutoencoderKL(**CONFIG, latent_channels=channels)
    average = AutoencoderKL(**CONFIG, latent_channels=channels).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    average.to(device)
    model.to(device, memory_format=torch.channels_last)
    features = EfficientNetLite0(map_size=64).to(device) if perceptual else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    step = 0
    state_file = folder / "vae.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]

    def drawn(step: int) -> np.ndarray:
        return batch(photos, batch_size, Seeds(seed).child("vae", step).numpy(), spread, blended)

    last_save = time.monotonic()
    for views in ahead(drawn, step, steps, workers):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        x = to_tensor(views).to(device, memory_format=torch.channels_last)
        posterior = model.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=Seeds(seed).child("vae", step).child("noise").torch())
        z = posterior.mean + posterior.std * noise.to(device)
        y = model.decode(z).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        pixel = F.l1_loss(y, x)
        sharp = F.l1_loss(edges(y), edges(x))
        loss = pixel + 0.5 * sharp + 1e-4 * kl
        if features is not None:
            loss = loss + perceptual * features.perceptual_distance((y + 1) / 2, (x + 1) / 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(0.999, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        step += 1
        now = time.monotonic()
        if step % 25 == 0:
            log(f"vae {step} l1 {pixel:.4f} edges {sharp:.4f} kl {kl:.3f}")
        if now - last_save > 120 or step == steps:
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            with replacing(state_file) as part:
                torch.save({**state, "step": step}, part)
            last_save = now
    return average.cpu().eval()
