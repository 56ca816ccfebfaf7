"""`lora`: an adapter beside the UNet's attention weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import LoraSettings, Recipe
from iddmbench.personalize.adapter import TEXT, read_weights, text_adapter, trainable
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.personalize.trainer import PersonalizedModel, Trainer
from iddmbench.seeds import Seeds

SCRIPT = {
    "schedule": "constant",
    "prior_weight": 0.0,
    "class_images": 100,
    "rank": 4,
    "alpha": 4.0,
    "targets": ("to_q", "to_k", "to_v", "to_out.0"),
}
"""What both presets share."""


class TextTrainer(Trainer):
    """Trains a second adapter too, on the text encoder's attention, at the same rate."""

    @contextmanager
    def attached(self) -> Iterator[nn.Module]:
        draws = self.seeds.child("init", "text encoder").torch()
        with super().attached() as unet, text_adapter(self.base, self.settings, draws):
            yield unet

    def trained(self) -> list[nn.Parameter]:
        return super().trained() + trainable(self.base.text_encoder)

    def model(self) -> PersonalizedModel:
        text = {TEXT + name: weight for name, weight in read_weights(self.base.text_encoder).items()}
        return PersonalizedModel({**read_weights(self.unet), **text}, self.settings)


class Lora(Personalizer):
    """Hu et al., arXiv 2106.09685, with DreamBooth's loss and prior preservation; the base's recipe says its settings."""

    name = "lora"
    title = "LoRA adapter on the UNet's attention, and on the text encoder's if asked for"
    paper = "arXiv 2106.09685"
    Settings = LoraSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The defaults of diffusers' examples/dreambooth/train_dreambooth_lora.py, which uses no prior preservation.
        # max_train_steps has none: 500 is that of the README beside it.
        "diffusers": {"steps": 500, "batch_size": 4, "learning_rate": 5e-4, "prior_batch": 4, **SCRIPT},
        # The command under "Training with Low-Rank Adaptation" of that README; what it does not name is the script's default.
        "diffusers-guide": {"steps": 500, "batch_size": 1, "learning_rate": 1e-4, "prior_batch": 1, **SCRIPT},
    }

    def defaults(self, recipe: Recipe) -> LoraSettings:
        return recipe.lora

    def trainer(self, base: BaseModel, settings: Any, class_latents: Tensor, seeds: Seeds) -> Trainer:
        kind = TextTrainer if settings.train_text_encoder else Trainer
        return kind(base, settings, class_latents, seeds)

    def tensors(self, model: PersonalizedModel) -> dict[str, Tensor]:
        return dict(model.weights or {})

    def model(self, tensors: dict[str, Tensor], settings: Any) -> PersonalizedModel:
        return PersonalizedModel(tensors, settings)

    def key(self) -> dict[str, Any]:
        """Empty: results from before there was another one stay valid."""
        return {} if self.version == 1 else super().key()
