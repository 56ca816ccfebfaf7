"""`dreambooth`: the UNet's own weights are trained, and the text encoder's if asked for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import TrainingSettings
from iddmbench.personalize.adapter import own_parameters, trainable
from iddmbench.personalize.lora_names import TEXT, UNET
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.personalize.trainer import PersonalizedModel, Trainer
from iddmbench.seeds import Seeds


class DreamBoothSettings(TrainingSettings):
    later: ClassVar[tuple[str, ...]] = ("train_text_encoder",)

    steps: int = Field(800, ge=1, description="optimizer steps")
    learning_rate: float = Field(5e-6, gt=0, description="AdamW learning rate, the same at every step")
    train_text_encoder: bool = Field(False, description="also train the text encoder")

    @property
    def trains_text(self) -> bool:
        return self.train_text_encoder


class FullTrainer(Trainer):
    """Trains copies of the UNet's weights, float32 whatever the precision, which stand in for the base's own in between; those
    come back on exit, the very same tensors. Where `settings.trains_text`, all weights of the text encoder too.

    Memory: four times the trained weights beside the base (copy, gradient, AdamW's two moments); once (gradient) where the base
    offloads.
    """

    offloads = True

    def chosen(self, name: str) -> bool:
        """Whether the UNet's weight of that name is trained ("down_blocks.0.attentions.0...attn2.to_k.weight")."""
        return True

    @contextmanager
    def attached(self) -> Iterator[nn.Module]:
        weights = self._chosen()
        if not any(name.startswith(UNET) for name in weights):
            raise UserError(f"base '{self.base.name}' has none of the weights that this personalizer trains")
        own = {name: weight.data for name, weight in weights.items()}
        # Where it offloads, the base's own tensors are trained, and what they held comes back from CPU memory.
        copies = (
            {name: data.to("cpu", copy=True) for name, data in own.items()} if "offload" in self.base.memory else {}
        )
        try:
            for name, weight in weights.items():
                if name not in copies:
                    weight.data = weight.data.clone(memory_format=torch.preserve_format)
                weight.requires_grad_(True)
            yield self.base.unet
        finally:
            for name, weight in weights.items():
                if name in copies:
                    own[name].copy_(copies[name])
                weight.data, weight.grad = own[name], None
                weight.requires_grad_(False)

    def _chosen(self) -> dict[str, nn.Parameter]:
        """By part and name, the UNet's first."""
        unet = {f"{UNET}.{name}": w for name, w in own_parameters(self.base.unet).items() if self.chosen(name)}
        if not self.settings.trains_text:
            return unet
        return unet | {f"{TEXT}.{name}": w for name, w in own_parameters(self.base.text_encoder).items()}

    def trained(self) -> list[nn.Parameter]:
        return trainable(self.unet) + (trainable(self.base.text_encoder) if self.settings.trains_text else [])

    def rate(self) -> float:
        return self.settings.learning_rate

    def model(self) -> PersonalizedModel:
        weights = {k: w.detach().float().cpu().contiguous().clone() for k, w in self._chosen().items()}
        return PersonalizedModel(None, self.settings, replaced=weights)


class DreamBooth(Personalizer):
    """Ruiz et al., arXiv 2208.12242, with prior preservation; the text encoder is trained if asked for.

    Optimizer, clipping and defaults of the rate are those of diffusers' example script. A stored model is as large as what is
    trained. Images have the base's side: 512 pixels, as in both presets, on Stable Diffusion 1 and 2-base.
    """

    name = "dreambooth"
    title = "all weights of the UNet, and of the text encoder if asked for"
    paper = "arXiv 2208.12242"
    Settings = DreamBoothSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # arXiv 2303.15433: the options of train_dreambooth.py in its scripts/attack_with_aspl.sh and the others there.
        "anti-dreambooth": {
            "steps": 1000,
            "batch_size": 2,
            "learning_rate": 5e-7,
            "prior_weight": 1.0,
            "prior_batch": 2,
            "class_images": 200,
            "train_text_encoder": True,
        },
        # The defaults of diffusers' examples/dreambooth/train_dreambooth.py, which uses no prior preservation. max_train_steps
        # has none: 400 is that of the first command of the README beside it.
        "diffusers": {
            "steps": 400,
            "batch_size": 4,
            "learning_rate": 5e-6,
            "prior_weight": 0.0,
            "prior_batch": 4,
            "class_images": 100,
            "train_text_encoder": False,
        },
        # The command under "Training with prior-preservation loss" of that README. APDM's gen_arguments.py has the same.
        "diffusers-guide": {
            "steps": 800,
            "batch_size": 1,
            "learning_rate": 5e-6,
            "prior_weight": 1.0,
            "prior_batch": 1,
            "class_images": 200,
            "train_text_encoder": False,
        },
    }

    def trainer(self, base: BaseModel, settings: Any, class_latents: Tensor, seeds: Seeds) -> Trainer:
        return FullTrainer(base, settings, class_latents, seeds)
