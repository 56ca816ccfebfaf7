"""Purifiers: simple changes of an image that undo fragile perturbations, of photos before training or of posted images.

`purifier("jpeg-75")` gives one by name; `PURIFIERS` are the ones that the benchmark uses. What becomes of an image never
depends on the others of its batch.
"""

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable

import cv2
import numpy as np
import torch
from PIL import Image

from iddmbench.errors import UserError, did_you_mean
from iddmbench.models.base import BaseModel
from iddmbench.personalize.sample import to_images
from iddmbench.photos.references import resize
from iddmbench.seeds import Seeds

SDEDIT_STEPS = 50
"""Sampler steps from pure noise; an image noised to t* takes that share of them."""


class Purifier(ABC):
    """One purifier with its parameter.

    Attributes:
        name: with the parameter ("jpeg-75").
        title: one line for lists.
        needs_base: whether a call needs the base model.
    """

    name: str
    title: str
    needs_base = False

    def __call__(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None = None) -> np.ndarray:
        """uint8 [N, H, W, 3] -> the same shape, image by image.

        Args:
            seeds: of the draws; each image's are derived from it and the image's own pixels.
            base: the base model, for those that need it.

        Raises TypeError or ValueError for other input, ValueError when the base is needed and missing.
        """
        if images.dtype != np.uint8:
            raise TypeError(f"images must be uint8, got {images.dtype}")
        if images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images must be [N, H, W, 3], got {images.shape}")
        if self.needs_base and base is None:
            raise ValueError(f"purifier '{self.name}' needs the base model")
        return self.apply(images, seeds, base) if len(images) else images.copy()

    @abstractmethod
    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        """What a subclass does, on checked and non-empty input."""


class Jpeg(Purifier):
    """A round trip through JPEG (Pillow, 4:2:0); quality in 1..95."""

    def __init__(self, quality: float):
        if not 1 <= quality <= 95:
            raise ValueError("quality must lie in 1..95")
        self.quality = int(quality)
        self.name, self.title = f"jpeg-{self.quality}", f"JPEG at quality {self.quality}"

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        return np.stack([self._one(image) for image in images])

    def _one(self, image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=self.quality)
        return np.asarray(Image.open(buffer).convert("RGB"))


class Blur(Purifier):
    """A Gaussian blur; sigma in pixels, edges repeated."""

    def __init__(self, sigma: float):
        if not 0 < sigma <= 100:
            raise ValueError("sigma must lie in (0, 100] pixels")
        self.sigma = sigma
        self.name, self.title = f"blur-{sigma:g}", f"Gaussian blur, sigma {sigma:g} pixels"

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        width = 2 * int(np.ceil(4 * self.sigma)) + 1
        return np.stack(
            [cv2.GaussianBlur(x, (width, width), self.sigma, borderType=cv2.BORDER_REPLICATE) for x in images]
        )


class Resize(Purifier):
    """Down to 1/factor of each side (area average) and back (bicubic)."""

    def __init__(self, factor: float):
        if not 1 < factor <= 64:
            raise ValueError("the factor must lie in (1, 64]")
        self.factor = factor
        self.name, self.title = f"resize-{factor:g}", f"down to 1/{factor:g} and back"

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        height, width = images.shape[1:3]
        small = max(1, round(width / self.factor)), max(1, round(height / self.factor))
        shrunk = [cv2.resize(x, small, interpolation=cv2.INTER_AREA) for x in images]
        return np.stack([cv2.resize(x, (width, height), interpolation=cv2.INTER_CUBIC) for x in shrunk])


class TotalVariation(Purifier):
    """Total-variation denoising (Rudin, Osher, Fatemi 1992) by Chambolle's dual projection (J. Math. Imaging 20, 2004).

    Minimizes |grad u|_1 + |u - image|^2 / (2 weight) per channel, images in [0, 1].
    """

    ITERATIONS = 100

    def __init__(self, weight: float = 0.05):
        if not 0 < weight <= 10:
            raise ValueError("the weight must lie in (0, 10]")
        self.weight = weight
        self.name, self.title = f"tv-{weight:g}", f"total-variation denoising, weight {weight:g}"

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

    `level` is t* as a share of the noise schedule, in (0, 1). The base is not personalized; it sees its class prompt, without
    guidance; the sampler is DDIM (deterministic after the first noise). Images of another size than the base's go through
    it at the base's size and come back at their own.
    """

    needs_base = True
    BATCH = 16

    def __init__(self, level: float):
        if not 1 / SDEDIT_STEPS <= level < 1:
            raise ValueError(f"t* must lie in [{1 / SDEDIT_STEPS:g}, 1)")
        self.level = level
        self.name, self.title = f"sdedit-{level:g}", f"noised to t* = {level:g} and denoised by the base model"

    def apply(self, images: np.ndarray, seeds: Seeds, base: BaseModel | None) -> np.ndarray:
        from diffusers import DDIMScheduler

        assert base is not None  # `__call__` has seen to it
        height, width = images.shape[1:3]
        squares = np.stack([_to_square(x, base.side) for x in images])
        scheduler = DDIMScheduler.from_config(base.scheduler.config)
        scheduler.set_timesteps(SDEDIT_STEPS, device=base.device)
        steps = scheduler.timesteps[-round(self.level * SDEDIT_STEPS) :]
        condition = base.embed_text([base.recipe.prompts.class_])
        cleaned = []
        for start in range(0, len(squares), self.BATCH):
            part = squares[start : start + self.BATCH]
            pixels = torch.from_numpy(part).permute(0, 3, 1, 2).float().div(255).to(base.device)
            with torch.inference_mode():
                latents = base.encode(pixels)
                noise = [torch.randn(latents.shape[1:], generator=_own(seeds, image).torch()) for image in part]
                latents = scheduler.add_noise(latents, torch.stack(noise).to(base.device), steps[:1])
                for step in steps:
                    with base.autocast():
                        predicted = base.unet(latents, step, condition.expand(len(part), -1, -1)).sample.float()
                    latents = scheduler.step(predicted, step, latents).prev_sample
            cleaned.append(to_images(base, latents))
        return np.stack([_from_square(x, height, width) for x in np.concatenate(cleaned)])


def _own(seeds: Seeds, image: np.ndarray) -> Seeds:
    """An image's own draws: the same wherever it stands in a batch."""
    return seeds.child("purify", hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest())


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


KINDS: dict[str, Callable[[float], Purifier]] = {
    "jpeg": Jpeg,
    "blur": Blur,
    "resize": Resize,
    "tv": TotalVariation,
    "sdedit": SDEdit,
}
PURIFIERS = ("jpeg-75", "jpeg-50", "blur-1", "resize-2", "tv-0.05", "sdedit-0.1", "sdedit-0.2", "sdedit-0.3")
"""The ones that the benchmark tries; any other parameter may be asked for by name."""


def purifier(name: str) -> Purifier:
    """The purifier of that name, "kind-parameter". Raises UserError for an unknown kind or a parameter out of range."""
    kind, _, parameter = name.partition("-")
    if kind not in KINDS or not parameter:
        raise UserError(f"unknown purifier '{name}': {did_you_mean(name, PURIFIERS)}")
    try:
        return KINDS[kind](float(parameter))
    except ValueError as error:
        raise UserError(f"purifier '{name}': {error}") from error
