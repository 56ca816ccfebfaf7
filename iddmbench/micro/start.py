"""Training that starts from another embedded base's weights: hours saved, as most of what it knows of faces carries over."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from iddmbench.models.base import BaseModel


class Start:
    """Fills fresh networks of the same shapes with the weights of `base`."""

    def __init__(self, base: BaseModel):
        self.base = base

    def vae(self, vae: AutoencoderKL) -> None:
        vae.load_state_dict(self.base.vae.state_dict())

    def unet(self, unet: UNet2DConditionModel, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
        """The text encoder's token table is filled word by word: the two vocabularies differ."""
        unet.load_state_dict(self.base.unet.state_dict())
        table = next(name for name in text.state_dict() if name.endswith("token_embedding.weight"))
        weights = self.base.text_encoder.state_dict()
        old, mine = weights.pop(table), text.state_dict()[table].clone()
        known = self.base.tokenizer.get_vocab()
        with torch.no_grad():
            for token, row in tokenizer.get_vocab().items():
                if token in known:
                    mine[row] = old[known[token]]
        text.load_state_dict({**weights, table: mine})
