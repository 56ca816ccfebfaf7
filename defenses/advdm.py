"""AdvDM: photos that the base model itself denoises badly (Liang et al., arXiv 2302.04578)."""

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from iddmbench.defense import Workbench
from iddmbench.perturb.defense import Perturbation
from iddmbench.perturb.pgd import ascend
from iddmbench.perturb.victim import Victim


class AdvDM(Perturbation):
    """PGD ascent on the base's denoising loss, noise and timesteps drawn anew at every step (Alg. 1). Nothing is trained."""

    name = "advdm"
    title = "AdvDM, denoising loss of the base"
    paper = "arXiv 2302.04578"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"micro": {}}

    eps: float = Field(
        16 / 255, ge=0, le=2, description="l_inf budget at strength 1 in [-1, 1], 8/255 of pixels (paper)"
    )
    alpha: float = Field(2 / 255, gt=0, description="PGD step size in [-1, 1], 1/255 of pixels (paper)")
    steps: int = Field(100, ge=1, description="PGD steps (paper)")
    prompt: str = Field("a photo", description="prompt of the denoiser")

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        victim = Victim(bench.base, [self.prompt] * len(clean), torch.zeros(0))
        generator = bench.seeds.child("pgd").torch()
        x = ascend(clean, clean, lambda x: victim.loss(x, generator), self.steps, self.alpha, eps)
        bench.tick(1.0)
        return x
