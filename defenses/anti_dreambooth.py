"""Anti-DreamBooth: photos on which DreamBooth fails (Van Le et al., arXiv 2303.15433)."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from iddmbench.defense import Names, Workbench
from iddmbench.errors import UserError
from iddmbench.models.base import load_base
from iddmbench.perturb.defense import VictimPerturbation
from iddmbench.perturb.pgd import ascend
from iddmbench.perturb.target import target_latents
from iddmbench.perturb.victim import Victim


class AntiDreamBooth(VictimPerturbation):
    """What FSMG and ASPL share: the objective, and the base models over which it is averaged."""

    paper = "arXiv 2303.15433"

    mode: Literal["untargeted", "targeted"] = Field(
        "untargeted", description="raise the victim's loss, or also pull the denoised photo to a target image (Eq. 9)"
    )
    target: str = Field("", description="target image of the targeted mode; a high-contrast pattern by default")
    ensemble: Names = Field(
        (), description="further base models over which gradients are averaged (E-ASPL, E-FSMG), comma-separated"
    )

    def victims(self, references: np.ndarray, bench: Workbench) -> list[Victim]:
        """One for each base model. Only the first knows class images: the others' latents would be another space."""
        texts = bench.captions(references)
        victims = [Victim(bench.base, texts, bench.class_latents)]
        for name in self.ensemble:
            base = load_base(name, str(bench.base.device))
            if base.side != bench.base.side:
                raise UserError(f"ensemble={name}: its images are {base.side} pixels on a side, not {bench.base.side}")
            victims.append(Victim(base, texts, torch.zeros(0)))
        return victims

    def targets(self, victims: list[Victim]) -> list[Tensor | None]:
        """Each victim's latents of the target image, None in the untargeted mode."""
        if self.mode == "untargeted":
            return [None] * len(victims)
        return [target_latents(self.target, victim.base) for victim in victims]

    def attack(
        self,
        victims: list[Victim],
        x: Tensor,
        clean: Tensor,
        targets: list[Tensor | None],
        steps: int,
        eps: float,
        generator: torch.Generator,
    ) -> Tensor:
        """`steps` PGD steps from x on the mean over the victims."""

        def objective(photos: Tensor) -> Tensor:
            losses = []
            for victim, target in zip(victims, targets, strict=True):
                if target is None:
                    losses.append(victim.loss(photos, generator))
                else:
                    losses.append(targeted_loss(victim, photos, target, generator, guard=self.variant == "paper"))
            return torch.stack(losses).mean()

        return ascend(clean, x, objective, steps, self.alpha, eps)


class FSMG(AntiDreamBooth):
    """Fully-trained surrogate model guidance (Sec. 4.1): PGD against one victim trained on the clean set A."""

    name = "fsmg"
    title = "Anti-DreamBooth, fully trained surrogate"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"micro": {"train_steps": 100, "learning_rate": 1e-4, "steps": 60}}

    train_steps: int = Field(1000, ge=0, description="steps of the victim's training (Anti-DreamBooth, its scripts)")
    steps: int = Field(100, ge=1, description="PGD steps (Anti-DreamBooth, its scripts)")

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        victims = self.victims(references, bench)
        photos, texts = self.surrogate_set(clean, victims[0], bench)
        for k, victim in enumerate(victims):
            generator = bench.seeds.child("victim", k).torch()
            victim.train(photos, texts, self.train_steps, self.training(bench), generator)
        bench.tick(0.6)
        targets = self.targets(victims)
        return self.attack(victims, clean, clean, targets, self.steps, eps, bench.seeds.child("pgd").torch())


class ASPL(AntiDreamBooth):
    """Alternating surrogate and perturbation learning (Sec. 4.2, Alg. 1).

    Each round trains a copy of the victim on the clean set A, attacks that copy, and trains the victim itself on the photos
    perturbed so far.
    """

    name = "aspl"
    title = "Anti-DreamBooth, alternating surrogate and perturbation"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"micro": {"rounds": 20, "learning_rate": 1e-4}}

    rounds: int = Field(50, ge=1, description="alternations (Anti-DreamBooth, its scripts)")
    train_steps: int = Field(3, ge=1, description="training steps of copy and victim per round (its scripts)")
    steps: int = Field(6, ge=1, description="PGD steps per round (its scripts)")

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        victims, training = self.victims(references, bench), self.training(bench)
        photos, texts = self.surrogate_set(clean, victims[0], bench)
        targets, x = self.targets(victims), clean
        for r in range(self.rounds):
            seeds = bench.seeds.child("round", r)
            copies = [victim.copy() for victim in victims]
            for k, twin in enumerate(copies):
                twin.train(photos, texts, self.train_steps, training, seeds.child("copy", k).torch())
            x = self.attack(copies, x, clean, targets, self.steps, eps, seeds.child("pgd").torch())
            for k, victim in enumerate(victims):
                victim.train(x, victim.texts, self.train_steps, training, seeds.child("victim", k).torch())
            bench.tick((r + 1) / self.rounds)
        return x


def targeted_loss(victim: Victim, x: Tensor, target: Tensor, generator: torch.Generator, guard: bool = True) -> Tensor:
    """The denoising loss minus the squared distance between the predicted x_{t-1} and the target noised to t - 1 (Eq. 9).

    Args:
        x: photos [N, C, S, S]; target: latents [1, c, h, w] of the target image.
        guard: at t = 0 the target itself is wanted. Without it (the released code) t - 1 = -1 asks for the noisiest step.
    """
    view = victim.view(x, generator)
    scheduler = victim.base.scheduler
    alphas = scheduler.alphas_cumprod.to(x.device)[view.t - 1]
    if guard:
        alphas = torch.where(view.t == 0, torch.ones_like(alphas), alphas)
    alphas = alphas[:, None, None, None]
    wanted = alphas.sqrt() * target + (1 - alphas).sqrt() * view.noise
    reached = [
        scheduler.step(p[None], int(t), n[None], generator=generator).prev_sample
        for p, t, n in zip(view.predicted, view.t, view.noisy, strict=True)
    ]
    return view.error().mean() - (torch.cat(reached) - wanted).square().mean()
