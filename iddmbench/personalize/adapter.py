"""LoRA adapters on a shared base UNet: put on, trained or loaded, and taken off again (peft)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from iddmbench.errors import UserError, first_line
from iddmbench.models.base import BaseModel

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

NAME = "subject"
TEXT = "text_encoder."
"""How names of the text encoder's adapter begin; those of the UNet's are the UNet's own."""
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""Modules of the text encoder that get an adapter, as in diffusers' example script."""


@dataclass(frozen=True)
class LoraLayer:
    """LoRA of one module: its update is scaled by alpha / rank."""

    rank: int
    alpha: float


@contextmanager
def adapter(
    base: BaseModel, settings: Any, generator: torch.Generator, layers: Mapping[str, LoraLayer] | None = None
) -> Iterator["UNet2DConditionModel"]:
    """The base's UNet with a fresh adapter: A is Kaiming-uniform from `generator`, B is zero, so it starts as the base.

    The adapter is removed on exit; the base's own weights are never written.

    Args:
        settings: `LoraSettings`.
        layers: exactly these modules of the UNet, by name, each with a rank of its own; by default what `settings` says.

    Raises UserError when the base has none of the target modules.
    """
    from peft import LoraConfig

    unet: Any = base.unet
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(layers or settings.targets),
        rank_pattern={name: layer.rank for name, layer in (layers or {}).items()},
        alpha_pattern={name: layer.alpha for name, layer in (layers or {}).items()},
        init_lora_weights=True,
    )
    try:
        unet.add_adapter(config, adapter_name=NAME)
    except ValueError as error:
        # diffusers leaves a mark that an adapter is there, on which the next one would fail.
        getattr(unet, "peft_config", {}).pop(NAME, None)
        unet._hf_peft_config_loaded = hasattr(unet, "peft_config")
        raise UserError(f"LoRA does not fit base '{base.name}': {first_line(error)}") from error
    try:
        _draw_weights(unet, generator)
        yield unet
    finally:
        unet.delete_adapters(NAME)


@contextmanager
def text_adapter(base: BaseModel, settings: Any, generator: torch.Generator) -> Iterator[None]:
    """A fresh adapter on the base's text encoder, as `adapter` puts one on the UNet; it requires gradients.

    Args:
        settings: `LoraSettings`; rank and alpha are the UNet's.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    encoder: Any = base.text_encoder
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=list(TEXT_TARGETS))
    inject_adapter_in_model(config, encoder, adapter_name=NAME)  # transformers' own method wants the newest peft
    try:
        _draw_weights(encoder, generator)
        yield
    finally:
        for module in encoder.modules():
            if isinstance(module, BaseTunerLayer):
                module.delete_adapter(NAME)
        del encoder.peft_config  # no other adapter is there


def _draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for key, weight in network.named_parameters():
            if f"lora_A.{NAME}" in key:
                bound = weight[0].numel() ** -0.5  # kaiming_uniform with a = sqrt(5), nn.Linear's own
                weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)


def own_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """A network's own weights, under the names that they had before any adapter.

    peft wraps a module to put an adapter on it; the wrapper stays when the adapter goes.
    """
    return {own_name(name): weight for name, weight in network.named_parameters() if ".lora_" not in name}


def own_name(name: str) -> str:
    """ "to_q.base_layer.weight" -> "to_q.weight"."""
    return name.replace(".base_layer", "")


def trainable(unet: nn.Module) -> list[nn.Parameter]:
    return [p for p in unet.parameters() if p.requires_grad]


def read_weights(network: nn.Module) -> dict[str, Tensor]:
    """The adapter's weights by name, float32 on the CPU."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(network, adapter_name=NAME)
    return {key: value.detach().float().cpu().contiguous().clone() for key, value in state.items()}


def write_weights(unet: "UNet2DConditionModel", weights: dict[str, Tensor]) -> None:
    """Load weights that `read_weights` gave. Raises UserError when they belong to another base or rank."""
    from peft import set_peft_model_state_dict

    try:
        result = set_peft_model_state_dict(unet, dict(weights), adapter_name=NAME)
    except RuntimeError as error:
        raise UserError(f"adapter does not fit this base model: {first_line(error)}") from error
    if result.unexpected_keys:
        raise UserError(f"adapter does not fit this base model: unexpected tensor {result.unexpected_keys[0]}")


def merged_text(base: BaseModel, weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The text encoder's weights with those of an adapter added, by part and name; none where `weights` has none of it.

    Args:
        weights: `text_encoder.MODULE.lora_A.weight` and `.lora_B.weight`; others are left alone. scale: alpha / rank.

    Raises UserError when the base has no such module.
    """
    end = ".lora_A.weight"
    downs = {n.removesuffix(end): w for n, w in weights.items() if n.startswith(TEXT) and n.endswith(end)}
    own = {TEXT + name: w for name, w in own_parameters(base.text_encoder).items()} if downs else {}
    found = {}
    for module, down in downs.items():
        name, up = f"{module}.weight", weights[f"{module}.lora_B.weight"]
        if name not in own or own[name].shape != (len(up), down.shape[1]):
            raise UserError(f"adapter does not fit this base model: it has no {module} of {len(up)} by {down.shape[1]}")
        found[name] = merged(own[name], down, up, scale)
    return found


def merged(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """W + scale * up @ down (Hu et al. 2021, arXiv 2106.09685), [out, in] on the CPU: a text encoder has linear layers only."""
    return weight.detach().cpu() + scale * (up @ down)
