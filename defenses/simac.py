"""SimAC: Anti-DreamBooth at the timesteps and in the layers that matter (Wang et al., arXiv 2312.07865, CVPR 2024)."""

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from iddmbench.defense import Workbench
from iddmbench.perturb.defense import VictimPerturbation
from iddmbench.perturb.pgd import ascend, step
from iddmbench.perturb.taps import last_block
from iddmbench.perturb.victim import Victim


class SimAC(VictimPerturbation):
    """ASPL with greedy timestep selection and feature interference.

    Timesteps are selected once per photo, on the base before training, as the released code does.
    In the variant "official" the feature term has no gradient and compares with the photos at the start of the round.
    """

    name = "simac"
    title = "SimAC, greedy timesteps and feature interference"
    paper = "arXiv 2312.07865"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "micro": {"rounds": 14, "learning_rate": 1e-4, "candidates": 2, "window": 60, "fewest": 200}
    }

    eps: float = Field(16 / 255, ge=0, le=2, description="l_inf budget at strength 1 in [-1, 1] (SimAC, its scripts)")
    rounds: int = Field(50, ge=1, description="alternations (SimAC, its scripts)")
    train_steps: int = Field(3, ge=1, description="training steps of copy and victim per round (its scripts)")
    steps: int = Field(6, ge=1, description="PGD steps per round (its scripts)")
    selections: int = Field(50, ge=0, description="largest number of timestep eliminations (its code); 0 keeps all")
    candidates: int = Field(5, ge=1, description="timesteps compared per elimination (its code)")
    window: int = Field(20, ge=1, description="timesteps removed on either side of the weakest (its code)")
    fewest: int = Field(100, ge=1, description="elimination stops when this many timesteps are left (its code)")
    feature_weight: float = Field(1.0, ge=0, description="weight of the feature interference (its code)")

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        victim, training = self.victim(references, bench), self.training(bench)
        photos, texts = self.surrogate_set(clean, victim, bench)
        kept = self.select(victim, clean, eps, bench.seeds.child("timesteps").torch())
        bench.tick(0.3)
        x = clean
        for r in range(self.rounds):
            seeds = bench.seeds.child("round", r)
            twin = victim.copy()
            twin.train(photos, texts, self.train_steps, training, seeds.child("copy").torch())
            x = self.attack(twin, x, clean, kept, eps, seeds.child("pgd").torch())
            victim.train(x, victim.texts, self.train_steps, training, seeds.child("victim").torch())
            bench.tick(0.3 + 0.7 * (r + 1) / self.rounds)
        return x

    def select(self, victim: Victim, clean: Tensor, eps: float, generator: torch.Generator) -> list[Tensor]:
        """The timesteps left for each photo of `clean` after the greedy elimination (Sec. 3.2), photo by photo.

        Of `candidates` random ones, the weakest by the l_1 norm of the loss's gradient in the photo is removed with its
        neighbours, and one PGD step is taken at the strongest. That perturbation serves the selection only.
        """
        last = victim.base.scheduler.config.num_train_timesteps
        selected = []
        for i in range(len(clean)):
            left = torch.ones(last, dtype=torch.bool)
            photo = x = clean[i : i + 1]
            tokens = victim.tokens[i : i + 1]
            for _ in range(self.selections):
                pool = left.nonzero()[:, 0]
                if len(pool) <= self.fewest:
                    break
                scores: list[tuple[float, int]] = []
                for _ in range(self.candidates):
                    gradient, t = _gradient(victim, x, tokens, generator, pool)
                    scores.append((gradient.abs().sum().item(), t))
                weakest = min(scores, key=lambda s: s[0])[1]
                strongest = max(scores, key=lambda s: s[0])[1]
                weakest = min(max(weakest, self.window), last - self.window)
                left[weakest - self.window : weakest + self.window] = False
                gradient, _ = _gradient(victim, x, tokens, generator, torch.tensor([strongest]), draw=False)
                x = step(x, photo, gradient, self.alpha, eps)
            selected.append(left.nonzero()[:, 0])
        return selected

    def attack(
        self, victim: Victim, x: Tensor, clean: Tensor, kept: list[Tensor], eps: float, generator: torch.Generator
    ) -> Tensor:
        """One round's PGD steps, at timesteps drawn from those kept for each photo."""
        official = self.variant == "official"
        reference = x if official else clean
        condition = victim.condition(victim.tokens)

        def objective(photos: Tensor) -> Tensor:
            latents = victim.latents(photos)
            noise = torch.randn(latents.shape, generator=generator)
            t = torch.cat([ts[torch.randint(0, len(ts), (1,), generator=generator)] for ts in kept])
            with last_block(victim.unet) as features:
                view = victim.denoise(latents, condition, noise, t)
            with torch.no_grad(), last_block(victim.unet) as undisturbed:
                victim.denoise(victim.latents(reference), condition, noise, t)
            distances = [(a - b).square().mean() for a, b in zip(features, undisturbed, strict=True)]
            interference = torch.stack(distances).mean()
            return view.error().mean() + self.feature_weight * (interference.detach() if official else interference)

        return ascend(clean, x, objective, self.steps, self.alpha, eps)


def _gradient(
    victim: Victim, x: Tensor, tokens: Tensor, generator: torch.Generator, pool: Tensor, draw: bool = True
) -> tuple[Tensor, int]:
    """The loss's gradient in photo x [1, C, S, S] at fresh noise and a timestep of `pool`, and that timestep."""
    x = x.detach().requires_grad_(True)
    latents = victim.latents(x)
    noise = torch.randn(latents.shape, generator=generator)
    t = pool[torch.randint(0, len(pool), (1,), generator=generator)] if draw else pool
    loss = victim.denoise(latents, victim.condition(tokens), noise, t).error().mean()
    (gradient,) = torch.autograd.grad(loss, x)
    if not torch.isfinite(gradient).all():
        raise FloatingPointError(f"timestep selection diverged: the loss at timestep {int(t)} is {loss.item()}")
    return gradient, int(t)
