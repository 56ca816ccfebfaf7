"""PhotoGuard, encoder attack: photos whose latents are empty or show something else (Salman et al., arXiv 2302.06588)."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from iddmbench.defense import Workbench
from iddmbench.perturb.defense import Perturbation
from iddmbench.perturb.pgd import ascend, random_start
from iddmbench.perturb.target import target_latents


class PhotoGuard(Perturbation):
    """Minimizes the l_2 norm of the VAE's mean latents, or their distance to a target's, from a random start (Eq. 4).

    The step size falls linearly to a hundredth.
    """

    name = "photoguard"
    title = "PhotoGuard, encoder attack"
    paper = "arXiv 2302.06588"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"micro": {"steps": 200}}

    eps: float = Field(0.06, ge=0, le=2, description="l_inf budget at strength 1 in [-1, 1] (PhotoGuard, its notebook)")
    alpha: float = Field(0.02, gt=0, description="first PGD step size in [-1, 1] (its notebook)")
    steps: int = Field(1000, ge=1, description="PGD steps (its notebook)")
    mode: Literal["untargeted", "targeted"] = Field("untargeted", description="to zero, or to the latents of a target")
    target: str = Field("", description="target image of the targeted mode; a high-contrast pattern by default")

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        base, wanted = bench.base, torch.zeros(1, device=bench.base.device)
        if self.mode == "targeted":
            wanted = target_latents(self.target, base)

        def objective(x: Tensor) -> Tensor:
            latents = base.encode_signed(x.expand(-1, 3, -1, -1))
            return -torch.linalg.vector_norm(latents - wanted, dim=(1, 2, 3)).sum()

        start = random_start(clean, eps, bench.seeds.child("start").torch())
        x = ascend(clean, start, objective, self.steps, lambda i: self.alpha * (1 - 0.99 * i / self.steps), eps)
        bench.tick(1.0)
        return x
