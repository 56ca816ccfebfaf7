"""An adapter as a file that other programs load: diffusers' own layout, or the one of Kohya's scripts that web UIs read."""

import json
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from iddmbench.models.recipe import LoraSettings
from iddmbench.personalize.lora_names import TEXT, UNET, kohya_name

Format = Literal["diffusers", "kohya"]
FORMATS: tuple[str, ...] = get_args(Format)
FILES: dict[str, str] = {"diffusers": "pytorch_lora_weights.safetensors", "kohya": "lora.safetensors"}
"""The first is the name that `load_lora_weights(FOLDER)` looks for."""


def write_lora(
    path: Path, weights: dict[str, Tensor], settings: LoraSettings, form: Format, metadata: dict[str, str]
) -> None:
    """Write weights that the `lora` personalizer stores, tensors unchanged.

    Args:
        weights: the UNet's under its own names, the text encoder's behind `text_encoder.`.
        metadata: what the file says of itself beside rank and alpha.
    """
    weights = {_with_part(key): value for key, value in weights.items()}
    modules = sorted({key.rsplit(".lora_", 1)[0] for key in weights})
    if form == "diffusers":
        tensors, configs = weights, dict[str, object]()
        for part in dict.fromkeys(module.partition(".")[0] for module in modules):
            inside = [module.partition(".")[2] for module in modules if module.startswith(f"{part}.")]
            if part == TEXT:  # all of these names in it, whether they are below `text_model` there or not
                inside = sorted({module.rpartition(".")[2] for module in inside})
            config = {"r": settings.rank, "lora_alpha": settings.alpha, "target_modules": inside}
            configs |= {f"{part}.{k}": v for k, v in config.items()}
        own = {"lora_adapter_metadata": json.dumps(configs, sort_keys=True)}
    else:
        tensors = {_kohya_key(key): value for key, value in weights.items()}
        tensors |= {f"{kohya_name(module)}.alpha": torch.tensor(float(settings.alpha)) for module in modules}
        own = _kohya_metadata(weights, settings)
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    save_file(contiguous, path, metadata={"format": "pt", **own, **metadata})


def _with_part(key: str) -> str:
    """A tensor's name behind its part's. Other programs know the text encoder's modules as transformers called them before
    version 5, below `text_model`."""
    if not key.startswith(f"{TEXT}."):
        return f"{UNET}.{key}"
    return f"{TEXT}.text_model.{key.removeprefix(f'{TEXT}.').removeprefix('text_model.')}"


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
