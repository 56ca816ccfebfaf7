"""An adapter as a file that other programs load: diffusers' own layout, or the one of Kohya's scripts that web UIs read."""

import json
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from iddmbench.models.recipe import LoraSettings
from iddmbench.personalize.lora_names import UNET, kohya_name

Format = Literal["diffusers", "kohya"]
FORMATS: tuple[str, ...] = get_args(Format)
FILES: dict[str, str] = {"diffusers": "pytorch_lora_weights.safetensors", "kohya": "lora.safetensors"}
"""The first is the name that `load_lora_weights(FOLDER)` looks for."""


def write_lora(
    path: Path, weights: dict[str, Tensor], settings: LoraSettings, form: Format, metadata: dict[str, str]
) -> None:
    """Write weights that `adapter.read_weights` gave, tensors unchanged.

    Args:
        metadata: what the file says of itself beside rank and alpha.
    """
    modules = sorted({key.rsplit(".lora_", 1)[0] for key in weights})
    if form == "diffusers":
        tensors = {f"{UNET}.{key}": value for key, value in weights.items()}
        config = {"r": settings.rank, "lora_alpha": settings.alpha, "target_modules": modules}
        own = {"lora_adapter_metadata": json.dumps({f"{UNET}.{k}": v for k, v in config.items()}, sort_keys=True)}
    else:
        tensors = {_kohya_key(key): value for key, value in weights.items()}
        tensors |= {f"{kohya_name(module)}.alpha": torch.tensor(float(settings.alpha)) for module in modules}
        own = _kohya_metadata(weights, settings)
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    save_file(contiguous, path, metadata={"format": "pt", **own, **metadata})


def _kohya_key(key: str) -> str:
    module, role = key.rsplit(".lora_", 1)
    return f"{kohya_name(module)}.lora_{'down' if role.startswith('A') else 'up'}.weight"


def _kohya_metadata(weights: dict[str, Tensor], settings: LoraSettings) -> dict[str, str]:
    """What Kohya's scripts write; 3 x 3 convolutions have settings of their own there."""
    rank, alpha = str(settings.rank), str(settings.alpha)
    convolutions = any(value.ndim == 4 and max(value.shape[2:]) > 1 for value in weights.values())
    arguments = {"conv_dim": rank, "conv_alpha": alpha} if convolutions else {}
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
        "ss_network_args": json.dumps(arguments),
    }
