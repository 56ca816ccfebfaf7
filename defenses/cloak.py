"""Cloak: adversarial perturbation of the outputs against recognition (Fawkes, arXiv 2002.08327; LowKey, arXiv 2101.07922)."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from iddmbench.defense import Defense, ExtraPhotos, Names, Workbench
from iddmbench.nets.efficientnet import EfficientNetLite0
from iddmbench.nets.surrogate import Surrogate
from iddmbench.perturb.pgd import ascend, to_bytes, to_signed
from iddmbench.perturb.transforms import random_blur, random_resize


class Cloak(Defense):
    """PGD on each posted image that lowers its cosine to the person under the surrogates and keeps it similar.

    The person's template is the normalized mean embedding of the outputs themselves. Inputs are resized and blurred at
    random for transfer to other systems. An image without a face is posted as it is.
    """

    name = "cloak"
    title = "adversarial cloak of the outputs (Fawkes, LowKey)"
    paper = "arXiv 2101.07922"

    surrogate: Names = Field(("sface",), min_length=1, description="face-recognition systems to evade, comma-separated")
    mode: Literal["untargeted", "targeted"] = Field("untargeted", description="move away, or toward a decoy identity")
    eps: float = Field(32 / 255, ge=0, le=2, description="l_inf budget at strength 1 in [-1, 1], 16/255 of pixels")
    alpha: float = Field(4 / 255, gt=0, description="PGD step size in [-1, 1]")
    steps: int = Field(40, ge=1, description="PGD steps")
    weight: float = Field(
        0.3, ge=0, description="weight of the EfficientNet-Lite0 feature distance to the clean output"
    )
    smallest: float = Field(0.6, gt=0, le=1, description="input diversity: smallest random resize")

    def surrogates(self) -> tuple[str, ...]:
        return self.surrogate

    def judges(self) -> tuple[str, ...]:
        return ("efficientnet_lite0",)

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        return ("decoys",) if self.mode == "targeted" else ()

    def release(self, images: np.ndarray, bench: Workbench) -> np.ndarray:
        eps = self.strength * self.eps
        found = bench.detector.detect(list(images)).found
        if eps == 0 or not found.any():
            return images
        released, shown = images.copy(), images[found]
        clean = to_signed(shown, bench.base.recipe.grayscale, bench.base.device)
        x = ascend(clean, clean, self.objective(shown, clean, bench), self.steps, self.alpha, eps)
        released[found] = to_bytes(x, shown, eps)
        return released

    def objective(self, shown: np.ndarray, clean: Tensor, bench: Workbench) -> Callable[[Tensor], Tensor]:
        """The function of the photos that PGD raises."""
        features = EfficientNetLite0(map_size=64).to(bench.base.device)
        generator = bench.seeds.child("cloak").torch()
        systems = [self._target(bench.surrogate(name), shown, clean, bench) for name in self.surrogate]
        with torch.no_grad():
            maps = features.feature_maps(_pixels(clean))

        def objective(x: Tensor) -> Tensor:
            pixels = _pixels(x)
            varied = random_blur(random_resize(pixels, self.smallest, generator), 3, (0.1, 1.0), generator)
            cosines = [(s.embed(varied, matrices) @ template).mean() for s, matrices, template in systems]
            sign = -1 if self.mode == "untargeted" else 1
            distance = features.map_distance(features.feature_maps(pixels), maps).mean()
            return sign * torch.stack(cosines).sum() - self.weight * distance

        return objective

    def _target(
        self, surrogate: Surrogate, shown: np.ndarray, clean: Tensor, bench: Workbench
    ) -> tuple[Surrogate, Tensor, Tensor]:
        matrices = surrogate.prepare(list(shown))
        if self.mode == "targeted":
            return surrogate, matrices, surrogate.template(list(bench.decoys))
        with torch.no_grad():
            template = F.normalize(surrogate.embed(_pixels(clean), matrices).mean(0), dim=0)
        return surrogate, matrices, template


def _pixels(x: Tensor) -> Tensor:
    """[N, 1 or 3, S, S] in [-1, 1] -> [N, 3, S, S] in [0, 1]."""
    return ((x + 1) / 2).expand(-1, 3, -1, -1)
