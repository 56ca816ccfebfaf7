"""A whole fine-tuned model as a folder in diffusers' layout, which `StableDiffusionPipeline.from_pretrained` loads."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from iddmbench.models.base import BaseModel
from iddmbench.personalize.adapter import own_name
from iddmbench.personalize.lora_names import TEXT, UNET
from iddmbench.personalize.read_dreambooth import STEMS

INDEX = "model_index.json"
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of a pipeline that have no share in its images."""


def write_dreambooth(folder: Path, base: BaseModel, replaced: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Fill `folder` with the base's parts, in which weights are replaced by part and name ("unet.conv_in.weight"); float32.

    Args:
        metadata: what the UNet's file says of itself.
    """
    base.unet.save_config(folder / UNET)
    base.text_encoder.config.save_pretrained(folder / TEXT)
    base.vae.save_pretrained(folder / "vae")
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(base.folder / part, folder / part)
    for part, own in ((UNET, metadata), (TEXT, {})):
        network = getattr(base, part)
        weights = {own_name(name): w.detach() for name, w in network.state_dict().items() if ".lora_" not in name}
        weights |= {name.removeprefix(f"{part}."): w for name, w in replaced.items() if name.startswith(f"{part}.")}
        plain = {name: w.cpu().contiguous().clone() for name, w in weights.items()}
        save_file(plain, folder / part / f"{STEMS[part]}.safetensors", metadata={"format": "pt", **own})
    index = json.loads((base.folder / INDEX).read_text(encoding="utf-8"))
    index |= {name: [None, None] for name in LEFT_OUT if name in index} | {"requires_safety_checker": False}
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
