"""APDM: a released base model that resists personalization on one person (Lee, Seo et al., arXiv 2511.01307)."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from iddmbench.defense import Defense, Workbench
from iddmbench.models.base import BaseModel
from iddmbench.personalize.adapter import own_parameters
from iddmbench.personalize.prepared import PreparedBase
from iddmbench.personalize.sample import class_latents
from iddmbench.personalize.trainer import denoise, draw


class APDM(Defense):
    """Direct Protective Optimization inside Learning to Protect, on the UNet.

    In each round a copy of the model is personalized step by step (the personalization path). After each step the protective
    loss is taken at the copy, and its gradients add up; at the end of the round one step of AdamW with their sum moves the
    model itself (the protection path). Our re-implementation. Numbers of "its script" are the options that `gen_arguments.py`
    gives to `protect.py` for the four experiments on people, on Stable Diffusion 1.5.
    """

    name = "apdm"
    title = "APDM, a base that resists personalization"
    paper = "arXiv 2511.01307"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "micro": {
            "rounds": 40,
            "steps": 10,
            "learning_rate": 1e-4,
            "class_images": 16,
            "beta": 100.0,
            "preservation": 0.0,
        }
    }

    rounds: int = Field(800, ge=1, description="steps of the model itself (its script: iter)")
    steps: int = Field(
        20,
        ge=1,
        description="personalization steps per round, each followed by a gradient (its script: num_inner_iter; 10 on SD 2.1)",
    )
    learning_rate: float = Field(5e-6, gt=0, description="AdamW rate of both paths (its script: lr)")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW weight decay of both paths (APDM, its code)")
    beta: float = Field(1.0, gt=0, description="how sharply the loss prefers (its script: loss_dpo_beta)")
    class_images: int = Field(200, ge=1, description="generic images, made by the base (its script: num_samples)")
    prior_weight: float = Field(
        1.0, ge=0, description="weight of prior preservation when personalizing (its script: prior_loss_weight)"
    )
    preservation: float = Field(
        1.0,
        ge=0,
        description="weight of the generic images' denoising loss in the protective loss (its script: in_ppl)",
    )
    variant: Literal["paper", "official"] = Field(
        "paper", description="official: with the released code's defects (docs/defenses.md)"
    )

    def prepare(self, references: np.ndarray, bench: Workbench) -> PreparedBase:
        paths, seeds = Paths(self, bench, references), bench.seeds.child("apdm")
        trained = own_parameters(bench.base.unet)
        own = {name: weight.data for name, weight in trained.items()}
        model = {name: nn.Parameter(copied(value)) for name, value in own.items()}
        optimizer = self.optimizer(model.values())
        try:
            for weight in trained.values():
                weight.requires_grad_(True)
            for r in range(self.rounds):
                with weights_of(bench.base, {name: copied(weight.data) for name, weight in model.items()}):
                    gradients = paths.round(own, seeds.child("round", r).torch())
                for name, gradient in gradients.items():
                    model[name].grad = gradient
                optimizer.step()
                bench.tick((r + 1) / self.rounds)
        finally:
            for weight in trained.values():
                weight.requires_grad_(False)
                weight.grad = None
        return PreparedBase({f"unet.{name}": weight.detach() for name, weight in model.items()})

    def optimizer(self, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=self.weight_decay)


def copied(weight: Tensor) -> Tensor:
    """In the same order in memory, so that results are the same to the last bit."""
    return weight.clone(memory_format=torch.preserve_format)


class Paths:
    """The two paths of Learning to Protect, on the weights that the base's UNet has at the moment."""

    def __init__(self, defense: APDM, bench: Workbench, references: np.ndarray):
        base: BaseModel = bench.base
        self.defense, self.base = defense, base
        self.photos, self.texts = bench.encode(references), base.embed_text(bench.captions(references))
        made = class_latents(base, defense.class_images, base.recipe.sampling, bench.seeds.child("generic"))
        self.generic, self.class_text = made, base.embed_text([base.recipe.prompts.class_])

    def round(self, source: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """One personalization path from the UNet's weights, and the sum of the gradients along it.

        source: the original weights by name, which the protective loss compares with.
        """
        defense = self.defense
        trained = own_parameters(self.base.unet)
        optimizer = defense.optimizer(trained.values())
        total = {name: torch.zeros_like(weight) for name, weight in trained.items()}
        for j in range(defense.steps):
            optimizer.zero_grad(set_to_none=True)
            self._finite(self.personalization_loss(generator), j).backward()
            optimizer.step()
            if defense.variant == "paper":
                optimizer.zero_grad(
                    set_to_none=True
                )  # the released code adds the step's own gradient to the protective one
            self._finite(self.protective_loss(source, generator), j).backward()
            for name, weight in trained.items():
                if weight.grad is not None:
                    total[name] += weight.grad
        return total

    def personalization_loss(self, generator: torch.Generator) -> Tensor:
        """DreamBooth's loss with prior preservation, on one photo and one generic image."""
        i = self._pick(self.photos, generator)
        noise, t = draw(self.base, self.photos[i], generator)
        loss = self._denoise(self.photos[i], self.texts[i], noise, t).mean()
        if self.defense.prior_weight:
            loss = loss + self.defense.prior_weight * self._generic_loss(t, generator)
        return loss

    def protective_loss(self, source: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """`protective_loss` at the UNet's weights against the original ones, both under the photo's text."""
        i, k = self._pick(self.photos, generator), self._pick(self.generic, generator)
        person, generic, text = self.photos[i], self.generic[k], self.texts[i]
        noise, t = draw(self.base, person, generator)
        with torch.no_grad(), weights_of(self.base, source):
            before = [self._squares(x, text, noise, t) for x in (generic, person)]
        now = [self._squares(x, text, noise, t) for x in (generic, person)]
        elementwise = self.defense.variant == "official"
        loss = protective_loss(now[0], before[0], now[1], before[1], self.defense.beta, elementwise)
        if self.defense.preservation:
            loss = loss + self.defense.preservation * self._generic_loss(None, generator)
        return loss

    def _generic_loss(self, t: Tensor | None, generator: torch.Generator) -> Tensor:
        """At the given timestep, or at one of its own."""
        k = self._pick(self.generic, generator)
        noise, own = draw(self.base, self.generic[k], generator)
        return self._denoise(self.generic[k], self.class_text, noise, own if t is None else t).mean()

    def _squares(self, latents: Tensor, text: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Squared errors float [N, C, h, w]."""
        seen = denoise(self.base, self.base.unet, latents, text, noise, t)
        return (seen.predicted - seen.target).square()

    def _denoise(self, latents: Tensor, text: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return self._squares(latents, text, noise, t).mean((1, 2, 3))

    @staticmethod
    def _pick(images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randint(0, len(images), (1,), generator=generator)

    @staticmethod
    def _finite(loss: Tensor, step: int) -> Tensor:
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the base's protection diverged at step {step} of a round: loss is {loss.item()}")
        return loss


def protective_loss(
    generic: Tensor,
    generic_before: Tensor,
    person: Tensor,
    person_before: Tensor,
    beta: float,
    elementwise: bool = False,
) -> Tensor:
    """Direct Protective Optimization: -log sigmoid(-beta ((g - g0) - (p - p0))), its mean.

    g, p: squared denoising errors float [N, C, h, w] of generic images and of the person's photos under the same text and
    noise; g0, p0: those of the original model. It falls where generic images are denoised better and the person worse.

    elementwise: the released code's form, the mean over elements of the loss of each; else each image's mean error enters.
    """
    errors = (generic, generic_before, person, person_before)
    g, g0, p, p0 = (error if elementwise else error.mean((1, 2, 3)) for error in errors)
    return -F.logsigmoid(-beta * ((g - g0) - (p - p0))).mean()


@contextmanager
def weights_of(base: BaseModel, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Other weights of the UNet in place, in between, by name."""
    trained = own_parameters(base.unet)
    held = {name: weight.data for name, weight in trained.items()}
    try:
        for name, weight in trained.items():
            weight.data = weights[name]
        yield
    finally:
        for name, weight in trained.items():
            weight.data = held[name]
