"""Train an embedded base model and save it as a Stable-Diffusion-shaped folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from iddmbench.micro.card import write_card
from iddmbench.micro.domain import Domain, get_domain
from iddmbench.micro.text import save_tokenizer
from iddmbench.micro.train_unet import new_scheduler, train_unet
from iddmbench.micro.train_vae import train_vae
from iddmbench.micro.views import views_once


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


def train_base(
    out: Path,
    work: Path,
    vae_steps: int,
    unet_steps: int,
    seed: int = 0,
    domain: Domain | None = None,
    faces: Path | None = None,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> None:
    """Train both stages for the given steps and write the model to `out`; checkpoints in `work` let it resume.
    The batches are the same on every device and with any number of cores.

    Raises UserError when the training photos of `domain` (by default the gray base's) are not there.
    """
    domain = domain or get_domain("micro")
    work.mkdir(parents=True, exist_ok=True)
    originals = domain.originals(faces)
    # on the CPU the training takes all cores itself
    workers = 0 if device == "cpu" else max(1, (os.cpu_count() or 2) - 1)
    vae = train_vae(
        [original.square for original in originals],
        work,
        vae_steps,
        seed,
        log,
        domain.wide,
        channels=domain.channels,
        perceptual=domain.perceptual,
        blended=domain.blended,
        batch_size=domain.batches[0],
        device=device,
        workers=workers,
    )
    save_tokenizer(work / "tokenizer", domain.words)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    steps = steps_done(work / "vae.pt")
    data = views_once(work / "views.pt", originals, domain, vae.to(device), steps, seed, log, workers)
    log(f"{len(data.names)} views encoded, scaling factor {data.scaling_factor:.4f}")
    del originals
    unet, text = train_unet(
        data,
        tokenizer,
        work,
        unet_steps,
        seed,
        log,
        batch_size=domain.batches[1],
        average_decay=domain.average,
        device=device,
        workers=workers,
    )
    vae.cpu()
    assemble(vae, unet, text, tokenizer, data.scaling_factor, out)
    command = f"iddmbench train-base OUT --vae-steps {vae_steps} --unet-steps {unet_steps} --seed {seed}"
    if domain.name != "micro":
        command = command.replace("OUT", f"OUT --recipe {domain.name} --faces WORK")
    if device != "cpu":
        command += f" --device {device}"
    write_card(out, domain, command, vae_steps, unet_steps, seed)


def steps_done(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True, mmap=True)["step"])
