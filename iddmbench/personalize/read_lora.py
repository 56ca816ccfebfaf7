"""A LoRA that was trained elsewhere, in the files of diffusers, peft and Kohya's scripts."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iddmbench.errors import UserError, first_line
from iddmbench.models.base import BaseModel
from iddmbench.personalize.adapter import LoraLayer, merged
from iddmbench.personalize.imported import ImportedModel, check_finite, listed
from iddmbench.personalize.lora_names import TEXT, UNET, Places, TensorPlace, split_key
from iddmbench.personalize.tensor_file import PICKLED, read_tensor_file
from iddmbench.personalize.trainer import PersonalizedModel

PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFERRED = ("pytorch_lora_weights.safetensors", PEFT_FILE)
"""File names that diffusers and peft write, looked for first in a folder."""

OTHER_KINDS = {
    "DoRA": ("dora_scale", "lora_magnitude_vector"),
    "LoHa": ("hada_w1", "hada_w2", "hada_t1"),
    "LoKr": ("lokr_w1", "lokr_w2"),
    "OFT": ("oft_blocks", "oft_diag", "oft_r"),
    "LoCon in Tucker form": ("lora_mid",),
}
"""What is trained like a LoRA but is none, by a part of its tensors' names."""
SDXL_WIDTH = 2048
"""Width of the text that SDXL's cross-attention reads; Stable Diffusion 1 has 768, 2 has 1024."""


@dataclass
class _Pair:
    """What a file holds for one module: down [rank, in, ...], up [out, rank, ...], and their names in the file."""

    place: TensorPlace
    tensors: dict[str, Tensor] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    alpha: float | None = None


def read_adapter(path: Path | str, base: BaseModel) -> ImportedModel:
    """Read a LoRA for `base` from a file or a folder. Reads the base's weights, to compare shapes.

    Tensors are kept as they are, in float32; rank and alpha may differ by module. What a file has for the text encoder is added
    to the text encoder's weights. Where only some tensors find a module of the base, the others are named in `ignored` and in
    a warning.

    Raises UserError when nothing fits, a shape is another base's, a tensor is not finite, the file is pickled or damaged, or
    it is not a LoRA of Stable Diffusion 1 or 2 (SDXL, Flux, DoRA, LoHa ...).
    """
    path = Path(path)
    file = _file(path)
    tensors, metadata = read_tensor_file(file)
    _check_kind(file, tensors, metadata)
    check_finite(tensors, str(file))
    pairs, ignored = _pairs(tensors, Places(base))
    if not pairs:
        raise UserError(
            f"{file}: none of its {len(tensors)} tensors fits a module of base '{base.name}', so it has no effect: it is "
            f"for another base, or not a LoRA (it holds {listed(list(tensors))})"
        )
    layers = {}
    for pair in pairs:
        _check_shapes(pair, base, file)
    alphas = _Alphas.of(file, metadata)
    for pair in pairs:
        rank = len(pair.tensors["down"])
        layers[id(pair)] = LoraLayer(rank, pair.alpha if pair.alpha is not None else alphas.of_module(pair.place, rank))
    unet = [pair for pair in pairs if pair.place.part == UNET]
    text = [pair for pair in pairs if pair.place.part == TEXT]
    warnings = _warnings(file, pairs, ignored, base)
    model = _model(base, [(p, layers[id(p)]) for p in unet], [(p, layers[id(p)]) for p in text])
    return ImportedModel(
        model, str(path), _layout(file, tensors), 2 * len(pairs), tuple(ignored), _trigger(metadata), tuple(warnings)
    )


def _file(path: Path) -> Path:
    """The safetensors file of a folder, or the file itself."""
    if not path.is_dir():
        return path
    for name in PREFERRED:
        if (path / name).is_file():
            return path / name
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{path} holds {len(found)} .safetensors files: name one ({listed([f.name for f in found])})")
    if pickled := sorted(f for f in path.iterdir() if f.suffix.lower() in PICKLED):
        read_tensor_file(pickled[0])  # says why not
    if (path / UNET).is_dir():
        raise UserError(f"{path} holds a whole model (unet/), not a LoRA: read it as a DreamBooth folder")
    raise UserError(f"{path} holds no .safetensors file")


def _check_kind(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Raises UserError for what this reader would apply wrongly or not at all, by its name."""
    if _is_sdxl(tensors, metadata):
        raise UserError(
            f"{file} is a LoRA of Stable Diffusion XL, which is not supported: bases are SD 1, SD 2 and micro"
        )
    if any(key.startswith(("transformer.", "lora_transformer_", "diffusion_model.")) for key in tensors):
        raise UserError(
            f"{file} is a LoRA of a diffusion transformer (Flux, Stable Diffusion 3 ...), which is not supported: "
            "bases are SD 1, SD 2 and micro"
        )
    for kind, parts in OTHER_KINDS.items():
        if any(part in key for key in tensors for part in parts):
            raise UserError(f"{file} is a {kind}, which is not supported: train or convert it as a plain LoRA")


def _is_sdxl(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bool:
    stated = metadata.get("ss_base_model_version", "") + metadata.get("modelspec.architecture", "")
    if "sdxl" in stated or "stable-diffusion-xl" in stated:
        return True
    for key, tensor in tensors.items():
        if key.startswith(("lora_te2_", "text_encoder_2.")):
            return True
        found = split_key(key)
        cross = found and found[1] == "down" and re.search(r"attn2[._](?:processor[._])?to_[kv]$", found[0])
        if cross and tensor.ndim > 1 and tensor.shape[1] == SDXL_WIDTH:
            return True
    return False


def _pairs(tensors: Mapping[str, Tensor], places: Places) -> tuple[list[_Pair], list[str]]:
    """Complete pairs of down and up whose module the base has, and the names of all other tensors."""
    found: dict[tuple[str, str], _Pair] = {}
    ignored = []
    for key, tensor in tensors.items():
        split = split_key(key)
        place = places.find(split[0]) if split else None
        if split is None or place is None:
            if split is None or split[1] != "alpha":
                ignored.append(key)
            continue
        pair = found.setdefault((place.part, place.name), _Pair(place))
        if split[1] == "alpha":
            pair.alpha = float(tensor.reshape(-1)[0])
        else:
            pair.tensors[split[1]], pair.names[split[1]] = tensor.float(), key
    whole = [pair for pair in found.values() if len(pair.tensors) == 2]
    ignored += [name for pair in found.values() if len(pair.tensors) == 1 for name in pair.names.values()]
    return whole, ignored


def _check_shapes(pair: _Pair, base: BaseModel, file: Path) -> None:
    """Give both tensors the module's number of dimensions. Raises UserError when they are another base's, or of two ranks."""
    module, down, up = pair.place.module, pair.tensors["down"], pair.tensors["up"]
    name = f"{pair.place.part}.{pair.place.name}"
    wanted_down, wanted_up = tuple(module.weight.shape[1:]), tuple(module.weight.shape[:1])
    # Some files have a 1 x 1 convolution as a matrix, or the other way round.
    if isinstance(module, nn.Conv2d):
        down, up = (x[..., None, None] if x.ndim == 2 else x for x in (down, up))
        wanted_up = (*wanted_up, 1, 1)
    else:
        down, up = (x[..., 0, 0] if x.ndim == 4 and x.shape[2:] == (1, 1) else x for x in (down, up))
    if down.ndim != up.ndim or down.ndim != module.weight.ndim:
        raise UserError(
            f"{file}: {name} has tensors of shape {_shape(down)} and {_shape(up)}, which don't make a LoRA of it"
        )
    if tuple(down.shape[1:]) != wanted_down or (up.shape[0], *up.shape[2:]) != wanted_up:
        raise UserError(
            f"{file} is for another base: {name} maps {down.shape[1]} channels to {up.shape[0]} there, "
            f"{module.weight.shape[1]} to {module.weight.shape[0]} in base '{base.name}'"
        )
    if down.shape[0] != up.shape[1] or down.shape[0] == 0:
        raise UserError(
            f"{file} is damaged: the two tensors of {name} have ranks {down.shape[0]} and {up.shape[1]}, which must be equal"
        )
    pair.tensors = {"down": down.contiguous(), "up": up.contiguous()}


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "()"


@dataclass(frozen=True)
class _Alphas:
    """Alphas of a file that has none beside its tensors: of peft's config or diffusers' metadata; else alpha is the rank."""

    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, file: Path, metadata: Mapping[str, str]) -> "_Alphas":
        beside = file.with_name(PEFT_CONFIG)
        if beside.is_file() and file.name == PEFT_FILE:
            config = _json(beside.read_text(encoding="utf-8", errors="replace"), beside)
            return cls({UNET: config, TEXT: config})
        stored = _json(metadata.get("lora_adapter_metadata", "{}"), file)
        parts: dict[str, dict[str, Any]] = {UNET: {}, TEXT: {}}
        for key, value in stored.items():
            part, _, name = key.partition(".")
            parts.get(part, {})[name] = value
        return cls(parts)

    def of_module(self, place: TensorPlace, rank: int) -> float:
        """Alpha such that the update is scaled by alpha / rank."""
        config = self.configs.get(place.part) or {}
        alpha = config.get("lora_alpha")
        for pattern, value in (config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", place.name):  # as peft does
                alpha = value
        if not isinstance(alpha, int | float):
            return float(rank)
        # Rank-stabilized LoRA scales by alpha / sqrt(rank).
        return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1)


def _json(text: str, source: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"{source}: its settings can't be read: {first_line(error)}") from error
    return content if isinstance(content, dict) else {}


def _model(
    base: BaseModel, unet: list[tuple[_Pair, LoraLayer]], text: list[tuple[_Pair, LoraLayer]]
) -> PersonalizedModel:
    weights = {}
    for pair, _ in unet:
        weights[f"{pair.place.name}.lora_A.weight"] = pair.tensors["down"]
        weights[f"{pair.place.name}.lora_B.weight"] = pair.tensors["up"]
    layers = {pair.place.name: layer for pair, layer in unet}
    usual = _commonest(layers.values())
    settings = base.recipe.lora.model_copy(
        update={"rank": usual.rank, "alpha": usual.alpha, "targets": tuple(layers)} if usual else {}
    )
    replaced = {f"{TEXT}.{pair.place.name}.weight": _merged(pair, layer) for pair, layer in text}
    return PersonalizedModel(weights or None, settings, layers, replaced)


def _commonest(layers: Iterable[LoraLayer]) -> LoraLayer | None:
    found = Counter(layers).most_common(1)
    return found[0][0] if found else None


def _merged(pair: _Pair, layer: LoraLayer) -> Tensor:
    return merged(pair.place.module.weight, pair.tensors["down"], pair.tensors["up"], layer.alpha / layer.rank)


def _warnings(file: Path, pairs: list[_Pair], ignored: list[str], base: BaseModel) -> list[str]:
    warnings = []
    if ignored:
        text = [name for name in ignored if name.startswith(("lora_te", TEXT)) or ".text_model." in name]
        what = " (parts of the text encoder that this base does not have)" if len(text) == len(ignored) else ""
        warnings.append(
            f"{file}: {2 * len(pairs)} tensors applied, {len(ignored)} skipped because base '{base.name}' has no such module"
            f"{what}: {listed(ignored)}"
        )
    if not any(torch.count_nonzero(pair.tensors["up"]) for pair in pairs):
        warnings.append(f"{file} loads but does nothing: all its 'up' tensors are zero, as before training")
    return warnings


def _layout(file: Path, tensors: Mapping[str, Tensor]) -> str:
    if any(key.startswith("lora_") for key in tensors):
        return "Kohya"
    peft = file.name == PEFT_FILE or any(key.startswith("base_model.model.") for key in tensors)
    return "peft" if peft else "diffusers"


def _trigger(metadata: Mapping[str, str]) -> str:
    """The trigger phrase of the model specification, where the file says one."""
    return metadata.get("modelspec.trigger_phrase", "")
