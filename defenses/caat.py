"""CAAT: cross-attention and photo against each other (Xu et al., arXiv 2404.15081)."""

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from iddmbench.defense import Workbench
from iddmbench.perturb.defense import Perturbation
from iddmbench.perturb.pgd import step
from iddmbench.perturb.victim import Victim


class CAAT(Perturbation):
    """One backward pass of the denoising loss serves both sides: the keys and values of the cross-attention descend
    (AdamW), the photos ascend (PGD). No further photos are needed.
    """

    name = "caat"
    title = "CAAT, cross-attention in opposition"
    paper = "arXiv 2404.15081"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"micro": {"steps": 100, "learning_rate": 1e-3}}

    prompt: str = Field(
        "", description="prompt of all photos; their captions by default ('a photo of a person' in its script)"
    )
    steps: int = Field(250, ge=1, description="iterations (CAAT, its script)")
    learning_rate: float = Field(1e-5, gt=0, description="AdamW rate of the cross-attention (CAAT, its script)")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW weight decay (CAAT, its code)")
    clip: float = Field(1.0, gt=0, description="largest norm of the weights' gradient (CAAT, its code)")

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        texts = [self.prompt] * len(references) if self.prompt else bench.captions(references)
        victim = Victim(bench.base, texts, torch.zeros(0))
        weights = cross_attention(victim.unet)
        optimizer = torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=self.weight_decay)
        generator, x = bench.seeds.child("pgd").torch(), clean
        for i in range(self.steps):
            x = x.detach().requires_grad_(True)
            loss = victim.loss(x, generator)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"perturbation diverged at step {i}: loss is {loss.item()}")
            gradient, *gradients = torch.autograd.grad(loss, [x, *weights])
            for weight, grad in zip(weights, gradients, strict=True):
                weight.grad = grad
            nn.utils.clip_grad_norm_(weights, self.clip)
            optimizer.step()
            x = step(x.detach(), clean, gradient, self.alpha, eps)
            bench.tick((i + 1) / self.steps)
        return x


def cross_attention(unet: nn.Module) -> list[nn.Parameter]:
    """Weights of the keys' and values' projections of every cross-attention, set to be trained."""
    weights = [p for name, p in unet.named_parameters() if "attn2.to_k" in name or "attn2.to_v" in name]
    for weight in weights:
        weight.requires_grad_(True)
    return weights
