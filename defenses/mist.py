"""Mist: towards a texture in latent space, away from the denoiser (Liang and Wu, arXiv 2305.12683)."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from iddmbench.defense import Workbench
from iddmbench.perturb.defense import Perturbation
from iddmbench.perturb.pgd import ascend, random_start
from iddmbench.perturb.target import target_latents
from iddmbench.perturb.victim import Victim


class Mist(Perturbation):
    """Minimizes ||E(x) - E(y)||^2 - w * L(x) from a random start: E(x) the latents, y a target texture, L the base's
    denoising loss (Eq. 8). `mode` keeps one of the two terms; its names are those of the released code.
    """

    name = "mist"
    title = "Mist, target texture and denoising loss"
    paper = "arXiv 2305.12683"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"micro": {}}

    eps: float = Field(
        32 / 255, ge=0, le=2, description="l_inf budget at strength 1 in [-1, 1], 16/255 of pixels (its code)"
    )
    alpha: float = Field(2 / 255, gt=0, description="PGD step size in [-1, 1], 1/255 of pixels (its code)")
    steps: int = Field(100, ge=1, description="PGD steps (its code)")
    mode: Literal["fused", "textural", "semantic"] = Field("fused", description="both terms, or one (its code)")
    weight: float = Field(1e4, ge=0, description="weight w of the denoising loss in the fused mode (its code)")
    target: str = Field("", description="target image; a high-contrast pattern by default")
    prompt: str = Field("a photo", description="prompt of the denoiser (its code, for objects)")

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        victim = Victim(bench.base, [self.prompt] * len(clean), torch.zeros(0))
        target = target_latents(self.target, bench.base)
        generator = bench.seeds.child("pgd").torch()
        start = random_start(clean, eps, bench.seeds.child("start").torch())
        x = ascend(clean, start, lambda x: self.objective(victim, x, target, generator), self.steps, self.alpha, eps)
        bench.tick(1.0)
        return x

    def objective(self, victim: Victim, x: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        """What grows, summed over photos x [N, C, S, S]: the negative of the loss above, each photo on its own."""
        if self.mode == "textural":
            return -(victim.latents(x) - target).square().sum()
        semantic = victim.view(x, generator).error().sum()
        if self.mode == "semantic":
            return semantic
        return self.weight * semantic - (victim.latents(x) - target).square().sum()
