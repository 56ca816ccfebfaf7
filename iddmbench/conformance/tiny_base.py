"""A Stable-Diffusion-shaped base model of a few thousand weights, made in a moment: no training, no download.

Defenses are checked on it in seconds.

The UNet is random. The autoencoder's weights are set by hand so that it is nearly linear: latents hold the 2 x 2 block means of
R, G, B and gray, and decoding enlarges them. A face thus survives the way to latents and back, at half the resolution.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTokenizer

from iddmbench.micro.gray import GRAY
from iddmbench.micro.text import save_tokenizer
from iddmbench.micro.train_unet import TEXT_WIDTH, new_scheduler, new_text_encoder
from iddmbench.models.base import BaseModel

SIDE, CHANNELS = 64, 4
WIDTH, CONSTANT = 32, 10.0
"""Channels of the autoencoder; the size of those that hold a constant, which makes its last GroupNorm nearly linear."""

LORA = {"rank": 4, "alpha": 4, "targets": ["to_q", "to_k", "to_v", "to_out.0"], "steps": 4, "batch_size": 2}
RECIPE = {
    "grayscale": True,
    "prompts": {
        "instance": "a photo of sks person",
        "class": "a photo of person",
        "evaluation": ["a photo of sks person", "a photo of sks person, facing left"],
    },
    "lora": {**LORA, "learning_rate": 1e-2, "prior_weight": 0.5, "prior_batch": 1, "class_images": 2},
    "sampling": {"steps": 2, "guidance": 2.0},
}


def write_base(folder: Path, prediction: str = "v_prediction", recipe: dict[str, Any] | None = RECIPE) -> Path:
    """Save one. "v_prediction" comes with a DDPM scheduler, "epsilon" with PNDM, as Stable Diffusion 2 and 1 do."""
    save_tokenizer(folder / "words", GRAY.words)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "words")
    torch.manual_seed(0)
    config = new_scheduler().config
    epsilon = PNDMScheduler.from_config(config, prediction_type="epsilon", skip_prk_steps=True)
    pipeline = StableDiffusionPipeline(
        vae=linear_vae(),
        text_encoder=new_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=SIDE // 2,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 32),
            layers_per_block=1,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=2,
            norm_num_groups=8,
        ),
        scheduler=epsilon if prediction == "epsilon" else new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    if recipe is not None:
        (folder / "iddmbench.json").write_text(json.dumps(recipe))
    return folder


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None
    return conv.bias


def linear_vae() -> AutoencoderKL:
    """Residual blocks do nothing; channels 0-3 hold the values, 4-7 their negatives, the rest a constant.

    GroupNorm over all channels divides by nearly a constant, and silu(x) - silu(-x) = x.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(WIDTH, WIDTH),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=1,
        sample_size=SIDE,
        scaling_factor=2.0,
    ).requires_grad_(False)
    for name, module in vae.named_modules():
        if name.endswith(("conv2", "to_out.0")):  # the ends of residual branches
            module.weight.zero_()
            module.bias.zero_()
    scale = CONSTANT * np.sqrt((WIDTH - 8) / WIDTH)  # what GroupNorm divides by

    def start(conv: nn.Conv2d, values: torch.Tensor) -> None:
        """values [4, in]: channels of the input that make up each value."""
        conv.weight.zero_()
        conv.weight[:4, :, 1, 1], conv.weight[4:8, :, 1, 1] = values, -values
        _bias(conv)[:8] = 0
        _bias(conv)[8:] = CONSTANT * torch.tensor([1.0, -1.0]).repeat((WIDTH - 8) // 2)

    def carry(conv: nn.Conv2d, kernel: torch.Tensor) -> None:
        """Filter the values by `kernel` [3, 3] and hand on the constants."""
        conv.weight.zero_()
        _bias(conv).zero_()
        for channel in range(8):
            conv.weight[channel, channel] = kernel
        _bias(conv)[8:] = CONSTANT * torch.tensor([1.0, -1.0]).repeat((WIDTH - 8) // 2)

    def finish(conv: nn.Conv2d, rows: int) -> None:
        """The first `rows` values; anything further (the log variance) is -20."""
        conv.weight.zero_()
        _bias(conv)[:] = -20.0
        _bias(conv)[:rows] = 0
        for row in range(rows):
            conv.weight[row, row, 1, 1], conv.weight[row, row + 4, 1, 1] = scale, -scale

    def pass_on(conv: nn.Conv2d) -> None:
        conv.weight[:, :, 0, 0] = torch.eye(conv.weight.shape[0])
        _bias(conv).zero_()

    blocks = torch.zeros(3, 3)
    blocks[:2, :2] = 0.25
    ramp = torch.tensor([1.0, 2.0, 1.0]) / 4
    start(vae.encoder.conv_in, torch.cat((torch.eye(3), torch.full((1, 3), 1 / 3))))
    carry(vae.encoder.down_blocks[0].downsamplers[0].conv, blocks)
    finish(vae.encoder.conv_out, CHANNELS)
    pass_on(vae.quant_conv)
    pass_on(vae.post_quant_conv)
    start(vae.decoder.conv_in, torch.eye(4))
    carry(vae.decoder.up_blocks[0].upsamplers[0].conv, torch.outer(ramp, ramp))
    finish(vae.decoder.conv_out, 3)
    return vae


def state(base: BaseModel) -> dict[str, torch.Tensor]:
    """A copy of every weight of the base, to see that nothing wrote to them."""
    parts = {"unet": base.unet, "vae": base.vae, "text": base.text_encoder}
    return {f"{p}.{k}": v.clone() for p, m in parts.items() for k, v in m.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
