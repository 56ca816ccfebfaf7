"""Second stage of an embedded base: a text-conditioned latent diffusion model of faces."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from iddmbench.micro.ahead import ahead
from iddmbench.micro.text import MAX_TOKENS, random_caption
from iddmbench.micro.views import Views
from iddmbench.seeds import Seeds
from iddmbench.store.files import replacing

TEXT_WIDTH = 128
UNET: dict[str, Any] = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (128, 192),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,  # the number of heads, by diffusers' historic naming
    "norm_num_groups": 16,
}


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
    steps: int,
    seed: int,
    log: Callable[[str], None],
    batch_size: int = 16,
    average_decay: float = 0.9995,
    device: str = "cpu",
    workers: int = 0,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train UNet and text encoder together for `steps` steps in all; resumes from `folder/unet.pt`.

    Velocity prediction (Salimans and Ho 2022, arXiv 2202.00512), AdamW, cosine rate from 5e-4, averaged weights, which are
    returned on the CPU. All draws are made on the CPU, the same on every device.
    """
    torch.manual_seed(seed)
    channels = data.latents.shape[1]
    unet = UNet2DConditionModel(**UNET, in_channels=channels, out_channels=channels)
    modules = nn.ModuleDict({"unet": unet, "text_encoder": new_text_encoder(tokenizer)}).train().to(device)
    unet.to(memory_format=torch.channels_last)
    average = {name: p.detach().clone() for name, p in modules.named_parameters()}
    optimizer = torch.optim.AdamW(modules.parameters(), lr=5e-4, betas=(0.9, 0.99), weight_decay=1e-2)
    scheduler = new_scheduler()
    step = 0
    state_file = folder / "unet.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=device)
        modules.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, step = state["average"], state["step"]
    latents = data.latents.to(device)

    def drawn(step: int) -> tuple[Tensor, ...]:
        seeds = Seeds(seed).child("unet", step)
        rng, generator = seeds.numpy(), seeds.child("noise").torch()
        chosen = rng.integers(len(data.names), size=batch_size)
        captions = [random_caption(data.names[i], data.parts[i], rng) for i in chosen]
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        noise = torch.randn((batch_size, *data.latents.shape[1:]), generator=generator)
        return torch.from_numpy(chosen), tokens, noise, torch.randint(0, 1000, (batch_size,), generator=generator)

    last_save = time.monotonic()
    running = torch.zeros((), device=device)
    for batch in ahead(drawn, step, steps, workers):
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * min(1, (step + 1) / 200) * (0.52 + 0.48 * math.cos(math.pi * step / steps))
        chosen, tokens, noise, t = (part.to(device) for part in batch)
        z = latents[chosen].float()
        noisy = scheduler.add_noise(z, noise, t).to(memory_format=torch.channels_last)
        predicted = modules["unet"](noisy, t, modules["text_encoder"](tokens).last_hidden_state).sample
        loss = F.mse_loss(predicted, scheduler.get_velocity(z, noise, t))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        decay = min(average_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), list(modules.parameters()), 1 - decay)
        step += 1
        now = time.monotonic()
        running = loss.detach() if step == 1 else 0.98 * running + 0.02 * loss.detach()
        if step % 100 == 0:
            log(f"unet {step} loss {running:.4f}")
        if now - last_save > 180 or step == steps:
            state = {"model": modules.state_dict(), "average": average, "optimizer": optimizer.state_dict()}
            with replacing(state_file) as part:
                torch.save({**state, "step": step}, part)
            last_save = now
    with torch.no_grad():
        for name, p in modules.named_parameters():
            p.copy_(average[name])
    modules.cpu().eval()
    return modules["unet"], modules["text_encoder"]
