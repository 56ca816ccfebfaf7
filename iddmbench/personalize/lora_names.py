"""Names of LoRA tensors in the files of diffusers, peft and Kohya's scripts, and the module of a base that each belongs to.

    diffusers   unet.MODULE.lora_A.weight, unet.MODULE.lora_B.weight; older: lora.down, lora.up, attn1.processor.to_q_lora.down
    peft        base_model.model.MODULE.lora_A.weight
    Kohya       lora_unet_MODULE.lora_down.weight, .lora_up.weight, .alpha, with "_" for every "." of MODULE

Kohya's names can't be taken apart ("to_q" has a "_" of its own), so every module of the base is named that way and looked up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from iddmbench.models.base import BaseModel
from iddmbench.personalize.adapter import own_name

Role = Literal["down", "up", "alpha"]

UNET, TEXT = "unet", "text_encoder"
KOHYA = {UNET: ("lora_unet_",), TEXT: ("lora_te_", "lora_te1_")}
_TENSOR = re.compile(
    r"(?P<module>.+?)(?:\.lora_(?P<peft>[AB])(?:\.\w+)?|\.lora_(?P<kohya>down|up)|[._]lora(?:_linear_layer)?\.(?P<old>down|up))"
    r"\.weight"
)
_ALPHA = re.compile(r"(?P<module>.+)\.alpha")
_PEFT_ROLES: Mapping[str, Role] = {"A": "down", "B": "up", "down": "down", "up": "up"}


@dataclass(frozen=True)
class TensorPlace:
    """A module of a base: its part ("unet" or "text_encoder"), its name in there, and itself."""

    part: str
    name: str
    module: nn.Linear | nn.Conv2d


def kohya_name(module: str) -> str:
    """ "unet.mid_block.attentions.0.proj_in" -> "lora_unet_mid_block_attentions_0_proj_in"."""
    part, _, name = module.partition(".")
    return KOHYA[part][0] + name.replace(".", "_")


def split_key(key: str) -> tuple[str, Role] | None:
    """The module as the file has it, and what the tensor is; None if it is not a LoRA tensor."""
    if found := _TENSOR.fullmatch(key):
        return found["module"], _PEFT_ROLES[found["peft"] or found["kohya"] or found["old"]]
    if found := _ALPHA.fullmatch(key):
        return found["module"], "alpha"
    return None


class Places:
    """The modules of a base that a LoRA can be put on, under all the names that files have for them."""

    def __init__(self, base: BaseModel):
        self._places: dict[str, TensorPlace] = {}
        for part, network in ((UNET, base.unet), (TEXT, base.text_encoder)):
            for name, module in network.named_modules():
                if isinstance(module, nn.Linear | nn.Conv2d) and ".lora_" not in name:
                    self._add(TensorPlace(part, own_name(name), module))

    def _add(self, place: TensorPlace) -> None:
        names = [place.name]
        if place.part == TEXT and not place.name.startswith("text_model."):
            names.append(f"text_model.{place.name}")  # as transformers called it before version 5
        elif place.part == TEXT:
            names.append(place.name.removeprefix("text_model."))
        for name in names:
            self._places[f"{place.part}.{name}"] = place
            for prefix in KOHYA[place.part]:
                self._places[prefix + name.replace(".", "_")] = place

    def find(self, name: str) -> TensorPlace | None:
        """The module that a file calls `name`; None when the base has none of that name."""
        name = name.removeprefix("base_model.model.").replace(".processor.", ".")
        parts = [name] if name.startswith((f"{UNET}.", f"{TEXT}.")) else [name, f"{UNET}.{name}", f"{TEXT}.{name}"]
        for full in parts:
            # Files of older diffusers end in to_out_lora, and in to_q_lora for a text encoder's q_proj.
            old = re.sub(r"self_attn\.to_(q|k|v|out)$", r"self_attn.\1_proj", full)
            for known in (full, f"{full}.0", old):
                if known in self._places:
                    return self._places[known]
        return None
