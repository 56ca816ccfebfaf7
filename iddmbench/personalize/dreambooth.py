"""`dreambooth`: the UNet's own weights are trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import TrainingSettings
from iddmbench.personalize.adapter import own_parameters
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.personalize.trainer import PersonalizedModel, Trainer
from iddmbench.seeds import Seeds


class DreamBoothSettings(TrainingSettings):
    steps: int = Field(800, ge=1, description="optimizer steps")
    learning_rate: float = Field(5e-6, gt=0, description="AdamW learning rate, the same at every step")


class FullTrainer(Trainer):
    """Trains copies of the UNet's weights, float32, which stand in for the base's own in between; those come back on exit, the
    very same tensors.

    Memory: four times the trained weights beside the base (copy, gradient, AdamW's two moments).
    """

    def chosen(self, name: str) -> bool:
        """Whether the UNet's weight of that name is trained ("down_blocks.0.attentions.0...attn2.to_k.weight")."""
        return True

    @contextmanager
    def attached(self) -> Iterator[nn.Module]:
        weights = self._chosen()
        if not weights:
            raise UserError(f"base '{self.base.name}' has none of the weights that this personalizer trains")
        own = {name: weight.data for name, weight in weights.items()}
        try:
            for weight in weights.values():
                weight.data = weight.data.clone(memory_format=torch.preserve_format)
                weight.requires_grad_(True)
            yield self.base.unet
        finally:
            for name, weight in weights.items():
                weight.data, weight.grad = own[name], None
                weight.requires_grad_(False)

    def _chosen(self) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in own_parameters(self.base.unet).items() if self.chosen(name)}

    def rate(self) -> float:
        return self.settings.learning_rate

    def model(self) -> PersonalizedModel:
        weights = {f"unet.{k}": w.detach().float().cpu().contiguous().clone() for k, w in self._chosen().items()}
        return PersonalizedModel(None, self.settings, replaced=weights)


class DreamBooth(Personalizer):
    """Ruiz et al., arXiv 2208.12242, with prior preservation; the text encoder is not trained.

    Optimizer, clipping and defaults of the rate are those of diffusers' example script. A stored model is as large as the UNet.
    """

    name = "dreambooth"
    title = "all weights of the UNet"
    paper = "arXiv 2208.12242"
    Settings = DreamBoothSettings

    def trainer(self, base: BaseModel, settings: Any, class_latents: Tensor, seeds: Seeds) -> Trainer:
        return FullTrainer(base, settings, class_latents, seeds)
