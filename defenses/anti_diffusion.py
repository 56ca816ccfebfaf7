"""Anti-Diffusion: the prompt is tuned along with the photos (Zheng, Xie et al., arXiv 2503.05595)."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from iddmbench.defense import Workbench
from iddmbench.errors import UserError
from iddmbench.perturb.defense import Perturbation
from iddmbench.perturb.pgd import ascend
from iddmbench.perturb.taps import cross_attention
from iddmbench.perturb.victim import Victim


class AntiDiffusion(Perturbation):
    """PGD that raises the denoising loss and takes attention away from the text (semantic disturbance), under a text embedding
    that is tuned to the photos (prompt tuning).

    Rounds follow a first tuning and attack: the UNet is tuned on the photos, these are attacked again, and the text embedding
    is tuned on what came out. Our re-implementation.
    """

    name = "anti-diffusion"
    title = "Anti-Diffusion, tuned prompt and semantic disturbance"
    paper = "arXiv 2503.05595"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"micro": {"learning_rate": 1e-4, "attention": 8}}

    alpha: float = Field(2e-3, gt=0, description="PGD step size, for images in [-1, 1] (Anti-Diffusion, its script)")
    rounds: int = Field(5, ge=0, description="rounds after the first attack (Anti-Diffusion, its script)")
    steps: int = Field(10, ge=1, description="PGD steps per attack (Anti-Diffusion, its script)")
    prompt_steps: int = Field(30, ge=0, description="steps of prompt tuning each time (Anti-Diffusion, its code)")
    prompt_rate: float = Field(1e-3, gt=0, description="AdamW rate of prompt tuning (Anti-Diffusion, its code)")
    train_steps: int = Field(20, ge=0, description="steps of the UNet per round (Anti-Diffusion, its code)")
    learning_rate: float = Field(5e-7, gt=0, description="AdamW rate of the UNet (Anti-Diffusion, its code)")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW weight decay of both (Anti-Diffusion, its code)")
    attention: int = Field(
        16, ge=1, description="side of the attention maps that are disturbed (Anti-Diffusion, its code)"
    )
    gain: float = Field(
        100.0, gt=0, description="attention is multiplied by it, then clipped at 1 (Anti-Diffusion, its code)"
    )
    disturbance: float = Field(1.0, ge=0, description="weight of the semantic disturbance (Anti-Diffusion)")
    variant: Literal["paper", "official"] = Field(
        "paper", description="official: with the released code's defects (docs/defenses.md)"
    )

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        victim = Victim(bench.base, [""] * len(clean), torch.zeros(0))
        text = victim.condition(bench.base.tokens([""])).detach()
        attacks, official = self.rounds + 1, self.variant == "official"

        def attack(x: Tensor, r: int) -> Tensor:
            """Round r's PGD. The released code measures the budget from what the round before left."""
            generator = bench.seeds.child("pgd", r).torch()
            ball, radius = (x, eps / attacks) if official else (clean, eps)
            moved = ascend(
                ball, x, lambda photos: self.objective(victim, photos, text, generator), self.steps, self.alpha, radius
            )
            bench.tick((r + 1) / attacks)
            return moved

        text = self.tune_prompt(victim, clean, text, bench.seeds.child("prompt", 0).torch())
        x = attack(clean, 0)
        for r in range(1, attacks):
            self.tune_unet(victim, x, text, bench.seeds.child("unet", r).torch())
            x = attack(x, r)
            if r < attacks - 1:  # nothing uses the last one
                text = self.tune_prompt(victim, x, text, bench.seeds.child("prompt", r).torch())
        return x

    def objective(self, victim: Victim, x: Tensor, text: Tensor, generator: torch.Generator) -> Tensor:
        """What PGD raises: the denoising loss minus the weighted semantic disturbance, the mean over the photos.

        x: photos [N, C, S, S] in [-1, 1]; text: embedding [1, tokens, width].
        Raises UserError when the base has no cross-attention of the side that is wanted.
        """
        with cross_attention(victim.unet, self.attention) as maps:
            error = self._view(victim, victim.latents(x), text, generator)
        if not maps:
            raise UserError(
                f"defense '{self.name}': base '{victim.base.name}' has no cross-attention of {self.attention} x "
                f"{self.attention} in its down and up blocks: set attention to the side of one it has"
            )
        if self.variant == "official":  # it keeps the second half of the heads, meant to be the half with a prompt
            maps = [each[:, each.shape[1] // 2 :] for each in maps]
        return error.mean() - self.disturbance * disturbance(torch.cat(maps, 1), self.gain)

    def tune_prompt(self, victim: Victim, x: Tensor, text: Tensor, generator: torch.Generator) -> Tensor:
        """The text embedding [1, tokens, width] after AdamW on the photos' denoising loss."""
        with torch.no_grad():
            latents = victim.latents(x)
        tuned = nn.Parameter(text.clone())
        self._descend([tuned], self.prompt_rate, self.prompt_steps, victim, latents, tuned, generator, clip=0.0)
        return tuned.detach()

    def tune_unet(self, victim: Victim, x: Tensor, text: Tensor, generator: torch.Generator) -> None:
        """AdamW on the UNet's weights: the photos' denoising loss under the tuned text."""
        with torch.no_grad():
            latents = victim.latents(x)
        weights = list(victim.unet.parameters())
        for weight in weights:
            weight.requires_grad_(True)
        clip = 0.0 if self.variant == "official" else 1.0
        self._descend(weights, self.learning_rate, self.train_steps, victim, latents, text, generator, clip)
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None

    def _descend(
        self,
        weights: list[nn.Parameter],
        rate: float,
        steps: int,
        victim: Victim,
        latents: Tensor,
        text: Tensor,
        generator: torch.Generator,
        clip: float,
    ) -> None:
        """`steps` of AdamW on the denoising loss; clip: largest norm of the gradient, 0 = not clipped."""
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=self.weight_decay)
        for i in range(steps):
            loss = self._view(victim, latents, text, generator).mean()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"tuning diverged at step {i}: loss is {loss.item()}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(weights, clip)
            optimizer.step()

    @staticmethod
    def _view(victim: Victim, latents: Tensor, text: Tensor, generator: torch.Generator) -> Tensor:
        """Each photo's denoising loss [N] at fresh noise and timesteps, drawn in that order."""
        noise = torch.randn(latents.shape, generator=generator)
        return victim.denoise(latents, text, noise, victim.draw_timesteps(len(latents), generator)).error()


def disturbance(maps: Tensor, gain: float) -> Tensor:
    """The semantic disturbance: the mean square of attention times `gain`, clipped at 1.

    maps: cross-attention float [N, heads of all layers, places, tokens]; their mean over heads is taken first.
    """
    return (maps.mean(1) * gain).clamp(0, 1).square().mean()
