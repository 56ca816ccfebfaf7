"""A small Stable Diffusion model, and the same in one file as CompVis's scripts write it."""

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from iddmbench.micro.text import MAX_TOKENS, save_tokenizer

WIDTH = 64
"""Of the text encoder, one head of it."""


def small_pipeline(folder: Path, second: bool = False) -> StableDiffusionPipeline:
    """Two levels and one layer in UNet and VAE, two in the text encoder. second: as Stable Diffusion 2 has it."""
    save_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=WIDTH,
        hidden_act="gelu" if second else "quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=(1, 2) if second else 8,
        use_linear_projection=second,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        latent_channels=4,
        scaling_factor=0.18215,
        sample_size=128,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        prediction_type="v_prediction" if second else "epsilon",
    )
    parts: dict[str, Any] = {"vae": vae, "unet": unet, "text_encoder": CLIPTextModel(text), "tokenizer": tokenizer}
    return StableDiffusionPipeline(
        **parts, scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def tensors(pipeline: StableDiffusionPipeline, second: bool = False) -> dict[str, torch.Tensor]:
    """The networks' weights under CompVis's names."""
    found = {f"model.diffusion_model.{unet_name(name)}": w for name, w in pipeline.unet.state_dict().items()}
    for name, weight in pipeline.vae.state_dict().items():
        attention = ".attentions." in name and weight.ndim == 2  # 1 x 1 convolutions there
        found[f"first_stage_model.{vae_name(name)}"] = weight[:, :, None, None] if attention else weight
    text = {n.removeprefix("text_model."): w for n, w in pipeline.text_encoder.state_dict().items()}
    if second:
        return found | openclip({n: w for n, w in text.items() if "position_ids" not in n})
    return found | {f"cond_stage_model.transformer.text_model.{name}": weight for name, weight in text.items()}


def write_file(
    path: Path, pipeline: StableDiffusionPipeline, second: bool = False, half: bool = False, **metadata: str
) -> Path:
    stored = {n: w.half() if half and w.is_floating_point() else w for n, w in tensors(pipeline, second).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({n: w.contiguous() for n, w in stored.items()}, path, metadata={"format": "pt", **metadata})
    return path


RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"}
RESNET |= {"conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def unet_name(name: str) -> str:
    """One layer a level: input blocks are conv_in, (resnet, attention), down, (resnet); output blocks two a level."""
    name = re.sub(r"^time_embedding\.linear_(\d)", lambda m: f"time_embed.{2 * int(m[1]) - 2}", name)
    name = name.replace("conv_in.", "input_blocks.0.0.").replace("conv_norm_out.", "out.0.")
    name = name.replace("conv_out.", "out.2.")
    name = re.sub(r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}", name)
    name = name.replace("mid_block.attentions.0", "middle_block.1")
    name = re.sub(r"^down_blocks\.(\d)\.resnets\.0", lambda m: f"input_blocks.{1 + 2 * int(m[1])}.0", name)
    name = name.replace("down_blocks.0.attentions.0", "input_blocks.1.1")
    name = name.replace("down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op")
    name = re.sub(r"^up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.0", name)
    name = re.sub(r"^up_blocks\.1\.attentions\.(\d)", lambda m: f"output_blocks.{2 + int(m[1])}.1", name)
    name = name.replace("up_blocks.0.upsamplers.0.conv", "output_blocks.1.1.conv")
    if re.match(r"(input_blocks|output_blocks|middle_block)", name) and "transformer_blocks" not in name:
        for ours, theirs in RESNET.items():
            name = re.sub(rf"\.{ours}\.", f".{theirs}.", name)
    return name


def vae_name(name: str) -> str:
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{1 - int(m[1])}.block", name)
    name = name.replace("down_blocks.0.downsamplers.0", "down.0.downsample")
    name = name.replace("up_blocks.0.upsamplers.0", "up.1.upsample")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    if "mid_block.attentions.0" in name:
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
        name = re.sub(r"to_([qkv])\.", r"\1.", name).replace("to_out.0", "proj_out")
    return name


def openclip(text: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A third layer too, which Stable Diffusion 2 does not read."""
    start, found = "cond_stage_model.model.", {}
    found["positional_embedding"] = text["embeddings.position_embedding.weight"]
    found["token_embedding.weight"] = text["embeddings.token_embedding.weight"]
    found["text_projection"], found["logit_scale"] = torch.eye(WIDTH), torch.tensor(1.0)
    for kind in ("weight", "bias"):
        found[f"ln_final.{kind}"] = text[f"final_layer_norm.{kind}"]
    for layer in range(3):
        own, block = f"encoder.layers.{min(layer, 1)}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [text[f"{own}self_attn.{x}_proj.{kind}"] for x in "qkv"]
            found[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)
            for ours, theirs in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("self_attn.out_proj", "attn.out_proj"),
            ):
                found[f"{block}{theirs}.{kind}"] = text[f"{own}{ours}.{kind}"]
            for ours, theirs in (("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                found[f"{block}{theirs}.{kind}"] = text[f"{own}{ours}.{kind}"]
    return {start + name: weight.clone() for name, weight in found.items()}
