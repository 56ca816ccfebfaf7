"""LowKey: a filter of the outputs against recognition systems (Cherepanova, Goldblum et al., arXiv 2101.07922)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2 import functional

from iddmbench.defense import Defense, Names, Workbench
from iddmbench.nets.efficientnet import EfficientNetLite0
from iddmbench.nets.surrogate import Surrogate
from iddmbench.perturb.pgd import ascend, random_start, to_bytes, to_signed

FARTHEST = 2.0
"""No ball: an image may go anywhere in [-1, 1]."""
START = 0.01
"""The released script's `noise_size` (.005 of pixels): how far its random start is from the image at most, in [-1, 1]."""


class LowKey(Defense):
    """Signed gradient ascent on the distance of an image's features to the clean image's own, for the image and for its
    smoothed version, less a perceptual distance. No ball bounds the change. Our re-implementation.

    `cloak` lowers the cosine to the person's mean within a ball, under random transforms. LPIPS needs weights that don't ship:
    the perceptual distance is that of EfficientNet-Lite0. An image without a face is posted as it is.

    The numbers are those of the script `lowkey_attack.py` that the authors released with the paper (openreview.net,
    hJmtwocEqzc); its option is named with each.
    """

    name = "lowkey"
    title = "LowKey, features of the image and of its smoothed version"
    paper = "arXiv 2101.07922"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"micro": {"radius": 1, "sigma": 1.0}}

    surrogate: Names = Field(
        ("sface", "dlib"), min_length=1, description="systems whose features are pushed away, comma-separated"
    )
    alpha: float = Field(
        0.005, gt=0, description="step size at strength 1 in [-1, 1] (its script: lr, .0025 of pixels)"
    )
    steps: int = Field(50, ge=1, description="steps (its script: n_iters)")
    weight: float = Field(0.05, ge=0, description="weight of the perceptual distance (its script: c_sim, of LPIPS)")
    radius: int = Field(
        3, ge=1, le=50, description="the smoothing's window is 2 radius + 1 pixels (its script: kernel_size_gf, 7)"
    )
    sigma: float = Field(3.0, gt=0, description="standard deviation of the smoothing in pixels (its script: sigma_gf)")
    variant: Literal["paper", "official"] = Field(
        "paper",
        description="paper: equation 1, from the image itself; official: squared distances averaged over dimensions, from a "
        "random start, as the released code (docs/defenses.md)",
    )

    def surrogates(self) -> tuple[str, ...]:
        return self.surrogate

    def judges(self) -> tuple[str, ...]:
        return ("efficientnet_lite0",)

    def release(self, images: np.ndarray, bench: Workbench) -> np.ndarray:
        found = bench.detector.detect(list(images)).found
        if self.strength == 0 or not found.any():
            return images
        released, shown = images.copy(), images[found]
        clean = to_signed(shown, bench.base.recipe.grayscale, bench.base.device)
        objective = self.objective(shown, clean, bench)
        start = clean
        if self.variant == "official":
            start = random_start(clean, self.strength * START, bench.seeds.child("start").torch())
        x = ascend(clean, start, objective, self.steps, self.strength * self.alpha, FARTHEST)
        released[found] = to_bytes(x, shown, FARTHEST)
        return released

    def objective(self, shown: np.ndarray, clean: Tensor, bench: Workbench) -> Callable[[Tensor], Tensor]:
        """The function of the images that is raised."""
        network = EfficientNetLite0(map_size=64).to(bench.base.device)
        pixels = _pixels(clean)
        systems = [System.of(bench.surrogate(name), shown, pixels) for name in self.surrogate]
        with torch.no_grad():
            maps = network.feature_maps(pixels)

        def objective(x: Tensor) -> Tensor:
            pixels = _pixels(x)
            smooth = functional.gaussian_blur(pixels, [2 * self.radius + 1] * 2, [self.sigma] * 2)
            features = ((s.clean, s.embed(pixels), s.embed(smooth)) for s in systems)
            pushed = away(features, averaged=self.variant == "official")
            return (pushed - self.weight * network.map_distance(network.feature_maps(pixels), maps)).mean()

        return objective


@dataclass(frozen=True)
class System:
    """A recognition system, its crops of the images, fixed from the clean ones, and their features [N, D]."""

    surrogate: Surrogate
    matrices: Tensor
    clean: Tensor

    @classmethod
    def of(cls, surrogate: Surrogate, shown: np.ndarray, pixels: Tensor) -> "System":
        matrices = surrogate.prepare(list(shown)).to(pixels.device)
        with torch.no_grad():
            return cls(surrogate, matrices, surrogate.embed(pixels, matrices))

    def embed(self, pixels: Tensor) -> Tensor:
        return self.surrogate.embed(pixels, self.matrices)


def away(systems: Iterable[tuple[Tensor, Tensor, Tensor]], averaged: bool = False) -> Tensor:
    """Equation 1 without its perceptual term, of each image: float [N].

    1 / (2 n) times the sum over n systems of (|f - g|^2 + |f - h|^2) / |f|, with f, g, h float [N, D] the features of the clean
    image, of the changed one and of its smoothed version.

    averaged: the released code's form, whose mean is also over the D dimensions; the perceptual term then weighs D times as
    much.
    """
    squares = (((f - g).square() + (f - h).square(), f.norm(dim=1)) for f, g, h in systems)
    parts = [(square.mean(1) if averaged else square.sum(1)) / norm for square, norm in squares]
    return torch.stack(parts).mean(0) / 2


def _pixels(x: Tensor) -> Tensor:
    """[N, 1 or 3, S, S] in [-1, 1] -> [N, 3, S, S] in [0, 1]."""
    return ((x + 1) / 2).expand(-1, 3, -1, -1)
