"""MetaCloak: perturbations that hold over training stages and image transforms (Liu et al., arXiv 2311.13127, CVPR 2024)."""

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from iddmbench.defense import ExtraPhotos, Workbench
from iddmbench.perturb.defense import VictimPerturbation
from iddmbench.perturb.pgd import ascend
from iddmbench.perturb.transforms import random_blur, random_flip
from iddmbench.perturb.victim import Victim


class MetaCloak(VictimPerturbation):
    """PGD on the expected loss over random transforms, against a pool of victims saved along one DreamBooth training.

    For each trial and each saved victim: `turns` times, `steps` PGD steps, then `advance` training steps of that victim on
    the photos perturbed so far (Alg. 1). The inner adversary of the paper is off, as in the released script. References
    are squares of the base's size already, so the paper's resize and crop change nothing here and are left out.
    """

    name = "metacloak"
    title = "MetaCloak, pool of victims and transforms"
    paper = "arXiv 2311.13127"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "micro": {
            "learning_rate": 1e-4,
            "pool_steps": (1, 20, 40, 60),
            "trials": 1,
            "turns": 4,
            "blur_kernel": 3,
        }
    }

    eps: float = Field(
        22 / 255, ge=0, le=2, description="l_inf budget at strength 1 in [-1, 1] (MetaCloak, its scripts)"
    )
    alpha: float = Field(2.2 / 255, gt=0, description="PGD step size in [-1, 1], a tenth of eps (its scripts)")
    pool_steps: tuple[int, ...] = Field(
        (1, 200, 400, 600, 800, 1000), description="training steps at which victims are saved (its scripts)"
    )
    trials: int = Field(4, ge=1, description="passes over the pool (its scripts)")
    turns: int = Field(
        100, ge=1, description="perturbation turns per saved victim: interval 200 / advance 2 (its scripts)"
    )
    steps: int = Field(6, ge=1, description="PGD steps per turn (its scripts)")
    advance: int = Field(2, ge=0, description="training steps of the saved victim per turn (its scripts)")
    samples: int = Field(1, ge=1, description="transforms drawn per PGD step (its scripts)")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a mirrored photo (its scripts)")
    blur_kernel: int = Field(7, ge=1, description="side of the Gaussian blur in pixels, odd (its scripts)")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="range of its deviation (torchvision's default)")

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        return ()  # its victims are trained on the references alone

    def perturb(self, clean: Tensor, references: np.ndarray, eps: float, bench: Workbench) -> Tensor:
        training, pool = self.training(bench), self.pool(clean, references, bench)
        bench.tick(0.3)
        x, done = clean, 0
        for trial in range(self.trials):
            for k, saved in enumerate(pool):
                victim = saved.copy()
                for turn in range(self.turns):
                    seeds = bench.seeds.child("trial", trial, k, turn)
                    x = self.attack(victim, x, clean, eps, seeds.child("pgd").torch())
                    victim.train(x, victim.texts, self.advance, training, seeds.child("victim").torch())
                    done += 1
                    bench.tick(0.3 + 0.7 * done / (self.trials * len(pool) * self.turns))
        return x

    def pool(self, clean: Tensor, references: np.ndarray, bench: Workbench) -> list[Victim]:
        """Victims of one training on the clean photos, saved after `pool_steps` steps."""
        victim, training = self.victim(references, bench), self.training(bench)
        saved, done = [], 0
        for steps in sorted(set(self.pool_steps)):
            generator = bench.seeds.child("pool", steps).torch()
            victim.train(clean, victim.texts, steps - done, training, generator)
            saved.append(victim.copy())
            done = steps
        return saved

    def attack(self, victim: Victim, x: Tensor, clean: Tensor, eps: float, generator: torch.Generator) -> Tensor:
        def objective(photos: Tensor) -> Tensor:
            return torch.stack(
                [victim.loss(self.transform(photos, generator), generator) for _ in range(self.samples)]
            ).mean()

        return ascend(clean, x, objective, self.steps, self.alpha, eps)

    def transform(self, x: Tensor, generator: torch.Generator) -> Tensor:
        blurred = random_blur(x, self.blur_kernel, self.blur_sigma, generator)
        return random_flip(blurred, self.flip, generator)
