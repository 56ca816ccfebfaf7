"""DINO by timm: likeness to the references in self-supervised features."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from iddmbench.judges.base import AT_ONCE, Judge, Scene, load_weights
from iddmbench.metrics.utility import closeness
from iddmbench.weights import WeightFile


class Dino(Judge):
    """ViT-S/16 of DINO (Caron et al. 2021, arXiv 2104.14294), the network of DreamBooth's DINO metric: mean cosine of the class
    tokens of an output and of the references."""

    name = "dino"
    measures = "DINO"
    metrics = ("dino",)
    package, extra = ("timm", "timm"), "dino"
    model = "vit_small_patch16_224.dino"
    """timm's name of it."""
    files = (
        WeightFile(
            "dino_vit_small_patch16_224.safetensors",
            "https://huggingface.co/timm/vit_small_patch16_224.dino/resolve/main/model.safetensors",
            "Apache-2.0 (DINO)",
            bytes=86_670_000,
        ),
    )

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Network and preprocessing, as timm makes them."""
        import timm

        (path,) = self.paths()
        network = timm.create_model(self.model, pretrained=False, num_classes=0)
        load_weights(network, path, f"timm's {self.model}")
        prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
        return network.eval().requires_grad_(False).to(self.device), prepare

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Class tokens float32 [N, D] of uint8 [H, W, 3], any sizes."""
        network, prepare = self._parts
        found = []
        with torch.inference_mode():
            for i in range(0, len(images), AT_ONCE):
                part = torch.stack([prepare(Image.fromarray(image)) for image in images[i : i + AT_ONCE]])
                found.append(network(part.to(self.device)).cpu().numpy())
        return np.concatenate(found)

    def judge(self, scene: Scene) -> dict[str, np.ndarray]:
        if not len(scene.references):
            return {}
        return {"dino": closeness(self.features(scene.images), self.features(list(scene.references)))}
