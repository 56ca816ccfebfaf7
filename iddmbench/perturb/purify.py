"""The purifiers that ship: JPEG, blur, resize, total variation, SDEdit, DiffPure, upscaling."""

import io
from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator
from torch import Tensor

from iddmbench.models.base import BaseModel
from iddmbench.personalize.sample import to_images
from iddmbench.perturb.purifier import Purifier, own_seeds
from iddmbench.photos.references import resize
from iddmbench.seeds import Seeds

SDEDIT_STEPS = 50
"""Sampler steps from pure noise; an image noised to t* takes that share of them."""
BATCH = 16
"""Images that are denoised at once."""


class Jpeg(Purifier):
    """A round trip through JPEG (Pillow, 4:2:0)."""

    name, title = "jpeg", "JPEG"
    quality: int = Field(75, ge=1, le=95, description="Pillow's quality")

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        return np.stack([self._one(image) for image in images])

    def _one(self, image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=self.quality)
        return np.asarray(Image.open(buffer).convert("RGB"))


class Blur(Purifier):
    """A Gaussian blur, edges repeated."""

    name, title = "blur", "Gaussian blur"
    sigma: float = Field(1.0, gt=0, le=100, description="standard deviation in pixels")

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        width = 2 * int(np.ceil(4 * self.sigma)) + 1
        return np.stack(
            [cv2.GaussianBlur(x, (width, width), self.sigma, borderType=cv2.BORDER_REPLICATE) for x in images]
        )


class Gaussian(Purifier):
    """The Gaussian filter of the perturbation papers' robustness tests, named by its window; edges repeated.

    Its deviation is the usual one for a window of k pixels, 0.3 ((k - 1) / 2 - 1) + 0.8 (OpenCV, torchvision): 1.4 for 7.
    """

    name, title = "gaussian", "Gaussian filter by window"
    window: int = Field(7, ge=3, le=99, description="window in pixels, odd")

    @field_validator("window")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("the window must be odd")
        return value

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        window, sigma = (self.window, self.window), 0.3 * ((self.window - 1) / 2 - 1) + 0.8
        return np.stack([cv2.GaussianBlur(x, window, sigma, borderType=cv2.BORDER_REPLICATE) for x in images])


class Resize(Purifier):
    """Down to 1/factor of each side (area average) and back (bicubic)."""

    name, title = "resize", "down and back"
    factor: float = Field(2.0, gt=1, le=64, description="factor by which each side is reduced first")

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        height, width = images.shape[1:3]
        small = max(1, round(width / self.factor)), max(1, round(height / self.factor))
        shrunk = [cv2.resize(x, small, interpolation=cv2.INTER_AREA) for x in images]
        return np.stack([cv2.resize(x, (width, height), interpolation=cv2.INTER_CUBIC) for x in shrunk])


class TotalVariation(Purifier):
    """Total-variation denoising (Rudin, Osher, Fatemi 1992) by Chambolle's dual projection (J. Math. Imaging 20, 2004).

    Minimizes |grad u|_1 + |u - image|^2 / (2 weight) per channel, images in [0, 1].
    """

    name, title = "tv", "total-variation denoising"
    ITERATIONS: ClassVar[int] = 100
    weight: float = Field(0.05, gt=0, le=10, description="weight of the total variation, of images in [0, 1]")

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        clean = np.stack([total_variation(x.astype(np.float64) / 255, self.weight, self.ITERATIONS) for x in images])
        return (clean.clip(0, 1) * 255).round().astype(np.uint8)


def total_variation(image: np.ndarray, weight: float, iterations: int) -> np.ndarray:
    """float [H, W, C] -> float [H, W, C]; Chambolle's fixed point (his equation 9) with step 1/4, each channel alone."""
    dual = np.zeros((2, *image.shape))
    for _ in range(iterations):
        gradient = _gradient(_divergence(dual) - image / weight)
        length = np.sqrt((gradient**2).sum(0))
        dual = (dual + 0.25 * gradient) / (1 + 0.25 * length)
    return image - weight * _divergence(dual)


def _gradient(x: np.ndarray) -> np.ndarray:
    """Forward differences along rows and columns, 0 at the far edge: [2, H, W, C]."""
    gradient = np.zeros((2, *x.shape))
    gradient[0, :-1] = x[1:] - x[:-1]
    gradient[1, :, :-1] = x[:, 1:] - x[:, :-1]
    return gradient


def _divergence(p: np.ndarray) -> np.ndarray:
    """Minus the adjoint of `_gradient`."""
    divergence = np.zeros(p.shape[1:])
    divergence[:-1] += p[0, :-1]
    divergence[1:] -= p[0, :-1]
    divergence[:, :-1] += p[1, :, :-1]
    divergence[:, 1:] -= p[1, :, :-1]
    return divergence


class SDEdit(Purifier):
    """Noise to t* and denoise with the base model: SDEdit (Meng et al., arXiv 2108.01073), as a purifier DiffPure (Nie et
    al., arXiv 2205.07460), here in the base's latent space.

    The base is not personalized; it sees its class prompt, without
    guidance; the sampler is DDIM (deterministic after the first noise). Images of another size than the base's go through
    it at the base's size and come back at their own.
    """

    name, title, needs_base = "sdedit", "noised to t* and denoised by the base model", True
    level: float = Field(0.2, ge=1 / SDEDIT_STEPS, lt=1, description="t* as a share of the noise schedule")

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        from diffusers import DDIMScheduler

        assert base is not None  # `__call__` has seen to it
        scheduler = DDIMScheduler.from_config(base.scheduler.config)
        scheduler.set_timesteps(SDEDIT_STEPS, device=base.device)
        steps = scheduler.timesteps[-round(self.level * SDEDIT_STEPS) :]
        return _denoised(images, seeds, base, scheduler, steps, lambda draws: {})


class DiffPure(Purifier):
    """DiffPure (Nie et al., arXiv 2205.07460) in the base's latent space: noised to t* and brought back by the reverse process
    with its noise, one step per timestep.

    Their t* is 0.1 for CIFAR-10, 0.15 for ImageNet and 0.5 for CelebA-HQ. `sdedit` is the deterministic form in 50 steps. The
    base sees its class prompt, without guidance.
    """

    name, title, needs_base = "diffpure", "noised to t* and denoised step by step, with fresh noise", True
    level: float = Field(0.15, ge=1e-3, lt=1, description="t* as a share of the noise schedule")

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        from diffusers import DDIMScheduler

        assert base is not None  # `__call__` has seen to it
        # With eta = 1 and every timestep, DDIM is the ancestral sampler of DDPM (arXiv 2010.02502, section 4.1).
        every: dict[str, Any] = {"timestep_spacing": "leading", "steps_offset": 0, "clip_sample": False}
        scheduler = DDIMScheduler.from_config(base.scheduler.config, **every)
        count = scheduler.config.num_train_timesteps
        scheduler.set_timesteps(count, device=base.device)
        steps = scheduler.timesteps[-max(1, round(self.level * count)) :]

        def noise(draws: list[torch.Generator]) -> dict[str, Any]:
            side, channels = base.unet.config.sample_size, base.unet.config.in_channels
            fresh = [torch.randn((channels, side, side), generator=draw) for draw in draws]
            return {"eta": 1.0, "variance_noise": torch.stack(fresh).to(base.device)}

        return _denoised(images, seeds, base, scheduler, steps, noise)


class Upscale(Purifier):
    """Down to 1/factor of each side (area average), enlarged (Lanczos), and given detail again by the base model at a low t*.

    A stand-in for the diffusion upscalers that undo protections (arXiv 2406.12027), which need weights of their own.
    """

    name, title, needs_base = "upscale", "reduced, enlarged and detailed by the base model", True
    factor: float = Field(2.0, gt=1, le=64, description="factor by which each side is reduced first")
    level: float = Field(
        0.1, ge=1 / SDEDIT_STEPS, lt=1, description="t* of the base model, a share of the noise schedule"
    )

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        height, width = images.shape[1:3]
        small = max(1, round(width / self.factor)), max(1, round(height / self.factor))
        shrunk = [cv2.resize(x, small, interpolation=cv2.INTER_AREA) for x in images]
        large = np.stack([cv2.resize(x, (width, height), interpolation=cv2.INTER_LANCZOS4) for x in shrunk])
        return SDEdit(level=self.level).apply(large, seeds, base)


def _denoised(
    images: np.ndarray,
    seeds: Seeds,
    base: BaseModel,
    scheduler: Any,
    steps: Tensor,
    further: Callable[[list[torch.Generator]], dict[str, Any]],
) -> np.ndarray:
    """uint8 [N, H, W, 3] noised to the first of `steps` and denoised along them, at the base's size and back.

    further: arguments of the scheduler's step, from the images' generators.
    """
    height, width = images.shape[1:3]
    squares = np.stack([_to_square(x, base.side) for x in images])
    condition = base.embed_text([base.recipe.prompts.class_])
    cleaned = []
    for start in range(0, len(squares), BATCH):
        part = squares[start : start + BATCH]
        pixels = torch.from_numpy(part).permute(0, 3, 1, 2).float().div(255).to(base.device)
        draws = [own_seeds(seeds, image).torch() for image in part]
        with torch.inference_mode():
            latents = base.encode(pixels)
            noise = [torch.randn(latents.shape[1:], generator=draw) for draw in draws]
            latents = scheduler.add_noise(latents, torch.stack(noise).to(base.device), steps[:1])
            for step in steps:
                with base.autocast():
                    predicted = base.unet(latents, step, condition.expand(len(part), -1, -1)).sample.float()
                latents = scheduler.step(predicted, step, latents, **further(draws)).prev_sample
        cleaned.append(to_images(base, latents))
    return np.stack([_from_square(x, height, width) for x in np.concatenate(cleaned)])


def _to_square(image: np.ndarray, side: int) -> np.ndarray:
    """Pad to a square (edges repeated, below and right) and resize."""
    height, width = image.shape[:2]
    longer = max(height, width)
    padded = cv2.copyMakeBorder(image, 0, longer - height, 0, longer - width, cv2.BORDER_REPLICATE)
    return padded if longer == side else resize(padded, side)


def _from_square(image: np.ndarray, height: int, width: int) -> np.ndarray:
    longer = max(height, width)
    whole = image if longer == len(image) else resize(image, longer)
    return whole[:height, :width]
