"""Second stage of the embedded base: a text-conditioned latent diffusion model of faces."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from iddmbench.faces.attributes import attributes
from iddmbench.faces.detect import YuNet
from iddmbench.micro.data import NARROW, augment, to_tensor
from iddmbench.micro.text import MAX_TOKENS, random_caption
from iddmbench.seeds import Seeds

TEXT_WIDTH = 128
UNET = {
    "sample_size": 8,
    "in_channels": 16,
    "out_channels": 16,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (128, 192),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,  # the number of heads, by diffusers' historic naming
    "norm_num_groups": 16,
}


@dataclass(frozen=True)
class Views:
    """Augmented views of the public people, encoded once.

    latents: float32 [N, 16, 8, 8], scaled to unit variance; people: int [N]; parts: pose, framing and light of each.
    """

    latents: Tensor
    people: list[int]
    parts: list[tuple[str, str, str]]
    scaling_factor: float


def encode_views(photos: dict[int, list[np.ndarray]], vae: AutoencoderKL, views: int, seed: int) -> Views:
    """`views` augmented views of every photo; a view in which no face is found is drawn again (at most five times)."""
    detector = YuNet()
    images, people, parts = [], [], []
    for person, originals in photos.items():
        for k, original in enumerate(originals):
            for v in range(views):
                for attempt in range(5):
                    view = augment(original, Seeds(seed).child("view", person, k, v, attempt).numpy(), NARROW)
                    face = detector.detect([view])
                    if face.found[0]:
                        images.append(view)
                        people.append(person)
                        parts.append(attributes(view, face.landmarks[0]))
                        break
    latents = []
    with torch.inference_mode():
        for start in range(0, len(images), 64):
            latents.append(vae.encode(to_tensor(np.stack(images[start : start + 64]))).latent_dist.mean)
    z = torch.cat(latents).clone()
    factor = 1 / float(z.std())
    return Views(z * factor, people, parts, factor)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def new_scheduler() -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,
    )


def train_unet(
    data: Views,
    tokenizer: CLIPTokenizer,
    folder: Path,
    minutes: float,
    seed: int,
    log: Callable[[str], None],
    batch_size: int = 16,
    max_steps: int = 1_000_000,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train UNet and text encoder together until the time or the steps are spent; resumes from `folder/unet.pt`.

    Velocity prediction (Salimans and Ho 2022, arXiv 2202.00512), AdamW, cosine rate from 5e-4, averaged weights.
    """
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**UNET).to(memory_format=torch.channels_last)
    text = new_text_encoder(tokenizer)
    modules = nn.ModuleDict({"unet": unet, "text_encoder": text}).train()
    average = {name: p.detach().clone() for name, p in modules.named_parameters()}
    optimizer = torch.optim.AdamW(modules.parameters(), lr=5e-4, betas=(0.9, 0.99), weight_decay=1e-2)
    scheduler = new_scheduler()
    step, spent = 0, 0.0
    state_file = folder / "unet.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        modules.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, spent = state["average"], state["step"], state["spent"]
    budget = minutes * 60
    last_save = mark = time.monotonic()
    running = 0.0
    while spent < budget and step < max_steps:
        progress = min(1.0, max(spent / budget, step / max_steps))
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * min(1, (step + 1) / 200) * (0.52 + 0.48 * math.cos(math.pi * progress))
        seeds = Seeds(seed).child("unet", step)
        rng, generator = seeds.numpy(), seeds.child("noise").torch()
        chosen = rng.integers(len(data.people), size=batch_size)
        captions = [random_caption(data.people[i], data.parts[i], rng) for i in chosen]
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        z = data.latents[torch.from_numpy(chosen)]
        noise = torch.randn(z.shape, generator=generator)
        t = torch.randint(0, 1000, (batch_size,), generator=generator)
        noisy = scheduler.add_noise(z, noise, t).to(memory_format=torch.channels_last)
        predicted = unet(noisy, t, text(tokens).last_hidden_state).sample
        loss = F.mse_loss(predicted, scheduler.get_velocity(z, noise, t))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        decay = min(0.9995, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), list(modules.parameters()), 1 - decay)
        step += 1
        now = time.monotonic()
        spent, mark = spent + now - mark, now
        running = float(loss.detach()) if step == 1 else 0.98 * running + 0.02 * float(loss.detach())
        if step % 100 == 0:
            log(f"unet {step} {spent:.0f}s loss {running:.4f}")
        if now - last_save > 180 or spent >= budget or step >= max_steps:
            state = {"model": modules.state_dict(), "average": average, "optimizer": optimizer.state_dict()}
            temporary = state_file.with_suffix(".part")
            torch.save({**state, "step": step, "spent": spent}, temporary)
            temporary.replace(state_file)
            last_save = now
    with torch.no_grad():
        for name, p in modules.named_parameters():
            p.copy_(average[name])
    modules.eval()
    return unet, text
