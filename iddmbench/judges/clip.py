"""CLIP by open_clip: how well images fit their prompts, and how like the references they are."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from iddmbench.errors import UserError, first_line
from iddmbench.judges.base import AT_ONCE, Judge, Scene
from iddmbench.metrics.utility import closeness
from iddmbench.weights import WeightFile


class Clip(Judge):
    """OpenAI's ViT-B/32 (Radford et al. 2021, arXiv 2103.00020), the network of DreamBooth's CLIP-I and CLIP-T.

    clip_score: cosine of an image's and its prompt's embedding; in other papers 100 times that, or 2.5 times (Hessel et al.
    2021), cut at 0. clip_i: mean cosine with the references.
    """

    name = "clip"
    measures = "CLIP score and CLIP-I"
    metrics = ("clip_score", "clip_i")
    package, extra = ("open_clip", "open-clip-torch"), "clip"
    model = "ViT-B-32-quickgelu"
    """open_clip's name of it; OpenAI trained with the quick form of GELU."""
    files = (
        WeightFile(
            "clip_vit_b32_openai.safetensors",
            "https://huggingface.co/timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_model.safetensors",
            "MIT (OpenAI CLIP)",
            bytes=605_143_316,
        ),
    )

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any]:
        """Network, preprocessing and tokenizer, as open_clip makes them."""
        import open_clip

        (path,) = self.paths()
        try:
            network, _, prepare = open_clip.create_model_and_transforms(
                self.model, pretrained=str(path), device=self.device
            )
        except Exception as error:  # open_clip and torch raise many kinds
            raise UserError(f"{path} is not a state dict of open_clip's {self.model}: {first_line(error)}") from error
        return network.eval().requires_grad_(False), prepare, open_clip.get_tokenizer(self.model)

    def image_features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors float32 [N, D] of uint8 [H, W, 3], any sizes."""
        network, prepare, _ = self._parts
        found = []
        with torch.inference_mode():
            for i in range(0, len(images), AT_ONCE):
                part = torch.stack([prepare(Image.fromarray(image)) for image in images[i : i + AT_ONCE]])
                found.append(network.encode_image(part.to(self.device), normalize=True).float().cpu().numpy())
        return np.concatenate(found)

    def text_features(self, prompts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [N, D]."""
        network, _, tokenize = self._parts
        unique = list(dict.fromkeys(prompts))
        with torch.inference_mode():
            found = network.encode_text(tokenize(unique).to(self.device), normalize=True).float().cpu().numpy()
        return found[[unique.index(prompt) for prompt in prompts]]

    def judge(self, scene: Scene) -> dict[str, np.ndarray]:
        images = self.image_features(scene.images)
        values = {}
        if all(scene.prompts):  # given images may have none
            values["clip_score"] = (images * self.text_features(scene.prompts)).sum(1)
        if len(scene.references):
            values["clip_i"] = closeness(images, self.image_features(list(scene.references)))
        return values
