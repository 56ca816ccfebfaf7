from pydantic import Field

from iddmbench.models.recipe import TrainingSettings
from iddmbench.personalize.dreambooth import FullTrainer
from iddmbench.personalize.personalizer import Personalizer


class CrossAttentionSettings(TrainingSettings):
    learning_rate: float = Field(1e-5, gt=0, description="AdamW learning rate, the same at every step")


class CrossAttentionTrainer(FullTrainer):
    def chosen(self, name: str) -> bool:
        return name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))


class CrossAttention(Personalizer):
    """Trains keys and values of the UNet's cross-attention, as Custom Diffusion does (arXiv 2212.04488)."""

    name = "my-cross-attention"
    title = "keys and values of the cross-attention"
    Settings = CrossAttentionSettings

    def trainer(self, base, settings, class_latents, seeds):
        return CrossAttentionTrainer(base, settings, class_latents, seeds)
