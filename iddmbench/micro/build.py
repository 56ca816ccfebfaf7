"""Train the embedded base model from scratch and save it as a Stable-Diffusion-shaped folder."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from iddmbench.faces.detect import YuNet
from iddmbench.micro.card import RECIPE, write_card
from iddmbench.micro.text import save_tokenizer
from iddmbench.micro.train_unet import encode_views, new_scheduler, train_unet
from iddmbench.micro.train_vae import train_vae
from iddmbench.models.recipe import Recipe
from iddmbench.photos.references import face_square


def assemble(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scaling_factor: float,
    folder: Path,
) -> None:
    """Save all parts as fp16 safetensors in diffusers' folder layout, so that plain diffusers loads them as float32."""
    vae.register_to_config(scaling_factor=scaling_factor)
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    # transformers would load the text encoder as it was saved, diffusers the rest as float32: they must agree.
    config = folder / "text_encoder" / "config.json"
    config.write_text(re.sub(r'"dtype": "\w+"', '"dtype": "float32"', config.read_text()))


def public_photos() -> dict[int, list[np.ndarray]]:
    """Face squares of ORL people 1-28, all ten photos of each; the subjects under test are never seen."""
    from iddmbench.datasets.orl import PUBLIC, photo

    detector = YuNet()
    people = {p: [photo(p, k).image for k in range(1, 11)] for p in PUBLIC}
    boxes = {p: detector.detect(images).boxes for p, images in people.items()}
    frame = Recipe.model_validate(RECIPE).frame
    return {
        p: [face_square(x, b, frame) for x, b in zip(images, boxes[p], strict=True)] for p, images in people.items()
    }


def train_base(
    out: Path,
    work: Path,
    vae_minutes: float,
    unet_minutes: float,
    seed: int = 0,
    views: int = 24,
    max_steps: int = 1_000_000,
    log: Callable[[str], None] = print,
) -> None:
    """Train both stages within the given times and write the model to `out`; checkpoints in `work` let it resume."""
    work.mkdir(parents=True, exist_ok=True)
    photos = public_photos()
    vae = train_vae([x for group in photos.values() for x in group], work, vae_minutes, seed, log, max_steps=max_steps)
    save_tokenizer(work / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    data = encode_views(photos, vae, views, seed)
    log(f"{len(data.people)} views encoded, scaling factor {data.scaling_factor:.4f}")
    unet, text = train_unet(data, tokenizer, work, unet_minutes, seed, log, max_steps=max_steps)
    assemble(vae, unet, text, tokenizer, data.scaling_factor, out)
    command = f"iddmbench train-base OUT --vae-minutes {vae_minutes:g} --unet-minutes {unet_minutes:g} --seed {seed}"
    write_card(out, command, steps_done(work / "vae.pt"), steps_done(work / "unet.pt"), seed)


def steps_done(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True, mmap=True)["step"])
