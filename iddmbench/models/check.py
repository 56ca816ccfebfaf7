"""A base model is checked as a whole before a run: every part is there, and of the kind that fits."""

import json
import re
from pathlib import Path
from typing import Any

from iddmbench.errors import UserError, did_you_mean
from iddmbench.paths import user_path

PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
WEIGHTS = ("vae", "unet", "text_encoder")
TOKENS = ("vocab.json", "merges.txt"), ("tokenizer.json",)
"""Files of a CLIP tokenizer, in its older or its newer form."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?:@[A-Za-z0-9][\w./-]{0,95})?")
"""owner/name, and a branch, tag or commit behind an @."""
SINGLE_FILE = ".safetensors"
USUAL = "StableDiffusionPipeline"
FOLDERS = {"models", "model", "weights", "checkpoints", "checkpoint", "runs", "data", "home", "tmp", "mnt", "content"}
"""First parts of names that are meant as a path on this machine, not as somebody's account on the hub."""


def check_name(name: str) -> None:
    """Raises UserError for a base that is neither a folder nor a name on the hub: a mistyped path must not go out to it."""
    path = user_path(name)
    if path.suffix in (".ckpt", ".bin", ".pt", ".pth"):
        raise UserError(
            f"base model '{name}' is one {path.suffix} file, a pickle that could run code: convert it to .safetensors on a "
            "machine that you can afford to lose, or get a .safetensors file or a folder in Stable Diffusion's layout"
        )
    if path.suffix == SINGLE_FILE:
        raise UserError(f"there is no file '{name}' for the base model: check the path")
    if path.is_file():
        raise UserError(
            f"base model '{name}' is a file: give a .safetensors file, or a folder in Stable Diffusion's layout"
        )
    first, _, rest = name.partition("@")[0].partition("/")
    if not rest:  # an alias, with a revision or without: `base_folder` knows them
        return
    local = not HUB_ID.fullmatch(name) or first in FOLDERS or Path(first).is_dir() or "\\" in name
    if local:
        raise UserError(
            f"there is no folder '{name}' for the base model: check the path, or give a hub id (owner/name)"
        )


def check_parts(name: str, folder: Path) -> None:
    """Raises UserError for a base folder that lacks a part or has one of another kind; reads no weights."""

    def wrong(reason: str) -> UserError:
        return UserError(f"base model '{name}' can't be loaded from {folder}: {reason}")

    index = _read(folder / "model_index.json")
    if (kind := str(index.get("_class_name", USUAL))) not in (USUAL, "StableDiffusionImg2ImgPipeline"):
        xl = "XL" in kind
        raise wrong(
            f"it is a Stable Diffusion XL model ({kind}), with two text encoders; give a Stable Diffusion 1 or 2 model"
            if xl
            else f"it is a {kind}; give a Stable Diffusion 1 or 2 model"
        )
    if "text_encoder_2" in index or (folder / "text_encoder_2").is_dir():
        raise wrong("it is a Stable Diffusion XL model, with two text encoders; give a Stable Diffusion 1 or 2 model")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise wrong(f"it has no {' and no '.join(missing)} folder")
    for part in WEIGHTS:
        _check_weights(folder / part, wrong)
    if not any(all((folder / "tokenizer" / file).is_file() for file in files) for files in TOKENS):
        raise wrong("tokenizer has neither vocab.json and merges.txt nor tokenizer.json")
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise wrong("scheduler has no scheduler_config.json")
    unet, vae = _read(folder / "unet" / "config.json"), _read(folder / "vae" / "config.json")
    if unet.get("addition_embed_type") or unet.get("encoder_hid_dim"):
        raise wrong(
            "its UNet takes more than a text, as Stable Diffusion XL's does; give a Stable Diffusion 1 or 2 model"
        )
    inputs, latents = unet.get("in_channels"), vae.get("latent_channels")
    if inputs == 9:
        raise wrong("its UNet is for inpainting (9 input channels); give the plain model")
    if inputs != latents or unet.get("out_channels") != latents:
        raise wrong(f"its UNet takes {inputs} channels, but the VAE's latents have {latents}")
    width, text = unet.get("cross_attention_dim"), _read(folder / "text_encoder" / "config.json").get("hidden_size")
    if isinstance(width, int) and isinstance(text, int) and width != text:
        raise wrong(f"its UNet takes text embeddings of width {width}, but the text encoder's have {text}")


def variant_of(folder: Path) -> str | None:
    """ "fp16" for a folder in which a part has its weights under that name alone, else None."""
    for part in WEIGHTS:
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        names = (f"{stem}.safetensors", f"{stem}.safetensors.index.json")
        if (folder / part / f"{stem}.fp16.safetensors").is_file() and not any(
            (folder / part / n).is_file() for n in names
        ):
            return "fp16"
    return None


def check_targets(targets: tuple[str, ...], folder: Path) -> None:
    """Raises UserError for a LoRA target that no module of the base's UNet is named after; builds it without weights."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
    names = [name for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            last = {
                ".".join(name.split(".")[-2:] if name.split(".")[-1].isdigit() else name.split(".")[-1:])
                for name in names
            }
            raise UserError(f"--lora targets: the base's UNet has no layer '{target}': {did_you_mean(target, last)}")


def _check_weights(part: Path, wrong: Any) -> None:
    """One whole set of safetensors under the name that the library looks for."""
    files = sorted(path.name for path in part.glob("*.safetensors"))
    stem = "model" if part.name == "text_encoder" else "diffusion_pytorch_model"
    if f"{stem}.safetensors" in files:
        return
    index = part / f"{stem}.safetensors.index.json"
    if index.is_file():
        needed = set(_read(index).get("weight_map", {}).values())
        if lacking := sorted(needed - set(files)):
            raise wrong(f"{part.name} lacks {lacking[0]}, which its index lists")
        return
    if not files:
        pickled = sorted(path.name for path in part.glob("*.bin"))
        instead = f", but {pickled[0]}, a pickle that could run code: convert it to safetensors" if pickled else ""
        raise wrong(f"{part.name} has no .safetensors file{instead}")
    if f"{stem}.fp16.safetensors" in files:
        return  # `variant_of`
    raise wrong(f"{part.name} has no {stem}.safetensors, but {files[0]}")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, which whoever needs it says."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
