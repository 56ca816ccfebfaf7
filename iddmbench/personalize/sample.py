"""Images of a base or personalized model, on noise that depends on subject, prompt and index only."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iddmbench.models.base import BaseModel
from iddmbench.models.placeholder import reading
from iddmbench.models.prefix import embed_prompts
from iddmbench.models.recipe import Sampling
from iddmbench.personalize.adapter import TEXT, adapter, merged_text, own_parameters, write_weights
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.seeds import Seeds

BATCH = 16
"""Images that are sampled or decoded at once, where memory allows."""


def sample_latents(base: BaseModel, unet: nn.Module, prompts: list[str], noise: Tensor, sampling: Sampling) -> Tensor:
    """Latents [N, C, h, w] for N prompts from unit noise [N, C, h, w]."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    scheduler = DPMSolverMultistepScheduler.from_config(base.scheduler.config, algorithm_type="dpmsolver++")
    pipeline = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    unique = list(dict.fromkeys(prompts))
    embedded = dict(zip(unique, embed_prompts(base, unique), strict=True))
    empty = base.embed_text([""])
    latents, batch = [], base.batch(BATCH)
    with torch.inference_mode(), base.autocast():
        for start in range(0, len(prompts), batch):
            part = torch.stack([embedded[p] for p in prompts[start : start + batch]])
            result = pipeline(
                prompt_embeds=part,
                negative_prompt_embeds=empty.expand(len(part), -1, -1),
                latents=noise[start : start + batch].to(base.device),
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                output_type="latent",
            )
            latents.append(result.images.float())
    return torch.cat(latents).clone()


def to_images(base: BaseModel, latents: Tensor) -> np.ndarray:
    """Decode latents to uint8 [N, S, S, 3]."""
    decoded = []
    with torch.inference_mode():
        for part in latents.split(base.batch(BATCH)):
            x = (base.decode(part).clamp(0, 1) * 255).round().to(torch.uint8)
            decoded.append(x.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(decoded)


def starting_noise(base: BaseModel, seeds: Seeds, prompts: list[str], per_prompt: int) -> tuple[list[str], Tensor]:
    """Every prompt `per_prompt` times, and the noise of each, seeded by (prompt, index): the same for every defense."""
    config = base.unet.config
    shape = (config.in_channels, config.sample_size, config.sample_size)
    repeated = [(p, k) for p in prompts for k in range(per_prompt)]
    noise = torch.stack([torch.randn(shape, generator=seeds.child(p, k).torch()) for p, k in repeated])
    return [p for p, _ in repeated], noise


def generate(
    base: BaseModel, model: PersonalizedModel, prompts: list[str], per_prompt: int, sampling: Sampling, seeds: Seeds
) -> np.ndarray:
    """uint8 [len(prompts) * per_prompt, S, S, 3], prompt by prompt."""
    repeated, noise = starting_noise(base, seeds, prompts, per_prompt)
    with applied(base, model) as unet:
        return to_images(base, sample_latents(base, unet, repeated, noise, sampling))


def class_latents(base: BaseModel, count: int, sampling: Sampling, seeds: Seeds) -> Tensor:
    """Latents of `count` class images of the base itself, for prior preservation."""
    prompts, noise = starting_noise(base, seeds, [base.recipe.prompts.class_], count)
    return sample_latents(base, base.unet, prompts, noise, sampling)


@contextmanager
def applied(base: BaseModel, model: PersonalizedModel) -> Iterator[nn.Module]:
    """The base's UNet with the model's adapter on it, the base's weights replaced that the model replaces, and prompts read
    with its placeholder."""
    weights = model.weights or {}
    of_unet = {name: weight for name, weight in weights.items() if not name.startswith(TEXT)}
    settings: Any = model.settings
    text = merged_text(base, weights, settings.alpha / settings.rank) if len(of_unet) < len(weights) else {}
    with replaced(base, {**model.replaced, **text}), reading(base, model.placeholder):
        if model.weights is None:
            yield base.unet
            return
        with adapter(base, settings, torch.Generator().manual_seed(0), model.layers) as unet:
            write_weights(unet, of_unet)
            yield unet


@contextmanager
def replaced(base: BaseModel, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Other weights in place of the base's own, by part and name; the base's come back on exit, the very same tensors."""
    own: list[tuple[nn.Parameter, Tensor]] = []
    try:
        parts = {name.partition(".")[0] for name in weights}
        parameters = {f"{p}.{name}": w for p in parts for name, w in own_parameters(getattr(base, p)).items()}
        for name, weight in weights.items():
            parameter = parameters[name]
            own.append((parameter, parameter.data))
            # In the base's own order in memory, so that the same weights give the same images to the last bit.
            parameter.data = torch.empty_like(parameter.data).copy_(weight)
        yield
    finally:
        for parameter, data in own:
            parameter.data = data
