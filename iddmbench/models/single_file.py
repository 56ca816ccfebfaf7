"""A base model in one .safetensors file, in the layout of CompVis's and Kohya's scripts: made a folder in Stable Diffusion's
layout, in the cache, without any download.

The file has no configuration: shapes say all but the number of attention heads and what the UNet predicts, which the family
says (Stable Diffusion 1, with OpenAI's text encoder, or 2, with OpenCLIP's).
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock
from safetensors import SafetensorError, safe_open

from iddmbench.errors import UserError, first_line
from iddmbench.models.clip_tokenizer import END, tokenizer_source, write_tokenizer
from iddmbench.paths import BASES, default_cache
from iddmbench.wheel_files import sha256

UNET, VAE = "model.diffusion_model.", "first_stage_model."
OPENAI, OPENCLIP = "cond_stage_model.transformer.text_model.", "cond_stage_model.model."
OTHERS: Mapping[str, tuple[str, ...]] = {
    "a Stable Diffusion XL model, with two text encoders": ("conditioner.embedders.", f"{UNET}label_emb."),
    "a Stable Diffusion 3 model": (f"{UNET}joint_blocks.",),
    "a Flux model": (f"{UNET}double_blocks.", "double_blocks."),
    "a LoRA, not a model (--adapter takes one)": ("lora_unet_", "lora_te", "unet.", "text_encoder."),
    "a UNet alone": ("down_blocks.", "input_blocks.", "time_embedding."),
    "a VAE alone": ("encoder.", "decoder."),
}
"""Families that are not read, by how a name of their tensors begins."""
HEADS, HEAD_WIDTH = 8, 64
"""Attention heads of Stable Diffusion 1's UNet; channels of a head in 2's, and in both text encoders."""
SIDES = {"epsilon": 64, "v_prediction": 96}
"""Side of Stable Diffusion 2's latents, by what the UNet predicts; 1 has 64."""
SCHEDULE = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
VERSION = 1
"""Raised when the same file would make another folder."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """What a file says without its tensors being read: shapes and types by name, and its metadata."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]
    metadata: Mapping[str, str]

    @property
    def openclip(self) -> bool:
        """Whether it is Stable Diffusion 2."""
        return any(name.startswith(OPENCLIP) for name in self.shapes)

    def count(self, pattern: str) -> int:
        """How many numbers there are in the place of %d, from 0."""
        found = re.compile(re.escape(pattern).replace("%d", r"(\d+)"))
        return len({match[1] for name in self.shapes if (match := found.match(name))})

    def wrong(self, reason: str) -> UserError:
        return UserError(f"base model '{self.path}' can't be loaded: {reason}")


def folder_of(path: Path) -> Path:
    """The folder that a file was made into, in the cache; made now where it is not there.

    Raises UserError for a file that is damaged, lacks a part, is of another family, or does not say what it predicts, and where
    there is no tokenizer for it.
    """
    header = read_header(path)
    configs, source = configurations(header), tokenizer_source(path)
    key = hashlib.sha256(f"{VERSION} {sha256(path)} {json.dumps(configs, sort_keys=True)} {_digest(source)}".encode())
    folder = default_cache() / BASES / f"{path.stem[:80]}-{key.hexdigest()[:16]}"
    if folder.is_dir():
        with suppress(OSError):  # a cache that can't be written serves what it holds
            os.utime(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                log.info("%s is made a folder once, which takes a minute: %s", path, folder)
                _make(header, configs, source, folder)
    except OSError as error:
        raise header.wrong(f"its folder {folder} can't be written: {first_line(error)}") from error
    return folder


def read_header(path: Path) -> Header:
    """Raises UserError for a file that is no safetensors file."""
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            shapes = {name: tuple(found.get_shape()) for name, found in slices.items()}
            types = {name: found.get_dtype() for name, found in slices.items()}
            return Header(path, shapes, types, dict(file.metadata() or {}))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"base model '{path}' can't be read as safetensors: {first_line(error)}") from error


def configurations(header: Header) -> dict[str, dict[str, Any]]:
    """What the folder's JSON files say, by part; "" is model_index.json. Raises UserError as `folder_of` does."""
    _check_family(header)
    try:
        unet, vae, text = _unet(header), _vae(header), _text_encoder(header)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise header.wrong(f"its tensors are not those of a whole model ({type(error).__name__}: {error})") from error
    if unet["in_channels"] != vae["latent_channels"]:
        kind = "for inpainting" if unet["in_channels"] == 9 else "for another kind of input"
        raise header.wrong(f"its UNet is {kind} ({unet['in_channels']} input channels); give the plain model")
    predicts = prediction(header)
    unet["sample_size"] = SIDES[predicts] if header.openclip else SIDES["epsilon"]
    vae["sample_size"] = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    classes = {
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **classes}
    return {
        "": index,
        "unet": unet,
        "vae": vae,
        "text_encoder": text,
        "scheduler": {**SCHEDULE, "prediction_type": predicts},
    }


def prediction(header: Header) -> str:
    """ "epsilon" or "v_prediction": as the metadata (modelspec.prediction_type) says, a tensor named v_pred, or CompVis's
    configuration, the .yaml beside the file. Raises UserError for Stable Diffusion 2 where nothing does."""
    stated = header.metadata.get("modelspec.prediction_type", "")
    if not stated and "v_pred" in header.shapes:
        stated = "v"
    beside = header.path.with_suffix(".yaml")
    if not stated and beside.is_file():
        try:
            content = yaml.safe_load(beside.read_text(encoding="utf-8"))
            stated = str(content["model"]["params"].get("parameterization", "epsilon"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise header.wrong(f"{beside} is not its configuration: {first_line(error)}") from error
    if stated.startswith("v"):
        return "v_prediction"
    if stated.startswith("eps") or (not stated and not header.openclip):
        return "epsilon"
    if stated:
        raise header.wrong(f"it predicts '{stated}', which is neither noise (epsilon) nor velocity (v)")
    raise header.wrong(
        "a Stable Diffusion 2 file does not say whether it predicts noise or velocity: put its .yaml beside it, "
        f"{beside.name} with model.params.parameterization: v or eps"
    )


def _check_family(header: Header) -> None:
    """Raises UserError for another family's file, and for one that lacks a part."""
    names = header.shapes
    for kind, starts in OTHERS.items():
        if any(name.startswith(starts) for name in names) and not (kind.endswith("alone") and _has(header, UNET)):
            raise header.wrong(f"it is {kind}; give a Stable Diffusion 1 or 2 model")
    parts = {"UNet": (UNET,), "text encoder": (OPENAI, OPENCLIP), "VAE": (VAE,)}
    missing = [part for part, starts in parts.items() if not _has(header, *starts)]
    if len(missing) == len(parts):
        raise header.wrong(f"it holds no model (its first tensor is {next(iter(sorted(names)), 'missing')})")
    if missing:
        raise header.wrong(f"it has no {' and no '.join(missing)}: give a file with all parts, or a folder")


def _has(header: Header, *starts: str) -> bool:
    return any(name.startswith(starts) for name in header.shapes)


def _unet(header: Header) -> dict[str, Any]:
    shapes, channels, layers, crossed = header.shapes, list[int](), Counter[int](), list[bool]()
    for i in range(1, header.count(f"{UNET}input_blocks.%d.")):
        block = f"{UNET}input_blocks.{i}."
        if f"{block}0.op.weight" in shapes:
            continue
        outs = shapes[f"{block}0.in_layers.2.weight"][0]
        new = not channels or f"{UNET}input_blocks.{i - 1}.0.op.weight" in shapes
        if new:
            channels.append(outs)
            crossed.append(f"{block}1.proj_in.weight" in shapes)
        layers[len(channels)] += 1
    first = next(i for i in range(1, 99) if f"{UNET}input_blocks.{i}.1.proj_in.weight" in shapes)
    attention = f"{UNET}input_blocks.{first}.1."
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": layers[1],
        "down_block_types": ["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in crossed],
        "up_block_types": ["CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(crossed)],
        "cross_attention_dim": shapes[f"{attention}transformer_blocks.0.attn2.to_k.weight"][1],
        "attention_head_dim": [c // HEAD_WIDTH for c in channels] if header.openclip else HEADS,
        "use_linear_projection": len(shapes[f"{attention}proj_in.weight"]) == 2,
    }


def _vae(header: Header) -> dict[str, Any]:
    shapes, levels = header.shapes, header.count(f"{VAE}encoder.down.%d.")
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [shapes[f"{VAE}encoder.down.{i}.block.0.conv1.weight"][0] for i in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": header.count(f"{VAE}encoder.down.0.block.%d."),
        "latent_channels": shapes[f"{VAE}decoder.conv_in.weight"][1],
        "scaling_factor": 0.18215,
    }


def _text_encoder(header: Header) -> dict[str, Any]:
    shapes = header.shapes
    if header.openclip:
        tokens, width = shapes[f"{OPENCLIP}token_embedding.weight"]
        layer, positions = f"{OPENCLIP}transformer.resblocks.%d.", shapes[f"{OPENCLIP}positional_embedding"][0]
        inner = shapes[f"{layer % 0}mlp.c_fc.weight"][0]
        depth = header.count(layer) - 1  # Stable Diffusion 2 reads the last but one
    else:
        tokens, width = shapes[f"{OPENAI}embeddings.token_embedding.weight"]
        layer = f"{OPENAI}encoder.layers.%d."
        positions = shapes[f"{OPENAI}embeddings.position_embedding.weight"][0]
        inner, depth = shapes[f"{layer % 0}mlp.fc1.weight"][0], header.count(layer)
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": depth,
        "num_attention_heads": width // HEAD_WIDTH,
        "max_position_embeddings": positions,
        "projection_dim": width,
        "hidden_act": "gelu" if header.openclip else "quick_gelu",
    }


def _make(header: Header, configs: dict[str, dict[str, Any]], source: Path, folder: Path) -> None:
    """Write the folder under another name and rename it, so that it is never half there."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, config in configs.items():
            file = {"": "model_index.json", "scheduler": "scheduler/scheduler_config.json"}.get(
                name, f"{name}/config.json"
            )
            (part / file).parent.mkdir(exist_ok=True)
            (part / file).write_text(json.dumps(config, indent=2), encoding="utf-8")
        write_tokenizer(source, part / "tokenizer", "!" if header.openclip else END)
        tokenizer, text = CLIPTokenizer.from_pretrained(part / "tokenizer"), configs["text_encoder"]
        if len(tokenizer) > text["vocab_size"] or tokenizer.model_max_length > text["max_position_embeddings"]:
            own = f"{len(tokenizer)} tokens in prompts of {tokenizer.model_max_length}"
            known = f"{text['vocab_size']} in {text['max_position_embeddings']}"
            raise header.wrong(f"the tokenizer of {source} has {own}, its text encoder {known}")
        special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        text |= {**special, "pad_token_id": tokenizer.pad_token_id}
        (part / "text_encoder" / "config.json").write_text(json.dumps(text, indent=2), encoding="utf-8")
        try:
            pipeline = StableDiffusionPipeline.from_single_file(
                str(header.path), config=str(part), local_files_only=True, safety_checker=None
            )
        except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
            reason = first_line(error)
            if "meta tensor" in reason:  # what diffusers leaves of weights that a file lacks
                reason = "weights of its UNet or VAE are missing"
            raise header.wrong(reason) from error
        _save(header, pipeline, part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save(header: Header, pipeline: Any, folder: Path) -> None:
    """The networks' weights in the file's own precision, under names that do not depend on the libraries' versions."""
    from safetensors.torch import save_file

    starts = {"unet": UNET, "vae": VAE, "text_encoder": OPENCLIP if header.openclip else OPENAI}
    for part, start in starts.items():
        stored = Counter(kind for name, kind in header.types.items() if name.startswith(start)).most_common(1)[0][0]
        kind, state = TORCH.get(stored, torch.float32), getattr(pipeline, part).state_dict()
        if part == "text_encoder":
            state = {f"text_model.{name.removeprefix('text_model.')}": weight for name, weight in state.items()}
        tensors = {n: w.to(kind).contiguous() for n, w in state.items() if not n.endswith("position_ids")}
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        save_file(tensors, folder / part / f"{stem}.safetensors", metadata={"format": "pt"})


TORCH = {"F16": torch.float16, "BF16": torch.bfloat16}
"""Precisions that are kept; anything else is stored as float32."""


def _digest(source: Path) -> str:
    """Of a tokenizer's file, or of its folder's files."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    return " ".join(f"{file.name} {sha256(file)}" for file in files if file.is_file())
