"""A model whose UNet was fine-tuned as a whole (DreamBooth, arXiv 2208.12242), in diffusers' folder layout."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.personalize.adapter import own_parameters
from iddmbench.personalize.imported import ImportedModel, check_finite, listed
from iddmbench.personalize.lora_names import TEXT, UNET
from iddmbench.personalize.tensor_file import PICKLED, read_tensor_file
from iddmbench.personalize.trainer import PersonalizedModel

STEMS = {UNET: "diffusion_pytorch_model", TEXT: "model", "vae": "diffusion_pytorch_model"}
COUNTED = "position_ids"
"""0, 1, 2 ..., which older versions stored beside the weights."""


def read_dreambooth(folder: Path | str, base: BaseModel) -> ImportedModel:
    """Read FOLDER/unet and, where it is there, FOLDER/text_encoder, to stand in for the base's own.

    `applied` counts the tensors that were read. A VAE of its own is not used: images are decoded by the base's, and a warning
    says so when they differ.

    Raises UserError if the UNet is incomplete, its shapes or predictions are for another base, or a tensor is not finite.
    """
    folder = Path(folder)
    if not (folder / UNET).is_dir():
        raise UserError(f"{folder} is not a DreamBooth folder: it has no folder unet/")
    networks: dict[str, nn.Module] = {UNET: base.unet}
    if (folder / TEXT).is_dir():
        networks[TEXT] = base.text_encoder
    _check_prediction(folder, base)
    replaced, ignored, changed = {}, [], 0
    for part, network in networks.items():
        found = _read_part(folder, part)
        check_finite(found, str(folder / part))
        if part == TEXT:
            found = _renamed(found, network)
        own = own_parameters(network)
        _check_shapes(folder / part, found, own, base)
        ignored += [f"{part}.{name}" for name in found if name not in own and not name.endswith(COUNTED)]
        for name, parameter in own.items():
            weight = found[name].float()
            changed += not torch.equal(weight, parameter.detach().cpu())
            replaced[f"{part}.{name}"] = weight
    warnings = _warnings(folder, base, ignored)
    if not changed:
        warnings.append(f"{folder} loads but does nothing: its weights are those of base '{base.name}'")
    model = PersonalizedModel(None, base.recipe.lora, replaced=replaced)
    return ImportedModel(
        model, str(folder), "DreamBooth folder", len(replaced), tuple(ignored), warnings=tuple(warnings)
    )


def _read_part(folder: Path, part: str) -> dict[str, Tensor]:
    """All tensors of a part; of several variants the full-precision one. Raises UserError when there is none."""
    inside, stem = folder / part, STEMS[part]
    shards = sorted(inside.glob(f"{stem}-?????-of-?????.safetensors"))
    files = [inside / f"{stem}.safetensors", inside / f"{stem}.fp16.safetensors"]
    chosen = shards or [file for file in files if file.is_file()][:1]
    if not chosen:
        pickled = sorted(file for file in inside.iterdir() if file.suffix.lower() in PICKLED)
        if pickled:
            read_tensor_file(pickled[0])  # says why not
        raise UserError(f"{inside} holds no {stem}.safetensors")
    return {name: tensor for file in chosen for name, tensor in read_tensor_file(file)[0].items()}


def _renamed(found: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Before transformers 5 every name of a text encoder began with "text_model."."""
    if any(name.startswith("text_model.") for name in own_parameters(network)):
        return {name if name.startswith("text_model.") else f"text_model.{name}": x for name, x in found.items()}
    return {name.removeprefix("text_model."): x for name, x in found.items()}


def _check_shapes(where: Path, found: dict[str, Tensor], own: dict[str, nn.Parameter], base: BaseModel) -> None:
    if missing := [name for name in own if name not in found]:
        raise UserError(f"{where} is for another base than '{base.name}', or incomplete: it lacks {listed(missing)}")
    for name, parameter in own.items():
        if found[name].shape != parameter.shape:
            raise UserError(
                f"{where} is for another base: {name} has shape {tuple(found[name].shape)} there, "
                f"{tuple(parameter.shape)} in base '{base.name}'"
            )


def _check_prediction(folder: Path, base: BaseModel) -> None:
    """A UNet that predicts noise makes none but noise where velocity is expected."""
    try:
        stated = json.loads((folder / "scheduler" / "scheduler_config.json").read_text()).get("prediction_type")
    except (OSError, ValueError, AttributeError):
        return
    expected = base.scheduler.config.prediction_type
    if stated and stated != expected:
        raise UserError(f"{folder} is for another base: it predicts {stated}, base '{base.name}' {expected}")


def _warnings(folder: Path, base: BaseModel, ignored: list[str]) -> list[str]:
    warnings = []
    if ignored:
        warnings.append(
            f"{folder}: {len(ignored)} tensors not applied, which base '{base.name}' lacks: {listed(ignored)}"
        )
    if (folder / "vae").is_dir():
        found, own = _read_part(folder, "vae"), base.vae.state_dict()
        if any(name not in found or not torch.equal(found[name].float(), own[name].cpu()) for name in own):
            warnings.append(f"{folder} has its own VAE, which is not used: images are decoded with the base's")
    return warnings
