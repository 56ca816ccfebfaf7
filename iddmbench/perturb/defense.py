"""The base classes of defenses that perturb the reference photos within an l_inf budget."""

from abc import abstractmethod
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from iddmbench.defense import Defense, ExtraPhotos, Workbench
from iddmbench.perturb.pgd import to_bytes, to_signed
from iddmbench.perturb.victim import Training, Victim


class Perturbation(Defense):
    """x' = x + delta, |delta| <= strength * eps; a subclass says how delta is found.

    Budgets are in the papers' unit, images in [-1, 1]; /255 of [0, 1] pixels is 127.5 times that. The photos that leave are
    8-bit, and the budget holds on them. On a base that knows gray photos only, delta is gray.
    """

    eps: float = Field(0.05, ge=0, le=2, description="l_inf budget at strength 1, for images in [-1, 1]")
    alpha: float = Field(5e-3, gt=0, description="PGD step size, for images in [-1, 1]")

    def protect(self, references: np.ndarray, bench: Workbench) -> np.ndarray:
        eps = self.strength * self.eps
        if eps == 0:
            return references
        clean = to_signed(references, bench.base.recipe.grayscale, bench.base.device)
        return to_bytes(self.perturb(clean, references, eps, bench), references, eps)

    @abstractmethod
    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        """The perturbed photos [N, C, S, S] in [-1, 1], within eps of `clean`.

        `references` are the same photos as uint8 [N, S, S, 3]. Draw from `bench.seeds`, call `bench.tick` now and then.
        Raises FloatingPointError when a loss is not finite.
        """


class VictimPerturbation(Perturbation):
    """Perturbations that fool a victim which the defense trains by DreamBooth (Anti-DreamBooth and what builds on it)."""

    learning_rate: float = Field(5e-7, gt=0, description="the victim's AdamW rate (Anti-DreamBooth, its scripts)")
    weight_decay: float = Field(1e-2, ge=0, description="the victim's AdamW weight decay (Anti-DreamBooth, its code)")
    train_text_encoder: bool = Field(True, description="also train the victim's text encoder (Anti-DreamBooth)")
    variant: Literal["paper", "official"] = Field(
        "paper", description="official: with the released code's defects (docs/defenses.md)"
    )

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        return ("surrogate_photos",)

    def training(self, bench: Workbench) -> Training:
        official = self.variant == "official"
        return Training(
            rate=self.learning_rate,
            decay=self.weight_decay,
            clip=0.0 if official else 1.0,
            text_encoder=self.train_text_encoder,
            prior=bench.lora.prior_weight,
            half=official,
        )

    def victim(self, references: np.ndarray, bench: Workbench) -> Victim:
        return Victim(bench.base, bench.captions(references), bench.class_latents)

    def surrogate_set(self, clean: Tensor, victim: Victim, bench: Workbench) -> tuple[Tensor, list[str]]:
        """Anti-DreamBooth's set A, clean photos of the subject to train on: [M, C, S, S] in [-1, 1], and their captions.

        Where the dataset sets none aside, the clean references themselves.
        """
        photos = bench.surrogate_photos
        if not len(photos):
            return clean, victim.texts
        return to_signed(photos, bench.base.recipe.grayscale, bench.base.device), bench.captions(photos)
